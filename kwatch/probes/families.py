# SPDX-License-Identifier: Apache-2.0
"""Which families of allocator functions a file defines, and under which prefix."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from kwatch.elf.elf import Elf, Function
from kwatch.wire.allocators import FAMILIES, OPERATORS, AllocatorFamily, AllocatorFunction, Required

#: Of mangled names and of the names by which a sanitizer has its own functions, nothing is learned.
_NO_PREFIX = re.compile(r"_Z|_R|.*interceptor|.*\W")

#: These are in the files of sanitizers (ASan, LSan, MSan, TSan, HWASan), whose malloc looks at its
#: caller: it would see the kernel's trampoline in the place of the return address.
_SANITIZERS = ("__asan_init", "__lsan_init", "__msan_init", "__tsan_init", "__hwasan_init")

#: A file with an own malloc and one of these may run something else on another stack within malloc.
#: The kernel takes the return probes of the first stack for abandoned then.
_STACK_SWITCHES = ("swapcontext", "jump_fcontext", "co_switch")
_LIBC = "__libc_start_main"


@dataclass(frozen=True, slots=True)
class FoundFamily:
    """The functions of a family that a file defines as PREFIX + name."""

    family: AllocatorFamily
    prefix: str
    functions: dict[str, Function]

    @property
    def label(self) -> str:
        """What the names of the functions begin with; empty for malloc, free and so on."""
        return self.prefix + self.family.stem

    @property
    def shown(self) -> str:
        """For messages."""
        return self.family.name if self.label.startswith("_Z") else f"{self.label}*"

    def rows(self) -> Iterator[tuple[AllocatorFunction, Function]]:
        for row in self.family.functions:
            function = self.functions.get(self.prefix + row.name)
            if function is not None:
                yield row, function


def find_families(
    elf: Elf, user_prefixes: Iterable[str], operators: bool = False
) -> list[FoundFamily]:
    """First those without a prefix, then those with the user's, then the others.

    `operators`: C++ operators alone are a family, too.
    """
    families = [_named(elf, family, "", family.required) for family in FAMILIES]
    for prefix in user_prefixes:
        families += [_with(elf, family, prefix) for family in FAMILIES if family.anchors]
    found = [each for each in families if each is not None]
    known = {(each.family.name, each.prefix) for each in found}
    for family in FAMILIES:
        for prefix in _other_prefixes(elf, family):
            if (family.name, prefix) not in known:
                found += filter(None, [_with_any(elf, family, prefix)])
    if operators and not any(each.family is FAMILIES[0] and not each.prefix for each in found):
        found += filter(None, [_named(elf, OPERATORS, "", OPERATORS.required)])
    return found


def needs_ret_sites(elf: Elf) -> bool:
    """Whether return probes would disturb the file's allocator."""
    if elf.mentions(_SANITIZERS) and elf.functions(_SANITIZERS):
        return True
    has_malloc, is_libc = elf.functions(["malloc"]), elf.needed and elf.functions([_LIBC])
    return bool(has_malloc and not is_libc and elf.mentions(_STACK_SWITCHES))


def _with(elf: Elf, family: AllocatorFamily, prefix: str) -> FoundFamily | None:
    """With the user's prefix, which includes the family's stem."""
    if not prefix.endswith(family.stem):
        return None
    return _named(elf, family, prefix.removesuffix(family.stem), family.required)


def _with_any(elf: Elf, family: AllocatorFamily, prefix: str) -> FoundFamily | None:
    for required in family.found:
        if found := _named(elf, family, prefix, required):
            return found
    return None


def _named(
    elf: Elf, family: AllocatorFamily, prefix: str, required: Required
) -> FoundFamily | None:
    """Looks for the other functions only if what is required is there: most files have nothing."""
    wanted = [[prefix + name for name in group] for group in required]
    if not all(elf.may_define(group) for group in wanted):
        return None
    found = elf.functions(name for group in wanted for name in group)
    if not all(any(name in found for name in group) for group in wanted):
        return None
    names = [prefix + row.name for row in family.functions if not (prefix and row.operator)]
    return FoundFamily(family, prefix, elf.functions(names))


def _other_prefixes(elf: Elf, family: AllocatorFamily) -> Collection[str]:
    prefixes = elf.prefixes(family.anchors) if family.anchors else set()
    return sorted(prefix for prefix in prefixes if prefix and not _NO_PREFIX.match(prefix))
