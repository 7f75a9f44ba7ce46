# SPDX-License-Identifier: Apache-2.0
"""The entry point of `kwatch` and of `python -m kwatch`."""

import signal
import sys

# While the rest is imported, Ctrl-C ends kwatch without a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from kwatch.cli import main

if __name__ == "__main__":
    sys.exit(main())
