# SPDX-License-Identifier: Apache-2.0
"""Names for the return addresses of user stacks, from files that may be gone by then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kwatch.errors import KwatchError
from kwatch.snapshot import Frame
from kwatch.symbols.demangle import demangle
from kwatch.symbols.elf import Elf, ElfError
from kwatch.symbols.libdw import Module
from kwatch.symbols.libdw_api import load_libdw
from kwatch.symbols.lru import Lru
from kwatch.symbols.mappings import AddressSpace, Mapping, file_of

_MODULES = 256
_FRAMES = 65536

_Key = tuple[int, int, str]


@dataclass(slots=True)
class _File:
    """A mapped file, held open. libdw reads it when the first address in it is asked for.

    `elf` is None where the file is no ELF file that kwatch can read.
    """

    path: str
    elf: Elf | None
    module: Module | None = None
    loaded: bool = False

    def load(self) -> Module | None:
        if self.elf is not None and not self.loaded:
            self.loaded = True
            try:
                self.module = Module(self.elf.fileno(), self.path)
            except KwatchError:
                self.module = None  # frames without names are what is left
        return self.module

    def close(self) -> None:
        if self.module is not None:
            self.module.close()
        if self.elf is not None:
            self.elf.close()


class Symbolizer:
    """Names addresses, and remembers files and frames. One thread uses it.

    Raises KwatchError at once if libdw is missing; after that, what has no name has none.
    """

    def __init__(self, modules: int = _MODULES) -> None:
        load_libdw()
        self._files: Lru[_Key, _File] = Lru(modules, on_evict=_File.close)
        self._frames: Lru[tuple[_Key, int], Frame] = Lru(_FRAMES)

    def frames(self, pid: int, space: AddressSpace, addresses: Sequence[int]) -> tuple[Frame, ...]:
        """The frames of return addresses, innermost first, up to the first outside all code.

        A chain of frame pointers may end in garbage, hence the cut. A return address is looked up
        one byte before, in the call: the code after a call may belong to another line or function.
        Without a symbol, a frame's offset is the file's own virtual address, or 0 if unknown.
        """
        frames = []
        for address in addresses:
            mapping = space.find(address - 1)
            if mapping is None:
                break
            frames.append(self._frame(pid, mapping, address))
        return tuple(frames)

    def prefetch(self, pid: int, mapping: Mapping) -> None:
        """Opens the mapped file while the process lives: afterwards it may be out of reach."""
        self._file(pid, mapping)

    def close(self) -> None:
        for file in self._files.drain():
            file.close()

    def _frame(self, pid: int, mapping: Mapping, address: int) -> Frame:
        file_offset = address - 1 - mapping.start + mapping.offset
        key = (_key(mapping), file_offset)
        known = self._frames.get(key)
        if known is None:
            file = self._file(pid, mapping)
            if file is None:
                return Frame(address, module=mapping.path)
            known = _describe(file, file_offset)
            self._frames.put(key, known)
        return replace(known, address=address)

    def _file(self, pid: int, mapping: Mapping) -> _File | None:
        """None if the file cannot be found now; another process may still lead to it later."""
        key = _key(mapping)
        file = self._files.get(key)
        if file is None:
            file = _open(pid, mapping)
            if file is not None:
                self._files.put(key, file)
        return file


def _key(mapping: Mapping) -> _Key:
    return mapping.device, mapping.inode, mapping.path


def _open(pid: int, mapping: Mapping) -> _File | None:
    path = file_of(pid, mapping)
    try:
        return _File(mapping.path, Elf.open(path)) if path else None
    except ElfError as err:
        cannot_be_opened = isinstance(err.__cause__, OSError)
        return None if cannot_be_opened else _File(mapping.path, None)


def _describe(file: _File, file_offset: int) -> Frame:
    """The frame of a call whose last byte is at `file_offset`, its address left at 0."""
    vaddr = file.elf.vaddr_of(file_offset) if file.elf is not None else None
    if vaddr is None:
        return Frame(0, module=file.path)
    module = file.load()
    symbol = module.symbol(vaddr) if module else None
    source, line = (module and module.source(vaddr)) or ("", 0)
    if symbol is None:
        return Frame(0, "", vaddr + 1, file.path, source, line)
    name, offset = symbol
    return Frame(0, _readable(name), offset + 1, file.path, source, line)


def _readable(name: str) -> str:
    """Without the version (`memcpy@@GLIBC_2.14`), which no C or C++ name contains."""
    return demangle(name.partition("@")[0])
