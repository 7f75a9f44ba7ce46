# SPDX-License-Identifier: Apache-2.0
"""The probed allocator functions. Attaching, `kwatch doctor`, the docs and the tests read this."""

from __future__ import annotations

from dataclasses import dataclass

from kwatch.wire.maps import Shape


@dataclass(frozen=True, slots=True)
class AllocatorFunction:
    """One row. `prefixable`: also looked for as PREFIX + name with --alloc-prefix.

    `operator`: a C++ operator, probed only where the allocator's own file defines it; elsewhere
    (libstdc++) it calls malloc and free, which are probed.
    """

    name: str
    shape: Shape
    prefixable: bool = True
    operator: bool = False

    @property
    def returns(self) -> bool:
        """Whether the function has a result."""
        return self.shape not in (Shape.FREE, Shape.DELETE)

    @property
    def throws(self) -> bool:
        """Whether an exception may leave it, so that its return must be left alone."""
        return self.shape is Shape.NEW


def _operators() -> list[AllocatorFunction]:
    size_t, nothrow, align = "m", "RKSt9nothrow_t", "St11align_val_t"
    rows = []
    for new in ("_Znw", "_Zna"):
        for suffix in ("", nothrow, align, align + nothrow):
            shape = Shape.MALLOC if nothrow in suffix else Shape.NEW
            rows.append(AllocatorFunction(f"{new}{size_t}{suffix}", shape, False, True))
    for delete in ("_ZdlPv", "_ZdaPv"):
        for suffix in ("", size_t, nothrow, align, align + nothrow, size_t + align):
            rows.append(AllocatorFunction(f"{delete}{suffix}", Shape.DELETE, False, True))
    return rows


#: Order matters to nothing but the reports; the index travels in events as `function`.
ALLOCATOR_FUNCTIONS: tuple[AllocatorFunction, ...] = (
    AllocatorFunction("malloc", Shape.MALLOC),
    AllocatorFunction("calloc", Shape.CALLOC),
    AllocatorFunction("realloc", Shape.REALLOC),
    AllocatorFunction("reallocarray", Shape.REALLOCARRAY),
    AllocatorFunction("free", Shape.FREE),
    AllocatorFunction("posix_memalign", Shape.POSIX_MEMALIGN),
    AllocatorFunction("aligned_alloc", Shape.ALIGNED),
    AllocatorFunction("memalign", Shape.ALIGNED),
    AllocatorFunction("valloc", Shape.MALLOC),
    AllocatorFunction("pvalloc", Shape.MALLOC),
    AllocatorFunction("free_sized", Shape.FREE),
    AllocatorFunction("free_aligned_sized", Shape.FREE),
    *_operators(),
)

#: By shape: what a function is taken for where nothing tells which of the shape it is.
FIRST_FUNCTIONS: dict[Shape, int] = {
    row.shape: index for index, row in reversed(list(enumerate(ALLOCATOR_FUNCTIONS)))
}

#: A file that lacks one of these is no allocator.
ESSENTIAL = ("malloc", "free")
