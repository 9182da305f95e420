"""Entry of ``python -m loadtests.bench``."""

from loadtests.bench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
