# SPDX-License-Identifier: Apache-2.0
"""The probed allocator functions. Attaching, the documents and the tests read this."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from kwatch.wire.maps import AllocSignature

_ALIGNED = "St11align_val_t"


class Kind(enum.IntEnum):
    """A block must be released by a function of the kind that allocated it."""

    C = 0
    NEW = 1
    NEW_ARRAY = 2
    ALIGNED_NEW = 3
    ALIGNED_NEW_ARRAY = 4


@dataclass(frozen=True, slots=True)
class AllocatorFunction:
    """One row. `throws`: an exception may leave it, so that it must not get a return probe.

    `operator`: a C++ operator, probed only where the allocator's own file defines it; elsewhere
    (libstdc++) it calls malloc and free, which are probed. See OPERATORS.
    """

    name: str
    signature: AllocSignature
    operator: bool = False
    throws: bool = False

    @property
    def returns(self) -> bool:
        """Whether the function has a result."""
        return self.signature not in _RELEASES

    @property
    def kind(self) -> Kind:
        if not self.operator:
            return Kind.C
        is_array, is_aligned = self.name[3] == "a", _ALIGNED in self.name
        return Kind(Kind.NEW + is_array + 2 * is_aligned)

    @property
    def turn(self) -> int:
        """When its entry is probed: first what only ends blocks, then what ends and begins them.

        A running program calls the functions meanwhile. If the beginning of a block is seen, its
        end must be seen too.
        """
        return 0 if not self.returns else 1 if self.signature in _RESIZES else 2


#: A file must define at least one name of each group.
Required = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class AllocatorFamily:
    """Functions that one allocator defines together. `stem`: what all names begin with.

    `required`: what makes a file one of these allocators if the names have no prefix or the user's.
    kwatch looks for other prefixes where names end like an `anchor`, and takes one if the file has
    what one of `found` requires: enough that no wrapper of another allocator is taken for one.
    """

    name: str
    stem: str
    functions: tuple[AllocatorFunction, ...]
    required: Required
    anchors: tuple[str, ...] = ()
    found: tuple[Required, ...] = ()


_RELEASES = (AllocSignature.FREE, AllocSignature.DELETE, AllocSignature.HEAP_FREE)
_RESIZES = tuple(each for each in AllocSignature if "REALLOC" in each.name or "RESIZE" in each.name)


def _operators() -> list[AllocatorFunction]:
    size_t, nothrow, align = "m", "RKSt9nothrow_t", _ALIGNED
    rows = []
    for new in ("_Znw", "_Zna"):
        for suffix in ("", nothrow, align, align + nothrow):
            signature = AllocSignature.MALLOC if nothrow in suffix else AllocSignature.NEW
            name, throws = f"{new}{size_t}{suffix}", nothrow not in suffix
            rows.append(AllocatorFunction(name, signature, operator=True, throws=throws))
    for delete in ("_ZdlPv", "_ZdaPv"):
        for suffix in ("", size_t, nothrow, align, align + nothrow, size_t + align):
            name = f"{delete}{suffix}"
            rows.append(AllocatorFunction(name, AllocSignature.DELETE, operator=True))
    return rows


def _rows(signature: AllocSignature, names: str, throws: bool = False) -> list[AllocatorFunction]:
    return [AllocatorFunction(name, signature, throws=throws) for name in names.split()]


_C_FUNCTIONS = (
    *_rows(AllocSignature.MALLOC, "malloc"),
    *_rows(AllocSignature.CALLOC, "calloc"),
    *_rows(AllocSignature.REALLOC, "realloc"),
    *_rows(AllocSignature.REALLOCARRAY, "reallocarray"),
    *_rows(AllocSignature.FREE, "free"),
    *_rows(AllocSignature.POSIX_MEMALIGN, "posix_memalign"),
    *_rows(AllocSignature.ALIGNED, "aligned_alloc memalign"),
    *_rows(AllocSignature.MALLOC, "valloc pvalloc"),
    *_rows(AllocSignature.FREE, "free_sized free_aligned_sized"),
)

_JEMALLOC_FUNCTIONS = (
    *_rows(AllocSignature.MALLOC, "mallocx"),
    *_rows(AllocSignature.REALLOC, "rallocx"),
    *_rows(AllocSignature.RESIZE, "xallocx"),
    *_rows(AllocSignature.FREE, "sdallocx dallocx"),
)

#: Functions of mimalloc that have a twin mi_heap_* (and mi_theap_*) with a heap before the rest,
#: and the twin's signature.
_MIMALLOC_TWINS = (
    (
        AllocSignature.MALLOC,
        AllocSignature.ALIGNED,
        "malloc zalloc malloc_small zalloc_small malloc_aligned malloc_aligned_at zalloc_aligned"
        " zalloc_aligned_at umalloc uzalloc",
    ),
    (
        AllocSignature.CALLOC,
        AllocSignature.HEAP_CALLOC,
        "calloc mallocn calloc_aligned calloc_aligned_at",
    ),
    (
        AllocSignature.REALLOC,
        AllocSignature.HEAP_REALLOC,
        "realloc rezalloc realloc_aligned realloc_aligned_at rezalloc_aligned rezalloc_aligned_at",
    ),
    (AllocSignature.REALLOCF, AllocSignature.HEAP_REALLOCF, "reallocf"),
    (
        AllocSignature.REALLOCARRAY,
        AllocSignature.HEAP_REALLOCARRAY,
        "reallocn recalloc recalloc_aligned recalloc_aligned_at",
    ),
)


def _mimalloc_functions() -> list[AllocatorFunction]:
    rows = [
        *_rows(AllocSignature.FREE, "mi_free mi_free_size mi_free_size_aligned mi_free_aligned"),
        *_rows(AllocSignature.FREE, "mi_free_small mi_cfree mi_ufree"),
        *_rows(AllocSignature.POSIX_MEMALIGN, "mi_posix_memalign"),
        *_rows(AllocSignature.ALIGNED, "mi_memalign mi_aligned_alloc"),
        *_rows(AllocSignature.MALLOC, "mi_valloc mi_pvalloc mi_umalloc_small mi_uzalloc_small"),
        *_rows(AllocSignature.MALLOC, "mi_umalloc_aligned mi_uzalloc_aligned"),
        *_rows(AllocSignature.MALLOC, "mi_new_nothrow mi_new_aligned_nothrow"),
        *_rows(AllocSignature.CALLOC, "mi_ucalloc"),
        *_rows(AllocSignature.REALLOC, "mi_expand mi_urealloc"),
        *_rows(AllocSignature.REALLOCARRAY, "mi_reallocarray"),
        *_rows(AllocSignature.NEW, "mi_new mi_new_aligned", throws=True),
        *_rows(AllocSignature.CALLOC, "mi_new_n", throws=True),
        *_rows(AllocSignature.REALLOC, "mi_new_realloc", throws=True),
        *_rows(AllocSignature.REALLOCARRAY, "mi_new_reallocn", throws=True),
        *_rows(AllocSignature.ALIGNED, "mi_heap_alloc_new", throws=True),
        *_rows(AllocSignature.HEAP_CALLOC, "mi_heap_alloc_new_n", throws=True),
    ]
    for own, twin, stems in _MIMALLOC_TWINS:
        for stem in stems.split():
            rows += _rows(own, f"mi_{stem}")
            rows += _rows(twin, f"mi_heap_{stem} mi_theap_{stem}")
    return rows


#: duckdb::Allocator calls these through pointers, so they are never inlined, unlike its jemalloc.
_DUCKDB_ALLOCATE = "_ZN6duckdb9Allocator15DefaultAllocateEPNS_20PrivateAllocatorDataEm"
_DUCKDB_FREE = "_ZN6duckdb9Allocator11DefaultFreeEPNS_20PrivateAllocatorDataEPhm"

#: What makes a file an allocator, in short: see `required` of the first family.
ESSENTIAL = ("malloc", "free")

FAMILIES = (
    AllocatorFamily(
        "C and C++",
        "",
        (*_C_FUNCTIONS, *_operators(), *_JEMALLOC_FUNCTIONS),
        required=(("malloc", "mallocx"), ("free", "sdallocx", "dallocx")),
        anchors=("posix_memalign", "memalign", "mallocx"),
        found=(
            (("mallocx",), ("sdallocx", "dallocx")),
            (
                *(("malloc",), ("calloc",), ("realloc",), ("free",)),
                ("posix_memalign", "memalign"),
            ),
        ),
    ),
    AllocatorFamily(
        "mimalloc",
        "mi_",
        tuple(_mimalloc_functions()),
        required=(("mi_malloc", "mi_malloc_aligned"), ("mi_free",)),
        anchors=("mi_malloc", "mi_malloc_aligned"),
        found=((("mi_malloc", "mi_malloc_aligned"), ("mi_free",)),),
    ),
    AllocatorFamily(
        "Firefox",
        "moz_arena_",
        (
            *_rows(AllocSignature.ALIGNED, "moz_arena_malloc"),
            *_rows(AllocSignature.HEAP_CALLOC, "moz_arena_calloc"),
            *_rows(AllocSignature.HEAP_REALLOC, "moz_arena_realloc"),
            *_rows(AllocSignature.HEAP_ALIGNED, "moz_arena_memalign"),
            *_rows(AllocSignature.HEAP_FREE, "moz_arena_free"),
        ),
        required=(("moz_arena_malloc",), ("moz_arena_free",)),
    ),
    AllocatorFamily(
        "DuckDB",
        "_ZN6duckdb9Allocator",
        (
            *_rows(AllocSignature.ALIGNED, _DUCKDB_ALLOCATE),
            *_rows(
                AllocSignature.METHOD_REALLOC,
                "_ZN6duckdb9Allocator17DefaultReallocateEPNS_20PrivateAllocatorDataEPhmm",
            ),
            *_rows(AllocSignature.HEAP_FREE, _DUCKDB_FREE),
        ),
        required=((_DUCKDB_ALLOCATE,), (_DUCKDB_FREE,)),
    ),
)

#: Of a C++ library, whose operators call malloc and free: probed only where frees are checked.
OPERATORS = AllocatorFamily(
    "C++ operators", "", tuple(_operators()), required=(("_Znwm",), ("_ZdlPv",))
)

#: Events carry the index as `function`. Otherwise the order matters only for reports.
ALLOCATOR_FUNCTIONS: tuple[AllocatorFunction, ...] = tuple(
    function for family in FAMILIES for function in family.functions
)

FUNCTION_INDEX = {function.name: index for index, function in enumerate(ALLOCATOR_FUNCTIONS)}

#: By signature: the function that is reported if only the signature is known.
FIRST_FUNCTIONS: dict[AllocSignature, int] = {
    row.signature: index for index, row in reversed(list(enumerate(ALLOCATOR_FUNCTIONS)))
}
