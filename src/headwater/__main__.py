"""The command `headwater`: runs the CLI and turns every error into one line and an exit code."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; exit 0 done, 1 a failure of the run, 2 wrong usage or bad input."""
    from headwater.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
