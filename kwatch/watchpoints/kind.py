# SPDX-License-Identifier: Apache-2.0
"""Decides whether a site is memory itself, or code that allocates it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from kwatch.elf.elf import Elf, ElfError
from kwatch.errors import UsageError
from kwatch.kernel.breakpoints import Access
from kwatch.watchpoints.fixed import not_found
from kwatch.watchpoints.place import find_place
from kwatch.watchpoints.site import Part, Site

#: Only demangled names of C++ functions have these, and no symbol table has such names.
_DEMANGLED = ("::", "(")


def is_allocating(site: Site, access: Access, pid: int, files: Iterable[str] = ()) -> bool:
    """Whether the blocks of a function or a line are meant.

    `pid`: the process; 0 if it is not launched yet, with the `files` that it will map. Raises
    KwatchError if a running process has no such name.
    """
    if site.line is not None:
        return True
    if access is Access.EXECUTE and site.part is not Part.LIVE:
        raise UsageError("--access x watches code, not blocks", f"drop --access, or {site.part}:")
    if site.address is not None or access is Access.EXECUTE:
        return False
    if pid:
        found = find_place(pid, site.name)
        if found is None and not _is_demangled(site.name):
            raise not_found(pid, site.name)
        if found is not None and not found.is_code and site.part is not Part.LIVE:
            raise UsageError(f"{site.text!r}: {site.name} is a variable", f"drop `{site.part}:`")
        return found is None or found.is_code
    if site.part is not Part.LIVE:
        return True
    return _is_function_of(files, site.name) or _is_demangled(site.name)


def _is_demangled(name: str) -> bool:
    return any(each in name for each in _DEMANGLED)


def _is_function_of(files: Iterable[str], name: str) -> bool:
    """The first file that has the name decides."""
    for path in filter(os.path.exists, files):
        try:
            with Elf.open(path) as elf:
                if elf.variable(name) is not None:
                    return False
                if name in elf.functions([name]):
                    return True
        except ElfError:
            continue
    return False
