# SPDX-License-Identifier: Apache-2.0
"""`python tools/growth`: makes this directory a package."""

import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
sys.path[0] = str(TOOLS)  # was this directory, whose modules are growth.NAME

if __name__ == "__main__":
    from growth.cli import main

    sys.exit(main())
