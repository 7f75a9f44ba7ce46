# SPDX-License-Identifier: Apache-2.0
"""Writes the data files of kwatch/syscalls."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kwatch.kernel import tracefs
from syscall_data import calls, numbers, requests, sets, structs

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "kwatch/syscalls/data"


def main() -> None:
    DATA.mkdir(exist_ok=True)
    wanted = sys.argv[1:] or ["numbers", "calls", "constants", "structs", "ioctls"]
    if "numbers" in wanted:
        _write("numbers", "name " + " ".join(numbers.ABIS), numbers.rows())
    if "calls" in wanted:
        root = tracefs.open_root()
        try:
            known = calls.formats(root)
        finally:
            os.close(root)
        by_hand = [HERE / "calls.txt", HERE / "ioctls.txt"]
        _write("calls", "call effect result arguments", calls.rows(calls.read(by_hand, known)))
    if "constants" in wanted:
        found = sets.rows(sets.read(HERE / "sets.txt"))
        _write("constants", "set abis kind unknown constants", found)
    if "structs" in wanted:
        found = structs.rows(structs.read(HERE / "structs.txt"))
        _write("structs", "struct abis size members", found)
    if "ioctls" in wanted:
        found, left_out = requests.rows()
        _write("ioctls", "number number_32 name", found)
        print(f"{len(left_out)} headers left out: {' '.join(left_out)}", file=sys.stderr)


def _write(name: str, columns: str, lines: list[str]) -> None:
    head = [
        "# SPDX-License-Identifier: Apache-2.0",
        "# Made by tools/syscall_data; do not edit.",
        "# " + "\t".join(columns.split()),
    ]
    (DATA / f"{name}.tsv").write_text("\n".join([*head, *lines]) + "\n")
    print(f"{name}.tsv: {len(lines)} lines", file=sys.stderr)
