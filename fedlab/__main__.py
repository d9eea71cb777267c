"""`python -m fedlab` is the command `fedlab`, and this is where both begin."""

from __future__ import annotations

from fedlab.interrupts import EXIT, came, interruptible


def main() -> int:
    """Run the command line of this process; the exit code."""
    try:
        with interruptible():
            from fedlab import cli  # here: NumPy takes a while, and somebody may press Ctrl-C

            return EXIT if came else cli.main()
    except (KeyboardInterrupt, ImportError, AttributeError, SystemError):
        # An import that was broken off fails in many ways, also one in somebody else's C code
        if came:
            return EXIT
        raise


if __name__ == "__main__":
    raise SystemExit(main())
