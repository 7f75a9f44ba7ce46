# SPDX-License-Identifier: Apache-2.0
"""Compare kwatch's lines with strace's for a program, and print those that differ.

    sudo .venv/bin/python tools/strace_compare -- ls -lR /etc

The program runs twice at the same addresses, once under strace and once under the reference of
the capture. Its first thread is compared, line by line in order; pids and times are normalised.
"""

import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
sys.path[0] = str(TOOLS)  # was this directory, whose modules are strace_compare.NAME
sys.path.insert(1, str(TOOLS.parent))

if __name__ == "__main__":
    from strace_compare.cli import main

    sys.exit(main())
