# SPDX-License-Identifier: Apache-2.0
"""Frames that say nothing of the program: allocators, start-up code, the standard library."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from kwatch.model.frame import Frame

# By name, mangled or not; Rust's global allocator by the names that its compiler gives.
_ALLOCATOR_PREFIXES = ("operator new", "_Znw", "_Zna", "__rust_", "__rdl_", "__rg_", "__rustc::")
_ALLOCATORS = frozenset(
    "malloc calloc realloc reallocarray posix_memalign aligned_alloc memalign valloc"
    " pvalloc".split()
)

#: The end of a name tells: zmalloc, _PyObject_Malloc, ngx_palloc_small, AllocateHeap, but not
#: deallocate.
_WRAPPERS = re.compile(
    r"[\w:]*(?<!de)(alloc|allocate|memalign|strn?dup|memdup)"
    r"(z|0|n|nn)?(_?(n|num|raw|small|large|array|heap))?",
    re.IGNORECASE,
)

_SYSTEM_LIBRARIES = tuple(
    f"{root}/{folder}/" for root in ("", "/usr") for folder in ("lib", "lib64", "lib32", "libx32")
)

#: What glibc and musl run before main(), before a library's constructors and a thread's function.
_START_UP = frozenset(
    "_start _start_c __libc_start_main __libc_start_main_impl __libc_start_call_main"
    " libc_start_main_stage2 start_thread clone clone3 __clone __clone3"
    " _dl_start_user _dl_start _dl_init call_init".split()
)

#: Of these nothing calls: a stack that ends there is whole, though they have no unwind information.
_OUTERMOST = frozenset("_start _dl_start_user".split())

#: What the C runtime keeps with a thread's stack, which it keeps for the next thread.
_KEPT_FOR_THREADS = frozenset("allocate_dtv _dl_allocate_tls".split())

#: glibc's tables of locales, messages and name services, kept as long as the process: what
#: __libc_freeres() frees for valgrind.
_KEPT_TABLES = re.compile(r"_nl_|__nss_|nss_database_|(setlocale|bindtextdomain|textdomain)$")

#: The C++ headers of gcc and clang, and the sources of Rust's library, as they are shipped.
_STANDARD_SOURCES = re.compile(
    r"/include/c\+\+/|^/rustc/|/rustc-[^/]*/library/|/lib/rustlib/src/|^/rust/deps/"
)
_STANDARD_MODULES = re.compile(r"lib(std)?c\+\+(abi)?\.so")


def is_allocator(symbol: str) -> bool:
    """Where a stack may begin although the one who allocates is its caller."""
    return symbol in _ALLOCATORS or symbol.startswith(_ALLOCATOR_PREFIXES)


def is_wrapper(frame: Frame) -> bool:
    """Whether a function's name says that it allocates for others: zmalloc, os::malloc(size_t)."""
    return bool(_WRAPPERS.fullmatch(frame.symbol.partition("(")[0]))


def is_start_up(symbol: str) -> bool:
    return symbol.partition("@")[0] in _START_UP


def is_outermost(symbol: str) -> bool:
    """Whether no frame can be missing behind this one."""
    return symbol in _OUTERMOST


def is_kept_for_threads(symbol: str) -> bool:
    return symbol in _KEPT_FOR_THREADS


def is_kept_table(symbol: str) -> bool:
    return bool(_KEPT_TABLES.match(symbol))


def is_application(frame: Frame, program: str = "") -> bool:
    """Whether it is no system library's. `program`: the executable, which may lie among these."""
    if not frame.module:
        return False
    return frame.module == program or not frame.module.startswith(_SYSTEM_LIBRARIES)


def is_standard(frame: Frame) -> bool:
    """Whether it is C++'s or Rust's library, which may be inlined into the program."""
    if frame.file:
        return bool(_STANDARD_SOURCES.search(frame.file))
    return bool(_STANDARD_MODULES.match(PurePath(frame.module).name))


def relevant_frames(frames: Sequence[Frame]) -> list[Frame]:
    """What of a stack says something of the program; never nothing if there are frames.

    Without the allocator, and without start-up code. Of frames of the standard library that follow
    one another only the outermost is left, which is what the program called.
    """
    start, end = 0, len(frames)
    while end > 1 and _is_around_main(frames[end - 1], frames[end - 2]):
        end -= 1
    while start < end - 1 and is_allocator(frames[start].symbol):
        start += 1
    shown = frames[start:end]
    return [
        frame
        for frame, caller in zip(shown, [*shown[1:], None], strict=True)
        if caller is None or not (is_standard(frame) and is_standard(caller))
    ]


def _is_around_main(frame: Frame, callee: Frame) -> bool:
    """The C main() of a Rust program does nothing but start its library."""
    starts_rust = frame.symbol == "main" and not frame.file and is_standard(callee)
    return starts_rust or is_start_up(frame.symbol) or is_standard(frame)
