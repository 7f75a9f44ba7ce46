# SPDX-License-Identifier: Apache-2.0
"""Names and numbers of calls, as numbers.tsv, from libseccomp, headers and a short supplement.

Needs libseccomp2 and, on x86-64, linux-libc-dev. Two sources that disagree are an error.
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

HEADERS = Path("/usr/include/x86_64-linux-gnu/asm")
X32_BIT = 0x40000000
LIMIT = 1024

#: ABI: (its token in libseccomp's seccomp.h, its bit in the numbers, its header)
ABIS = {
    "x86_64": (0xC000003E, 0, "unistd_64.h"),
    "i386": (0x40000003, 0, "unistd_32.h"),
    "x32": (0x4000003E, X32_BIT, "unistd_x32.h"),
    "aarch64": (0xC00000B7, 0, None),
    "arm": (0x40000028, 0, None),
}

#: Calls for which strace uses another name than the kernel (strace, src/linux/arm/syscallent.h).
STRACE_NAMES = {"arm_fadvise64_64": "fadvise64_64", "arm_sync_file_range": "sync_file_range2"}

#: include/uapi/asm-generic/unistd.h as of Linux 7.2: the same number on every ABI.
NEWEST = {
    451: "cachestat",
    452: "fchmodat2",
    453: "map_shadow_stack",
    454: "futex_wake",
    455: "futex_wait",
    456: "futex_requeue",
    457: "statmount",
    458: "listmount",
    459: "lsm_get_self_attr",
    460: "lsm_set_self_attr",
    461: "lsm_list_modules",
    462: "mseal",
    463: "setxattrat",
    464: "getxattrat",
    465: "listxattrat",
    466: "removexattrat",
    467: "open_tree_attr",
    468: "file_getattr",
    469: "file_setattr",
    470: "listns",
    471: "rseq_slice_yield",
}

#: arch/x86/entry/syscalls/syscall_64.tbl as of Linux 6.18, where they are `common`.
X86_64_AND_X32 = {335: "uretprobe", 336: "uprobe"}

Table = dict[int, str]


def from_libseccomp(library: ctypes.CDLL, token: int, bit: int) -> Table:
    resolve = library.seccomp_syscall_resolve_num_arch
    resolve.argtypes = [ctypes.c_uint32, ctypes.c_int]
    resolve.restype = ctypes.c_char_p
    found = ((nr, resolve(token, nr | bit)) for nr in range(LIMIT))
    return {nr: STRACE_NAMES.get(name.decode(), name.decode()) for nr, name in found if name}


def from_header(header: Path) -> Table:
    if not header.exists():
        return {}
    define = re.compile(r"#define __NR_(\w+) \(?(?:__X32_SYSCALL_BIT \+ )?(\d+)\)?")
    return {int(nr): name for name, nr in define.findall(header.read_text())}


def supplement(abi: str) -> Table:
    return NEWEST | X86_64_AND_X32 if abi in ("x86_64", "x32") else NEWEST


def merge(abi: str, sources: list[Table]) -> Table:
    merged: Table = {}
    for source in sources:
        for nr, name in source.items():
            if merged.setdefault(nr, name) != name:
                raise SystemExit(f"{abi} {nr} is {merged[nr]} in one source, {name} in another")
    return merged


def tables() -> dict[str, Table]:
    library = ctypes.CDLL("libseccomp.so.2")
    result = {}
    for abi, (token, bit, header) in ABIS.items():
        sources = [from_libseccomp(library, token, bit), supplement(abi)]
        if header:
            sources.append(from_header(HEADERS / header))
        result[abi] = merge(abi, sources)
    return result


def rows() -> list[str]:
    """Lines of numbers.tsv: the name, and its number on each ABI or `-`."""
    numbers: dict[str, dict[str, int]] = {}
    for abi, table in tables().items():
        for nr, name in table.items():
            numbers.setdefault(name, {})[abi] = nr
    return [
        "\t".join([name, *(str(numbers[name].get(abi, "-")) for abi in ABIS)])
        for name in sorted(numbers)
    ]
