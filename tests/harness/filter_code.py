# SPDX-License-Identifier: Apache-2.0
"""The C functions of filters, as the system's compiler makes them."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path

from harness.filters import Recorded
from kwatch.syscalls.filter.kernel_code import kernel_code
from kwatch.syscalls.filter.split import Split

BPF = Path(__file__).parents[2] / "bpf"
_HEAD = """
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include "filter_call.h"
"""


class FilterCall(ctypes.Structure):
    """`struct filter_call` of bpf/filter_call.h."""

    _fields_ = (
        ("comm", ctypes.c_uint8 * 16),
        ("arguments", ctypes.c_int64 * 6),
        ("cgroup_id", ctypes.c_uint64),
        ("pid", ctypes.c_uint32),
        ("tid", ctypes.c_uint32),
        ("uid", ctypes.c_uint32),
        ("nr", ctypes.c_uint16),
        ("abi", ctypes.c_uint8),
        ("unused", ctypes.c_uint8),
        ("result", ctypes.c_int64),
        ("duration_ns", ctypes.c_int64),
    )


MEMBERS = [name for name, _ in FilterCall._fields_]


def in_kernel(recorded: Recorded) -> FilterCall:
    """The call as the BPF programs see it when it returns."""
    call = recorded.call
    return FilterCall(
        comm=(ctypes.c_uint8 * 16)(*call.comm),
        arguments=call.args,
        cgroup_id=call.cgroup_id,
        pid=call.pid,
        tid=call.tid,
        uid=call.uid,
        nr=recorded.nr,
        abi=recorded.abi,
        result=call.ret or 0,
        duration_ns=-1 if call.duration_ns is None else call.duration_ns,
    )


class CompiledFilters:
    """The functions of several filters, by index. Warnings of the compiler are errors."""

    def __init__(self, folder: Path, splits: Sequence[Split]) -> None:
        source, library = folder / "filters.c", folder / "filters.so"
        offsets = "".join(f"offsetof(struct filter_call, {name})," for name in MEMBERS)
        functions = "".join(self._renamed(index, split) for index, split in enumerate(splits))
        source.write_text(f"{_HEAD}size_t offsets[] = {{ {offsets} }};\n{functions}")
        flags = ["-Wall", "-Werror", "-shared", "-fPIC"]
        subprocess.run(["gcc", *flags, "-I", BPF, "-o", library, source], check=True)
        self._library = ctypes.CDLL(str(library))

    def offsets(self) -> list[int]:
        """Of the members of the structure, as the compiler sees them."""
        return list((ctypes.c_size_t * len(MEMBERS)).in_dll(self._library, "offsets"))

    def accepts(self, index: int, function: str, call: FilterCall) -> bool:
        return bool(self._library[f"{function}_{index}"](ctypes.byref(call)))

    @staticmethod
    def _renamed(index: int, split: Split) -> str:
        code = kernel_code(split).replace("static __always_inline bool", "int")
        lines = [line for line in code.splitlines() if not line.startswith("#define")]
        return "\n".join(lines).replace("(const", f"_{index}(const") + "\n"
