"""How long a call may still take, on a clock that cannot jump."""

from dataclasses import dataclass

from gateway.kernel.clock import Monotonic, monotonic


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment, on the monotonic clock, when a call must have ended."""

    ends_at_s: float
    clock: Monotonic = monotonic

    @classmethod
    def after(cls, seconds: float, clock: Monotonic = monotonic) -> "Deadline":
        """Return the deadline that lies this many seconds ahead."""
        return cls(clock() + seconds, clock)

    def remaining_s(self) -> float:
        """Return the seconds left; negative once it has passed."""
        return self.ends_at_s - self.clock()

    def passed(self) -> bool:
        """Tell whether the moment has come."""
        return self.clock() >= self.ends_at_s
