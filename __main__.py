"""`octobev` and `python -m octobev`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from .cli import run
    except KeyboardInterrupt:  # it takes a while on a slow disk
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
