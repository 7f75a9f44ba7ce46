# SPDX-License-Identifier: Apache-2.0
"""Reads members of the kernel's structures of all threads of a process, by a BPF iterator.

The program is assembled here from the list of members, because its offsets are known only on the
running kernel.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from kwatch.kernel import bpf
from kwatch.kernel.btf import runtime_types
from kwatch.kernel.registers import registers
from kwatch.kernel.syscall import machine

#: An instruction: code, destination, source, jump, value.
_Instruction = tuple[int, int, int, int, int]

_R0, _R1, _R2, _R3, _R6, _R7, _R8, _R10 = 0, 1, 2, 3, 6, 7, 8, 10
_LOAD_U32, _LOAD_U64, _COPY, _SET, _ADD = 0x61, 0x79, 0xBF, 0xB7, 0x07
_IF_EQUAL, _IF_NOT_EQUAL, _CALL, _EXIT = 0x15, 0x55, 0x85, 0x95
_PROBE_READ_KERNEL, _SEQ_WRITE, _TASK_PT_REGS = 113, 127, 175

_TO_END = -1  # a jump to the end of the program
_WORD = 8

#: Sizes of kernel stacks: 16 KiB, and what KASAN or large pages make of it.
_STACK_SIZES = (1 << 14, 1 << 15, 1 << 16, 1 << 17)
_READ = {"x86_64": 0, "aarch64": 63}


class Member(NamedTuple):
    """Bytes of a task_struct, or of the struct pt_regs with which the thread entered the kernel."""

    offset: int
    size: int
    of_registers: bool = False


def read_tasks(name: str, pid: int, members: Sequence[Member]) -> bytes:
    """One record for each thread of the process: the members, one after the other.

    A member that cannot be read is zero. `name` is that of the program. Raises OSError, or
    KwatchError where the kernel has no BTF.
    """
    find = _registers() if any(member.of_registers for member in members) else ()
    return _run(name, pid, members, find)


def thread_count(pid: int) -> int:
    """0 if the process has ended. To list the threads takes 7 us for each."""
    try:
        return os.stat(f"/proc/{pid}/task").st_nlink - 2
    except (FileNotFoundError, ProcessLookupError):
        return 0


def member_offsets(*members: str) -> dict[str, int]:
    """The offsets of members of task_struct, of those that this kernel has.

    Raises KwatchError where the kernel has no BTF.
    """
    known = runtime_types().members
    found = {name: known[name] for name in members}
    return {name: offset for name, offset in found.items() if offset is not None}


def _run(name: str, pid: int, members: Sequence[Member], find: Iterable[_Instruction]) -> bytes:
    code = _assembled(_instructions(pid, members, find))
    kind, attach_type, attach_point = bpf.PROG_TYPE_TRACING, bpf.TRACE_ITER, _kernel().attach_point
    program = bpf.load_program(name, code, kind, attach_type, attach_btf_id=attach_point)
    try:
        records = _of_process(program, pid)
        if len(records) < thread_count(pid) * sum(member.size for member in members):
            records = bpf.read_tasks(program)
        return records
    finally:
        os.close(program)


def _of_process(program: int, pid: int) -> bytes:
    """Some threads are missing if one ends meanwhile (task_group_seq_get_next in Linux 6.1).

    All are if the kernel cannot select a process.
    """
    try:
        return bpf.read_tasks(program, pid)
    except OSError as error:
        if error.errno not in (errno.E2BIG, errno.EINVAL):
            raise
        return b""


class _Kernel(NamedTuple):
    """What the programs need of this kernel's types: an id, offsets in task_struct, a size."""

    attach_point: int
    tgid: int
    tid: int
    stack: int
    registers_size: int


@cache
def _kernel() -> _Kernel:
    types = runtime_types()
    tgid, tid, stack = member_offsets("tgid", "pid", "stack").values()
    return _Kernel(types.functions["bpf_iter_task"], tgid, tid, stack, types.registers_size)


def _assembled(instructions: Sequence[_Instruction]) -> bytes:
    end = len(instructions) - 2  # r0 = 0, exit
    return b"".join(
        struct.pack(
            "<BBhi", code, to | source << 4, end - at - 1 if jump == _TO_END else jump, value
        )
        for at, (code, to, source, jump, value) in enumerate(instructions)
    )


def _instructions(
    pid: int, members: Sequence[Member], find: Iterable[_Instruction]
) -> list[_Instruction]:
    """The context is struct bpf_iter__task: the meta, which begins with the output, and the task.

    After the last task, the program is called with NULL. It writes nothing for other processes:
    see `_run`.
    """
    size = sum(member.size for member in members)
    at = -(-size // _WORD) * -_WORD
    code = [
        (_LOAD_U64, _R6, _R1, 0, 0),  # r6 = meta
        (_LOAD_U64, _R7, _R1, _WORD, 0),  # r7 = task
        (_IF_EQUAL, _R7, 0, _TO_END, 0),
        *_read(-_WORD, Member(_kernel().tgid, 4)),
        (_LOAD_U32, _R1, _R10, -_WORD, 0),
        (_IF_NOT_EQUAL, _R1, 0, _TO_END, pid),
        *find,
    ]
    place = at
    for member in members:
        code += _read(place, member)
        place += member.size
    return [
        *code,
        (_LOAD_U64, _R1, _R6, 0, 0),  # r1 = meta->seq
        (_COPY, _R2, _R10, 0, 0),
        (_ADD, _R2, 0, 0, at),
        (_SET, _R3, 0, 0, size),
        (_CALL, 0, 0, 0, _SEQ_WRITE),
        (_SET, _R0, 0, 0, 0),
        (_EXIT, 0, 0, 0, 0),
    ]


def _read(at: int, member: Member) -> list[_Instruction]:
    """Reads a member to this place of the program's stack; zeros if it cannot be read."""
    return [
        (_COPY, _R1, _R10, 0, 0),
        (_ADD, _R1, 0, 0, at),
        (_SET, _R2, 0, 0, member.size),
        (_COPY, _R3, _R8 if member.of_registers else _R7, 0, 0),
        (_ADD, _R3, 0, 0, member.offset),
        (_CALL, 0, 0, 0, _PROBE_READ_KERNEL),
    ]


@cache
def _registers() -> tuple[_Instruction, ...]:
    """The instructions by which a program finds the saved registers of its task: r8 points to them.

    Raises OSError if this kernel has no way that works.
    """
    ways = [_from_helper(), *map(_from_stack, _STACK_SIZES)]
    found = next((way for way in ways if _finds_registers(way)), None)
    if found is None:
        raise OSError(
            errno.EOPNOTSUPP, "the registers of a thread are not where they were expected"
        )
    return found


def _from_helper() -> tuple[_Instruction, ...]:
    """bpf_task_pt_regs: Linux 5.15, commit dd6e10fbd9fb."""
    return (
        (_COPY, _R1, _R7, 0, 0),
        (_CALL, 0, 0, 0, _TASK_PT_REGS),
        (_COPY, _R8, _R0, 0, 0),
    )


def _from_stack(size: int) -> tuple[_Instruction, ...]:
    """They are at the top of the kernel's stack of the thread: task_pt_regs() in Linux 5.10."""
    return (
        *_read(-_WORD, Member(_kernel().stack, _WORD)),
        (_LOAD_U64, _R8, _R10, -_WORD, 0),
        (_ADD, _R8, 0, 0, size - _kernel().registers_size),
    )


def _finds_registers(way: tuple[_Instruction, ...]) -> bool:
    """Whether it finds those of this thread, which is then in read(2), called by user code."""
    saved = registers().saved
    task = Member(_kernel().tid, 4)
    members = (task, Member(0, len(saved) * _WORD, of_registers=True))
    try:
        records = _run("probe_registers", os.getpid(), members, way)
    except OSError:  # such as an unknown helper
        return False
    layout = struct.Struct(f"<I{len(saved)}Q")
    found = {
        tid: dict(zip(saved, words, strict=True)) for tid, *words in layout.iter_unpack(records)
    }
    return _is_in_read(found.get(threading.get_native_id(), {}))


def _is_in_read(words: dict[str, int]) -> bool:
    read = _READ[machine()]
    if machine() == "x86_64":
        is_user = words.get("cs", 0) & 3 == 3 and words["rip"] > 0 and words["rsp"] > 0
        return is_user and words["orig_rax"] == read
    is_user = words.get("pc", 0) > 0 and words["pstate"] & 0xF == 0 and words["sp"] > 0
    return is_user and words["x8"] == words["syscallno"] & 0xFFFFFFFF == read
