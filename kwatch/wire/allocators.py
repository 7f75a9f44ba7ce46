# SPDX-License-Identifier: Apache-2.0
"""The probed allocator functions. Attaching, the documents and the tests read this."""

from __future__ import annotations

from dataclasses import dataclass

from kwatch.wire.maps import AllocSignature


@dataclass(frozen=True, slots=True)
class AllocatorFunction:
    """One row. `prefixable`: also looked for as PREFIX + name with --alloc-prefix.

    `operator`: a C++ operator, probed only where the allocator's own file defines it; elsewhere
    (libstdc++) it calls malloc and free, which are probed.
    """

    name: str
    signature: AllocSignature
    prefixable: bool = True
    operator: bool = False

    @property
    def returns(self) -> bool:
        """Whether the function has a result."""
        return self.signature not in (AllocSignature.FREE, AllocSignature.DELETE)

    @property
    def throws(self) -> bool:
        """Whether an exception may leave it: it must not get a return probe then."""
        return self.signature is AllocSignature.NEW


def _operators() -> list[AllocatorFunction]:
    size_t, nothrow, align = "m", "RKSt9nothrow_t", "St11align_val_t"
    rows = []
    for new in ("_Znw", "_Zna"):
        for suffix in ("", nothrow, align, align + nothrow):
            signature = AllocSignature.MALLOC if nothrow in suffix else AllocSignature.NEW
            rows.append(AllocatorFunction(f"{new}{size_t}{suffix}", signature, False, True))
    for delete in ("_ZdlPv", "_ZdaPv"):
        for suffix in ("", size_t, nothrow, align, align + nothrow, size_t + align):
            rows.append(AllocatorFunction(f"{delete}{suffix}", AllocSignature.DELETE, False, True))
    return rows


#: Events carry the index as `function`. Otherwise the order matters only for reports.
ALLOCATOR_FUNCTIONS: tuple[AllocatorFunction, ...] = (
    AllocatorFunction("malloc", AllocSignature.MALLOC),
    AllocatorFunction("calloc", AllocSignature.CALLOC),
    AllocatorFunction("realloc", AllocSignature.REALLOC),
    AllocatorFunction("reallocarray", AllocSignature.REALLOCARRAY),
    AllocatorFunction("free", AllocSignature.FREE),
    AllocatorFunction("posix_memalign", AllocSignature.POSIX_MEMALIGN),
    AllocatorFunction("aligned_alloc", AllocSignature.ALIGNED),
    AllocatorFunction("memalign", AllocSignature.ALIGNED),
    AllocatorFunction("valloc", AllocSignature.MALLOC),
    AllocatorFunction("pvalloc", AllocSignature.MALLOC),
    AllocatorFunction("free_sized", AllocSignature.FREE),
    AllocatorFunction("free_aligned_sized", AllocSignature.FREE),
    *_operators(),
)

#: By signature: the function that is reported if only the signature is known.
FIRST_FUNCTIONS: dict[AllocSignature, int] = {
    row.signature: index for index, row in reversed(list(enumerate(ALLOCATOR_FUNCTIONS)))
}

#: A file that lacks one of these is no allocator.
ESSENTIAL = ("malloc", "free")
