# SPDX-License-Identifier: Apache-2.0
"""Which frames of a stack belong to the program, and which to allocators and libraries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import PurePath

from kwatch.model.frame import Frame
from kwatch.model.standard_names import is_rust_allocator, is_standard_name
from kwatch.wire.allocators import ALLOCATOR_FUNCTIONS

# Mangled and demangled names; `__r*` are the names that rustc gives the global allocator.
_ALLOCATOR_PREFIXES = ("operator new", "_Znw", "_Zna", "__rust_", "__rdl_", "__rg_", "__rustc::")
_ALLOCATORS = frozenset(
    function.name for function in ALLOCATOR_FUNCTIONS if function.returns and not function.operator
)

#: Names that end like zmalloc, _PyObject_Malloc, ngx_palloc_small, AllocateHeap; not deallocate.
_WRAPPERS = re.compile(
    r"[\w:]*(?<!de)(alloc|allocate|memalign|strn?dup|memdup|asprintf|strdup_v?printf)"
    r"(z|0|n|nn|2)?(_?(n|num|raw|small|large|huge|array|heap|zero|aligned|usable|block|extended"
    r"|internal|body))*|_?PyObject_(GC_)?New(Var)?|g_(slice_)?(new|copy)0?"
    r"|(AllocSet|Generation|Slab)ContextCreate(Internal)?",
    re.IGNORECASE,
)

#: What stands for a file where there is none: see `Mapping.is_generated`.
_ANONYMOUS = ("//anon", "[anon", "[heap", "[stack", "/memfd:", "/dev/zero")

_SYSTEM_LIBRARIES = tuple(
    f"{root}/{folder}/" for root in ("", "/usr") for folder in ("lib", "lib64", "lib32", "libx32")
)

#: glibc's and musl's functions around main(), a library's constructors and a thread's function.
_START_UP = frozenset(
    "_start _start_c __libc_start_main __libc_start_main_impl __libc_start_call_main"
    " libc_start_main_stage2 start_thread clone clone3 __clone __clone3"
    " _dl_start_user _dl_start _dl_init call_init".split()
)

#: Nothing calls these. They have no unwind information, but a stack that ends there is complete.
_OUTERMOST = frozenset("_start _dl_start_user".split())

#: The C++ headers of gcc and clang, inline functions of glibc's headers, and the sources of Rust's
#: library, where they are shipped.
_STANDARD_SOURCES = re.compile(
    r"/include/c\+\+/|/include/([\w-]+/)?bits/|^/rustc/|/rustc-[^/]*/library/|/lib/rustlib/src/|^/rust/deps/"
)
_STANDARD_MODULES = re.compile(r"lib(std)?c\+\+(abi)?\.so")


def is_allocator(symbol: str) -> bool:
    """Whether this function only serves an allocation: the caller is the one that allocates."""
    return symbol in _ALLOCATORS or symbol.startswith(_ALLOCATOR_PREFIXES)


def is_wrapper(frame: Frame) -> bool:
    """Whether a function's name says that it allocates for others: zmalloc, os::malloc(size_t)."""
    name = frame.symbol.partition("(")[0]
    return bool(_WRAPPERS.fullmatch(name)) or is_rust_allocator(frame.symbol)


def is_start_up(symbol: str) -> bool:
    return symbol.partition("@")[0] in _START_UP


def is_outermost(symbol: str) -> bool:
    """Whether this function has no caller."""
    return symbol in _OUTERMOST


def is_in_no_file(frame: Frame) -> bool:
    """Whether a frame's code is in no known file: a JIT compiler made it, or it was copied."""
    return not frame.module or frame.module.startswith(_ANONYMOUS)


def is_application(frame: Frame, program: str = "") -> bool:
    """Whether a frame belongs to no system library.

    `program` is the executable: it counts as the application even in a system folder.
    """
    if is_in_no_file(frame):
        return False
    return frame.module == program or not frame.module.startswith(_SYSTEM_LIBRARIES)


def is_standard(frame: Frame) -> bool:
    """Whether a frame belongs to a language's library, which may be inlined into the program."""
    if frame.file:
        return bool(_STANDARD_SOURCES.search(frame.file))
    if _STANDARD_MODULES.match(PurePath(frame.module).name):
        return True
    return is_standard_name(frame.symbol)


def relevant_frames(frames: Sequence[Frame]) -> list[Frame]:
    """The frames that tell something about the program; at least one, if there are any.

    The allocator and start-up code are left out. Where frames of the standard library follow one
    another, only the outermost stays: the function that the program called.
    """
    start, end = 0, len(frames)
    while end > 1 and _is_around_main(frames[end - 1], frames[end - 2]):
        end -= 1
    while start < end - 1 and is_allocator(frames[start].symbol):
        start += 1
    shown = frames[start:end]
    return [
        frame
        for frame, caller in zip_longest(shown, shown[1:])
        if caller is None or not (is_standard(frame) and is_standard(caller))
    ]


def _is_around_main(frame: Frame, callee: Frame) -> bool:
    """Whether a frame is start-up code. The C main() of a Rust program only starts its library."""
    starts_rust = frame.symbol == "main" and not frame.file and is_standard(callee)
    return starts_rust or is_start_up(frame.symbol) or is_standard(frame)
