# SPDX-License-Identifier: Apache-2.0
"""`python tools/docs`: makes this directory a package and the checkout's kwatch importable."""

import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
sys.path[0] = str(TOOLS)  # was this directory, whose modules are docs.NAME
sys.path.insert(1, str(TOOLS.parent))

if __name__ == "__main__":
    from docs.generate import main

    sys.exit(main())
