# SPDX-License-Identifier: Apache-2.0
"""Write kwatch/syscalls/data/*.tsv: all, or those that are named.

    pip install --target FOLDER ziglang==0.17.1
    PYTHONPATH=FOLDER .venv/bin/python tools/syscall_data [numbers calls constants structs ioctls]

`calls` needs root (tracefs) and a kernel with all the calls that the table should describe.
ziglang brings a compiler for every ABI with the kernel's headers (Linux 7.2 in 0.17.1).
"""

import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent
sys.path[0] = str(TOOLS)  # was this directory, whose modules are syscall_data.NAME
sys.path.insert(1, str(TOOLS.parent))

if __name__ == "__main__":
    from syscall_data.write import main

    main()
