# SPDX-License-Identifier: Apache-2.0
"""Functions at the two ends of stacks that say nothing of the program: by name, mangled or not."""

from __future__ import annotations

_ALLOCATOR_PREFIXES = ("operator new", "_Znw", "_Zna")
_ALLOCATORS = frozenset(
    "malloc calloc realloc reallocarray posix_memalign aligned_alloc memalign valloc"
    " pvalloc".split()
)

#: What glibc and musl run before main() and before a thread's function.
_START_UP = frozenset(
    "_start _start_c __libc_start_main __libc_start_main_impl __libc_start_call_main"
    " libc_start_main_stage2 start_thread clone clone3 __clone __clone3".split()
)


def is_allocator(symbol: str) -> bool:
    """Where a stack may begin although the one who allocates is its caller."""
    return symbol in _ALLOCATORS or symbol.startswith(_ALLOCATOR_PREFIXES)


def is_start_up(symbol: str) -> bool:
    return symbol.partition("@")[0] in _START_UP
