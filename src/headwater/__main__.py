"""The command `headwater`: runs the CLI and turns every error into one line and an exit code."""

from __future__ import annotations

import os
import sys

# Threads that wait for work spin for a moment, then sleep. The default is to spin for long: on a
# machine that others use too, spinning threads take each other's cores, and small models train
# more than ten times slower. Sleeping at once costs a third of the speed on an idle machine.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")


def main() -> None:
    """Run the command line; exit 0 done, 1 a failure of the run, 2 wrong usage or bad input."""
    try:
        from headwater.cli import run
    except KeyboardInterrupt:  # before there is anybody to say so
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
