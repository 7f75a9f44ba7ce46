# SPDX-License-Identifier: Apache-2.0
"""The calls of a program's first thread, captured by ptrace as the plan says."""

from __future__ import annotations

import ctypes
import os
import signal
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kwatch.syscalls import capture, names
from kwatch.syscalls.capture_format import NO_SELECTOR, RowFlag, Selector
from kwatch.wire.events import Abi
from strace_compare.memory import Memory
from strace_compare.memory import capture as capture_call

_TRACEME, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = 0, 24, 0x4200, 0x420E
_OPTIONS = 1 | 0x100000  # TRACESYSGOOD, EXITKILL
_ENTRY, _EXIT = 1, 2
_MAX_FDS = 1024
_STOPPED_BY_CALL = signal.SIGTRAP | 0x80
_ABIS = {0xC000003E: Abi.X86_64, 0x40000003: Abi.I386, 0xC00000B7: Abi.AARCH64, 0x40000028: Abi.ARM}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class TracedCall(NamedTuple):
    abi: Abi
    nr: int
    registers: tuple[int, ...]
    #: None for a call that did not return
    result: int | None
    pieces: tuple[bytes | None, ...]


def calls_of(command: Sequence[str], limits: capture.Limits) -> Iterator[TracedCall]:
    """Run a command and yield its first thread's calls, from its execve on."""
    pid = os.fork()
    if pid == 0:
        _become(command)
    os.waitpid(pid, 0)
    _ptrace(_SETOPTIONS, pid, 0, _OPTIONS)
    os.kill(pid, signal.SIGCONT)
    yield from _traced(pid, limits)


def _become(command: Sequence[str]) -> None:
    """Stop until the parent traces, then execute."""
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        os.closerange(3, _MAX_FDS)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
            signal.signal(number, signal.SIG_DFL)
        _ptrace(_TRACEME, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.execvp(command[0], list(command))
    finally:
        os._exit(127)


def _traced(pid: int, limits: capture.Limits) -> Iterator[TracedCall]:
    plans: dict[Abi, _Plan] = {}
    entered: _Entered | None = None
    signal_number, was_exec = 0, False
    while True:
        _ptrace(_SYSCALL, pid, 0, signal_number)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            if entered is not None and was_exec:
                yield entered.done(None)
            return
        signal_number = _passed_on(os.WSTOPSIG(status))
        if os.WSTOPSIG(status) != _STOPPED_BY_CALL:
            continue
        info = ctypes.create_string_buffer(88)
        _ptrace(_GET_SYSCALL_INFO, pid, len(info), ctypes.addressof(info))
        operation, arch = struct.unpack_from("<B3xI", info.raw)
        abi = _ABIS[arch]
        plan = plans.setdefault(abi, _Plan(abi, limits))
        if operation == _ENTRY:
            nr, *registers = struct.unpack_from("<7Q", info.raw, 24)
            nr, words = plan.inner(pid, nr, tuple(registers))
            entered = _Entered(pid, plan, nr, words)
            was_exec = was_exec or plan.name(nr) == "execve"
        elif operation == _EXIT and entered is not None:
            (result,) = struct.unpack_from("<q", info.raw, 24)
            call, entered = entered, None
            if was_exec:
                yield call.done(result)


class _Plan:
    def __init__(self, abi: Abi, limits: capture.Limits) -> None:
        self.abi = abi
        self._rows = capture.plan(abi, limits)
        self._variants = {
            (int(v["number"]), int(v["command"])): v["row"] for v in capture.variants(abi, limits)
        }

    def name(self, nr: int) -> str:
        return names.name(self.abi, nr)

    def inner(self, pid: int, nr: int, registers: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """The call inside socketcall and ipc, with its own registers."""
        if names.name(self.abi, nr) not in ("socketcall", "ipc"):
            return nr, registers
        number = names.inner_number(self.abi, nr, registers[0])
        row = self._rows[number]
        if self._rows[nr]["flags"] & RowFlag.INDIRECT:
            memory = Memory(pid, self.abi)
            data = memory.read(registers[1], int(row["words"]) * memory.word) or b""
            memory.close()
            found = struct.unpack(f"<{len(data) // memory.word}I", data)
            return number, (*found, *(0,) * (6 - len(found)))
        order = int(row["order"])
        return number, tuple(registers[order >> 4 * i & 15] for i in range(6))

    def row(self, nr: int, registers: Sequence[int]) -> object:
        row = self._rows[nr] if nr < len(self._rows) else self._rows[-1]
        selector = int(row["selector"])
        if selector == NO_SELECTOR:
            return row
        command = registers[selector & 15] & 0xFFFFFFFF
        if selector & Selector.SOCKET_LEVEL:
            command = command & 0xFFFF | registers[(selector & 15) - 1] << 16
        if selector & Selector.LOW_7_BITS:
            command &= 0x7F
        if selector & Selector.WITHOUT_IPC_64:
            command &= ~0x100
        return self._variants.get((nr, command & 0xFFFFFFFF), row)


class _Entered:
    """A call that has not returned."""

    def __init__(self, pid: int, plan: _Plan, nr: int, registers: tuple[int, ...]) -> None:
        self._plan, self._nr, self._registers, self._pid = plan, nr, registers, pid
        self._row = plan.row(nr, registers)
        self._pieces: list[bytes | None] = [None] * 13
        self._capture(None)

    def done(self, result: int | None) -> TracedCall:
        if result is not None:
            self._capture(result)
        return TracedCall(self._plan.abi, self._nr, self._registers, result, tuple(self._pieces))

    def _capture(self, result: int | None) -> None:
        memory = Memory(self._pid, self._plan.abi)
        try:
            capture_call(self._row, memory, self._registers, result, self._pieces)
        finally:
            memory.close()


def _passed_on(number: int) -> int:
    return 0 if number in (_STOPPED_BY_CALL, signal.SIGTRAP, signal.SIGSTOP) else number


def _ptrace(request: int, pid: int, address: int, data: int) -> None:
    if _libc.ptrace(request, pid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace request {request:#x}: {os.strerror(number)}")
