# SPDX-License-Identifier: Apache-2.0
"""`python tools/vm`: makes this directory a package and the tests' harness importable."""

import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
sys.path[0] = str(TOOLS)  # was this directory, whose modules are vm.NAME
sys.path.insert(1, str(TOOLS.parent / "tests"))

if __name__ == "__main__":
    from vm.cli import main

    sys.exit(main())
