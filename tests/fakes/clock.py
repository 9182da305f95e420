"""A clock that stands still until a test moves it."""


class FakeClock:
    """Stands in for ``gateway.kernel.clock.monotonic``: call it to read it."""

    def __init__(self, now_s: float = 1_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Return the moment it stands at."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Move on; nobody waits."""
        if seconds < 0:
            raise ValueError("a monotonic clock never goes back")
        self.now_s += seconds
