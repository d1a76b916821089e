"""The program: ``laion400m``, or ``python -m laion400m``."""

import signal
import sys

from laion400m import _core


def main() -> int:
    # The program runs outside Python, whose own handler would wait for its end.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _core.run(["laion400m", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
