# SPDX-License-Identifier: Apache-2.0
"""The list of what is probed, docs/probes.md."""

from __future__ import annotations

import re

from docs.reference import MADE, table, wrapped
from kwatch.programs.sources import EVENT_SOURCES
from kwatch.wire.allocators import ALLOCATOR_FUNCTIONS, ESSENTIAL, AllocatorFunction
from kwatch.wire.maps import AllocSignature

_CALLS = {
    AllocSignature.MALLOC: "f(size)",
    AllocSignature.CALLOC: "f(n, size)",
    AllocSignature.REALLOC: "f(pointer, size)",
    AllocSignature.REALLOCARRAY: "f(pointer, n, size)",
    AllocSignature.ALIGNED: "f(alignment, size)",
    AllocSignature.POSIX_MEMALIGN: "f(&pointer, alignment, size)",
    AllocSignature.FREE: "f(pointer)",
    AllocSignature.DELETE: "f(pointer)",
    AllocSignature.NEW: "f(size)",
}

#: Mangled names of C++ operators: their stems, and what can follow.
_STEMS = {
    "_Znw": "operator new",
    "_Zna": "operator new[]",
    "_ZdlPv": "operator delete",
    "_ZdaPv": "operator delete[]",
}
_PARAMETERS = {
    "m": "size_t",
    "St11align_val_t": "align_val_t",
    "RKSt9nothrow_t": "nothrow_t const&",
}
_MANGLED = re.compile("|".join(_PARAMETERS))

_INTRODUCTION = (
    "kwatch attaches to these functions and tracepoints. Each function is optional: kwatch probes "
    "those that a file has, and the `attached` line gives the number of probed functions in "
    "each file. kwatch treats a file as an allocator if it defines "
    f"{' and '.join(f'`{name}`' for name in ESSENTIAL)}. This includes any libc, jemalloc, "
    "tcmalloc, mimalloc, and static programs with a symbol table."
)
_HEAP_NOTES = (
    "*entry* is a uprobe at the function's first instruction, or at an equivalent one soon after "
    "it that the kernel emulates: see [architecture](architecture.md#probe-sites). *return* is a "
    "uretprobe. *exits* are uprobes on the return instructions of the function, because an "
    "exception may leave it.",
    "C++ operators are probed only if the allocator's own file defines them, as in jemalloc and "
    "tcmalloc. The operators of libstdc++ call `malloc` and `free`, which are probed. An operator "
    "that only jumps to a probed function is not probed, and code with two names is probed once.",
    "`--alloc-prefix PREFIX` adds the functions marked *prefix* under the name PREFIX + name, in "
    f"every file that defines {' and '.join(f'PREFIX + {name}' for name in ESSENTIAL)}.",
)
_TRACEPOINT_NOTE = (
    "kwatch attaches to these once for the whole machine, as raw tracepoints or through perf "
    "events: see [kernels](kernels.md#what-differs). The programs first check whether the process "
    "is a target."
)


def page() -> str:
    lines = [MADE, "", "# Probes", "", *wrapped(_INTRODUCTION), "", "## Allocator functions", ""]
    headers = ("function", "C++ name", "call", "probed at", "prefix")
    lines += table(headers, map(_row, ALLOCATOR_FUNCTIONS))
    for note in _HEAP_NOTES:
        lines += [*wrapped(note), ""]
    lines += ["## Tracepoints", "", *wrapped(_TRACEPOINT_NOTE), ""]
    tracepoints = [each for source in EVENT_SOURCES for each in source.tracepoints.values()]
    rows = [(f"`{each.name.rpartition('/')[2]}`", each.meaning) for each in tracepoints]
    return "\n".join(lines + table(("tracepoint", "what it reports"), rows)).rstrip() + "\n"


def _row(function: AllocatorFunction) -> tuple[str, ...]:
    readable = f"`{_demangled(function.name)}`" if function.operator else ""
    prefix = "yes" if function.prefixable else ""
    return (
        f"`{function.name}`",
        readable,
        f"`{_CALLS[function.signature]}`",
        _places(function),
        prefix,
    )


def _places(function: AllocatorFunction) -> str:
    if not function.returns:
        return "entry"
    return "entry, exits" if function.throws else "entry, return"


def _demangled(name: str) -> str:
    stem = next(stem for stem in _STEMS if name.startswith(stem))
    parameters = [_PARAMETERS[one] for one in _MANGLED.findall(name.removeprefix(stem))]
    first = ["void*"] if "delete" in _STEMS[stem] else []
    return f"{_STEMS[stem]}({', '.join(first + parameters)})"
