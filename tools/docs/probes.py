# SPDX-License-Identifier: Apache-2.0
"""The list of what is probed, docs/probes.md."""

from __future__ import annotations

import re

from docs.reference import MADE, table, wrapped
from kwatch.programs.sources import EVENT_SOURCES
from kwatch.wire.allocators import FAMILIES, AllocatorFamily, AllocatorFunction, Required
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
    AllocSignature.REALLOCF: "f(pointer, size)",
    AllocSignature.RESIZE: "f(pointer, size), in place",
    AllocSignature.HEAP_CALLOC: "f(heap, n, size)",
    AllocSignature.HEAP_REALLOC: "f(heap, pointer, size)",
    AllocSignature.HEAP_REALLOCF: "f(heap, pointer, size)",
    AllocSignature.HEAP_REALLOCARRAY: "f(heap, pointer, n, size)",
    AllocSignature.HEAP_ALIGNED: "f(heap, alignment, size)",
    AllocSignature.HEAP_FREE: "f(heap, pointer)",
    AllocSignature.METHOD_REALLOC: "f(heap, pointer, old size, size)",
}
#: Members of ALIGNED take an alignment or a heap first.
_HEAP_FIRST = ("heap", "arena", "duckdb")

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
    "each file. A file may have functions of several families.",
    "A file has a family if it defines the functions that the family needs. Where the table says "
    "so, the names may have any prefix, such as `_rjem_mallocx` (Rust), `je_malloc` or "
    "`arrow_mi_free`. kwatch finds such prefixes in the symbol tables, and shows them in "
    "parentheses after the file. It asks for more functions then, so that wrappers of another "
    "allocator, such as `xmalloc` and `xfree`, are not taken for one. `--alloc-prefix PREFIX` adds "
    "a prefix for which the functions of the second column are enough.",
    "If no function of a file was called until the process or kwatch ended, a line says `0 calls "
    "so far`: the allocator is not in use, or the compiler has inlined its functions.",
)
_HEAP_NOTES = (
    "*entry* is a uprobe at the function's first instruction, or at an equivalent one soon after "
    "it that the kernel emulates: see [architecture](architecture.md#probe-sites). *return* is a "
    "uretprobe, or with `--returns ret` uprobes on the return instructions. *exits* are always "
    "uprobes on the return instructions, because an exception may leave the function: see "
    "[architecture](architecture.md#returns).",
    "C++ operators are probed only if the allocator's own file defines them, as in jemalloc and "
    "tcmalloc. The operators of libstdc++ call `malloc` and `free`, which are probed. An operator, "
    "or a function with a prefix, that only jumps to a probed function is not probed, and code "
    "with two names is probed once.",
)
_TRACEPOINT_NOTE = (
    "kwatch attaches to these once for the whole machine, as raw tracepoints or through perf "
    "events: see [kernels](kernels.md#what-differs). The programs first check whether the process "
    "is a target."
)


def page() -> str:
    lines = [MADE, "", "# Probes", ""]
    for note in _INTRODUCTION:
        lines += [*wrapped(note), ""]
    lines += ["## Allocator families", ""]
    lines += table(("family", "needs", "found with any prefix if it has"), map(_needs, FAMILIES))
    lines = "\n".join(lines).rstrip().splitlines()
    for family in FAMILIES:
        lines += ["", f"## Functions of {family.name}", ""]
        lines += table(("function", "C++ name", "call", "probed at"), map(_row, family.functions))
    lines.append("")
    for note in _HEAP_NOTES:
        lines += [*wrapped(note), ""]
    lines += ["## Tracepoints", "", *wrapped(_TRACEPOINT_NOTE), ""]
    tracepoints = [each for source in EVENT_SOURCES for each in source.tracepoints.values()]
    rows = [(f"`{each.name.rpartition('/')[2]}`", each.meaning) for each in tracepoints]
    return "\n".join(lines + table(("tracepoint", "what it reports"), rows)).rstrip() + "\n"


def _needs(family: AllocatorFamily) -> tuple[str, ...]:
    found = "; or ".join(map(_groups, family.found))
    return family.name, _groups(family.required), found or "no prefix"


def _groups(required: Required) -> str:
    return " and ".join(map(_one_of, required))


def _one_of(group: tuple[str, ...]) -> str:
    names = ", ".join(f"`{name}`" for name in group)
    return f"one of {names}" if len(group) > 1 else names


def _row(function: AllocatorFunction) -> tuple[str, ...]:
    readable = f"`{_demangled(function.name)}`" if function.operator else ""
    call = _CALLS[function.signature]
    if function.signature is AllocSignature.ALIGNED and any(
        each in function.name for each in _HEAP_FIRST
    ):
        call = "f(heap, size)"
    return f"`{function.name}`", readable, f"`{call}`", _places(function)


def _places(function: AllocatorFunction) -> str:
    if not function.returns:
        return "entry"
    return "entry, exits" if function.throws else "entry, return"


def _demangled(name: str) -> str:
    stem = next(stem for stem in _STEMS if name.startswith(stem))
    parameters = [_PARAMETERS[one] for one in _MANGLED.findall(name.removeprefix(stem))]
    first = ["void*"] if "delete" in _STEMS[stem] else []
    return f"{_STEMS[stem]}({', '.join(first + parameters)})"
