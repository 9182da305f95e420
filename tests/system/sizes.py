"""How large each system test is: quick with every ``make test``, full before a release."""

from gateway.kernel.settings import read_environ

SIZES: dict[str, tuple[int, int]] = {
    "T02 mutated bodies": (7_000, 50_000),
    "T04 limit bytes": (600_000, 20_971_520),
    "T05 nesting": (100_000, 1_000_000),
    "T05 objects": (1_000_000, 3_000_000),
    "T06 slow headers": (50, 1_000),
    "T06 slow bodies": (50, 1_000),
    "T06 slow readers": (10, 200),
    "T06 seconds": (10, 60),
    "T06 quiet rounds": (25, 250),
    "T07 worker connections": (100, 2_000),
    "T46 bomb megabytes": (64, 512),
    "T46 header megabytes": (10, 100),
    "starvation seconds": (3, 10),
    "starvation requests": (5_000, 20_000),
    "T57 kills": (3, 200),
    "T59 streams": (200, 200),
    "T62 clients a phase": (5, 50),
    "T64 requests": (500, 5_000),
    "slow streams at once": (200, 1_000),
    "first starts that race": (6, 20),
}
"""Name: quick, full."""
FULL = read_environ().get("GATEWAY_TEST_SIZE") == "full"


def size_of(name: str) -> int:
    """Return the size that was chosen by ``GATEWAY_TEST_SIZE``."""
    return SIZES[name][FULL]
