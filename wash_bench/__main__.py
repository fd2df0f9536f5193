"""``python -m wash_bench`` and the command ``wash-bench``."""

import sys


def main() -> None:
    """Carry out the command line and end with its exit code."""
    from wash_bench.cli.main import end_with_launcher, run_command

    end_with_launcher()
    sys.exit(run_command(sys.argv[1:]))


if __name__ == "__main__":
    main()
