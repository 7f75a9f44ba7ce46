# SPDX-License-Identifier: Apache-2.0
"""Reads symbols, source lines and inlined functions of an ELF file, by libdw of elfutils."""

from __future__ import annotations

import os
from ctypes import byref, c_bool, c_int, c_uint64, c_void_p
from dataclasses import dataclass

from kwatch.errors import KwatchError
from kwatch.symbols.demangle.demangle import demangle
from kwatch.symbols.dwarf.debug_files import DebugFiles
from kwatch.symbols.dwarf.debuginfod import Debuginfod
from kwatch.symbols.dwarf.inlines import Inlines
from kwatch.symbols.dwarf.libc import free
from kwatch.symbols.dwarf.libdw_api import Symbol, last_error, load_libdw, offline_callbacks
from kwatch.symbols.dwarf.units import CompilationUnit, Units


@dataclass(frozen=True, slots=True)
class Place:
    """A function and a line in it. `name` is demangled, and empty if unknown."""

    name: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Location:
    """The functions at an address: inlined ones, innermost first, then the one around them.

    `offset` is that of the address in the last function, None if unknown. `signal`: the code
    returns from a signal handler, so the next frame was interrupted and made no call.
    """

    places: tuple[Place, ...]
    offset: int | None
    signal: bool = False


class Module:
    """One ELF file. Addresses are virtual addresses of the file. Not thread-safe."""

    def __init__(
        self, fd: int, path: str, root: str = "", server: Debuginfod | None = None
    ) -> None:
        """The caller keeps `fd`. Debug links are relative to `path`, also below `root` if given.

        Raises KwatchError if libdw is missing or cannot read the file.
        """
        self._dw = load_libdw()
        self._units: Units | None = None
        self._inlines = Inlines()
        self._files = DebugFiles(root, server)
        self._callbacks = offline_callbacks(self._files.callback)
        self._dwfl = self._dw.dwfl_begin(byref(self._callbacks))
        if not self._dwfl:
            raise KwatchError(f"{path}: {last_error()}")
        try:
            self._module = self._report(fd, path)
            self._bias = self._find_bias(path)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: str) -> Module:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as err:
            raise KwatchError(f"{path}: {err.strerror}") from err
        try:
            return cls(fd, path)
        finally:
            os.close(fd)

    def __enter__(self) -> Module:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """No other method may be called afterwards."""
        if self._dwfl:
            self._dw.dwfl_end(self._dwfl)
        self._dwfl = None

    @property
    def pending(self) -> bool:
        """Whether a server may still deliver debug information."""
        return self._files.pending

    def is_outdated(self) -> bool:
        """Whether a server has delivered: open the file again."""
        return self._files.has_arrived()

    def locate(self, vaddr: int) -> Location:
        symbol, unit = self.symbol(vaddr), self._unit(vaddr)
        file, line = self.source(vaddr) or ("", 0)
        scopes = self._inlines.at(unit.die, vaddr + self._bias - unit.bias) if unit else []
        places = []
        for scope in scopes:
            if scope.inlined:
                places.append(Place(_readable(scope.name), file, line))
                file, line = _full_path(scope.directory, scope.call_file), scope.call_line
        whole = scopes[-1] if scopes and not scopes[-1].inlined else None
        if symbol is None and unit is not None and whole is not None and whole.name:
            offset = vaddr + self._bias - unit.bias - whole.start if whole.start else None
            places.append(Place(_readable(whole.name), file, line))
        else:
            name, offset = (os.fsencode(symbol[0]), symbol[1]) if symbol else (b"", None)
            places.append(Place(_readable(name), file, line))
        return Location(tuple(places), offset, self._is_signal_return(vaddr))

    def symbol(self, vaddr: int) -> tuple[str, int] | None:
        """(mangled name, offset) of the symbol that contains the address, never of a near one."""
        offset, symbol = c_uint64(), Symbol()
        name = self._dw.dwfl_module_addrinfo(
            self._module, vaddr + self._bias, byref(offset), byref(symbol), None, None, None
        )
        if not name or not self._holds(symbol, offset.value, vaddr):
            return None
        return os.fsdecode(name), offset.value

    def source(self, vaddr: int) -> tuple[str, int] | None:
        """(file, line) if there is debug information."""
        found = self._line(vaddr + self._bias) or self._all_units().source(vaddr + self._bias)
        if found is None or not found[2]:
            return None
        directory, name, line = found
        return _full_path(directory, name), line

    def _unit(self, vaddr: int) -> CompilationUnit | None:
        bias = c_uint64()
        die = self._dw.dwfl_module_addrdie(self._module, vaddr + self._bias, byref(bias))
        return (
            CompilationUnit(die, bias.value) if die else self._all_units().find(vaddr + self._bias)
        )

    def _all_units(self) -> Units:
        if self._units is None:
            self._units = Units(self._module)
        return self._units

    def _report(self, fd: int, path: str) -> int:
        name = os.fsencode(path)
        owned = os.dup(fd)  # if libdw accepts it, libdw closes it
        module: int | None = self._dw.dwfl_report_elf(self._dwfl, name, name, owned, 0, True)
        if not module:
            os.close(owned)
            raise KwatchError(f"{path}: {last_error()}")
        self._dw.dwfl_report_end(self._dwfl, None, None)
        return module

    def _find_bias(self, path: str) -> int:
        bias = c_uint64()
        if not self._dw.dwfl_module_getelf(self._module, byref(bias)):
            raise KwatchError(f"{path}: {last_error()}")
        return bias.value

    def _holds(self, symbol: Symbol, offset: int, vaddr: int) -> bool:
        """Whether code belongs to a symbol. For a label in assembly, which has no size, `.eh_frame`
        tells."""
        if symbol.size:
            return bool(offset < symbol.size)
        unwound = self._unwind(vaddr)
        return unwound is None or unwound[0] <= vaddr - offset

    def _is_signal_return(self, vaddr: int) -> bool:
        unwound = self._unwind(vaddr)
        return unwound is not None and unwound[1]

    def _unwind(self, vaddr: int) -> tuple[int, bool] | None:
        """(start of the function, whether it returns from a signal) at the address, by
        `.eh_frame`.
        """
        bias, start, end = c_uint64(), c_uint64(), c_uint64()
        signal, frame = c_bool(), c_void_p()
        cfi = self._dw.dwfl_module_eh_cfi(self._module, byref(bias))
        address = vaddr + self._bias - bias.value
        if not cfi or self._dw.dwarf_cfi_addrframe(cfi, address, byref(frame)):
            return None
        self._dw.dwarf_frame_info(frame, byref(start), byref(end), byref(signal))
        free(frame)
        return start.value + bias.value - self._bias, signal.value

    def _line(self, address: int) -> tuple[bytes, bytes, int] | None:
        line = self._dw.dwfl_module_getsrc(self._module, address)
        number = c_int()
        name = line and self._dw.dwfl_lineinfo(line, None, byref(number), None, None, None)
        if not name:
            return None
        return self._dw.dwfl_line_comp_dir(line) or b"", name, number.value


def _full_path(directory: bytes, name: bytes) -> str:
    return os.fsdecode(os.path.normpath(os.path.join(directory, name))) if name else ""


def _readable(name: bytes) -> str:
    """Demangles a name, without the version (`memcpy@@GLIBC_2.14`): `@` is in no other name."""
    return demangle(os.fsdecode(name.partition(b"@")[0]))
