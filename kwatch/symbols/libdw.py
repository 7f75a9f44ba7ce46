# SPDX-License-Identifier: Apache-2.0
"""Symbols and source lines of one ELF file by elfutils' libdw, which finds separate debug files.

libdw asks a debuginfod server only if the user set DEBUGINFOD_URLS.
"""

from __future__ import annotations

import os
from ctypes import byref, c_bool, c_int, c_uint64, c_void_p

from kwatch.errors import KwatchError
from kwatch.symbols.dwarf_units import Units
from kwatch.symbols.libc import free
from kwatch.symbols.libdw_api import Symbol, last_error, load_libdw, offline_callbacks


class Module:
    """One ELF file. Addresses are the file's own virtual addresses. Not for several threads."""

    def __init__(self, fd: int, path: str) -> None:
        """`fd` stays the caller's. `path` names the file and is where debug links start.

        Raises KwatchError if libdw is missing or cannot read the file.
        """
        self._dw = load_libdw()
        self._units: Units | None = None
        self._dwfl = self._dw.dwfl_begin(byref(offline_callbacks()))
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

    def symbol(self, vaddr: int) -> tuple[str, int] | None:
        """(mangled name, offset in it) of the symbol that holds the address, never of one near."""
        offset, symbol = c_uint64(), Symbol()
        name = self._dw.dwfl_module_addrinfo(
            self._module, vaddr + self._bias, byref(offset), byref(symbol), None, None, None
        )
        if not name or not self._holds(symbol, offset.value, vaddr):
            return None
        return os.fsdecode(name), offset.value

    def source(self, vaddr: int) -> tuple[str, int] | None:
        """(file, line) if there is debug information."""
        found = self._line(vaddr + self._bias) or self._line_of_unit(vaddr + self._bias)
        if found is None or not found[2]:
            return None
        directory, name, line = found
        return os.fsdecode(os.path.normpath(os.path.join(directory, name))), line

    def _report(self, fd: int, path: str) -> int:
        name = os.fsencode(path)
        owned = os.dup(fd)  # libdw closes it, if it takes it
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
        """A label of assembly has no size; then the unwind table tells whose code this is."""
        if symbol.size:
            return bool(offset < symbol.size)
        start = self._unwind_start(vaddr)
        return start is None or start <= vaddr - offset

    def _unwind_start(self, vaddr: int) -> int | None:
        """Where the function that holds the address begins, by `.eh_frame`."""
        bias, start, end = c_uint64(), c_uint64(), c_uint64()
        signal, frame = c_bool(), c_void_p()
        cfi = self._dw.dwfl_module_eh_cfi(self._module, byref(bias))
        address = vaddr + self._bias - bias.value
        if not cfi or self._dw.dwarf_cfi_addrframe(cfi, address, byref(frame)):
            return None
        self._dw.dwarf_frame_info(frame, byref(start), byref(end), byref(signal))
        free(frame)
        return start.value + bias.value - self._bias

    def _line(self, address: int) -> tuple[bytes, bytes, int] | None:
        line = self._dw.dwfl_module_getsrc(self._module, address)
        number = c_int()
        name = line and self._dw.dwfl_lineinfo(line, None, byref(number), None, None, None)
        if not name:
            return None
        return self._dw.dwfl_line_comp_dir(line) or b"", name, number.value

    def _line_of_unit(self, address: int) -> tuple[bytes, bytes, int] | None:
        if self._units is None:
            self._units = Units(self._module)
        return self._units.source(address)
