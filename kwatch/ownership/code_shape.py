# SPDX-License-Identifier: Apache-2.0
"""What the code of a function shows: whether it allocates for its caller.

That is so if the size comes from an argument of the function and the block is its result. Only
registers and the function's own stack are followed, so the answer may be unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from kwatch.elf.machine_code import ARM_WHOLE, EM_AARCH64, X86_WHOLE, disassembler
from kwatch.ownership.code import Code, Shape

if TYPE_CHECKING:
    import capstone

_MAX_STEPS = 1024  # instructions and the states in which they were reached
_MAX_STATES = 4  # of one instruction

_ADVANCED = re.compile(r"\[(x\d+)[^]]*\](?:!|, #)")
_COMPARISONS = frozenset("cmp cmn tst ccmp ccmn test cbz cbnz tbz tbnz".split())
_SLOT = re.compile(r"\[(?:r[sb]p|sp|x29)(?:(?: [+-] |, #-?)(?:0x)?[0-9a-f]+)?\]")
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_RELATIVE = re.compile(r"\[rip ([+-]) (0x[0-9a-f]+|\d)\]")  # the code of -fno-plt


class _Machine(NamedTuple):
    """Registers of the calling convention."""

    arguments: tuple[str, ...]
    result: str
    clobbered: frozenset[str]
    moves: re.Pattern[str]


_X86_CLOBBERED = frozenset("rax rcx rdx rsi rdi r8 r9 r10 r11".split())
_X86 = _Machine(
    ("rdi", "rsi", "rdx", "rcx", "r8", "r9"), "rax", _X86_CLOBBERED, re.compile("mov(abs|sxd|zx)?")
)
_ARM_CLOBBERED = frozenset(f"x{number}" for number in range(19))
_ARM = _Machine(
    tuple(f"x{number}" for number in range(8)), "x0", _ARM_CLOBBERED, re.compile("mov|ldu?r|stu?r")
)

_State = frozenset[str]  # registers and stack slots that hold what is followed
_UNTOUCHED = "untouched"  # in a state while nothing was written to the second argument
_ADDRESS_OF = "&"  # between a register and the slot whose address it holds


def shape(code: Code) -> Shape:
    """The shape of the function around the call that returns to `code.after`."""
    instructions = _Instructions(code)
    is_sized, slots = _is_sized(code, instructions)
    held = slots or frozenset([instructions.machine.result])
    return Shape(is_sized, _is_returned(code.after, held, instructions))


def _is_sized(code: Code, instructions: _Instructions) -> tuple[bool | None, _State]:
    """Whether the size is the caller's, and the slots in which the callee puts the block, if any.

    The size is one of the first two arguments (malloc, calloc, aligned_alloc, realloc), or the
    third one behind the address of a slot (posix_memalign). What is still in the second one since
    the entry may be no argument at all.
    """
    if code.entry is None:
        return None, frozenset()
    first, second, third = instructions.machine.arguments[:3]
    found, slots = None, set()
    at_entry = frozenset([*instructions.machine.arguments, _UNTOUCHED])
    for instruction, state in _walk(code.entry, at_entry, instructions, True):
        if not _is_call(instruction) or instruction.address + instruction.size != code.after:
            continue
        place = first + _ADDRESS_OF
        into = {held.removeprefix(place) for held in state if held.startswith(place)}
        slots |= into
        is_second = second in state and _UNTOUCHED not in state
        is_sized = third in state if into else first in state or is_second
        found = bool(found) or is_sized
    return found or instructions.unless_cut(found), frozenset(slots)


def _is_returned(address: int, held: _State, instructions: _Instructions) -> bool | None:
    """Whether the function returns what is in one of these places at this address."""
    found = None
    for instruction, state in _walk(address, held, instructions, False):
        if _in_group(instruction, "RET"):
            found = bool(found) or instructions.machine.result in state
        elif instructions.is_identity_jump(instruction):
            found = bool(found) or instructions.machine.arguments[0] in state
    return found or instructions.unless_cut(found)


class _Instructions:
    """Instructions by address, decoded when they are reached."""

    def __init__(self, code: Code) -> None:
        self.machine = _ARM if code.machine == EM_AARCH64 else _X86
        self._code = code
        self._engine = disassembler(code.machine, True)
        self._known: dict[int, Any] = {}
        self._returns_first: dict[int, bool] = {}
        self.is_cut = False  # some path was not followed to its end

    def unless_cut(self, found: bool | None) -> bool | None:
        """What was not found is unknown if some path was cut."""
        return None if self.is_cut else found

    def is_identity_jump(self, instruction: Any) -> bool:
        """Whether it is a tail call of a function outside that returns its first argument."""
        return _always_jumps(instruction) and _callee(instruction) in self._code.identities

    def returns_first(self, call: Any) -> bool:
        """Whether the called function returns its first argument."""
        function = _callee(call)
        if function is None or function in self._code.identities:
            return function is not None
        if function not in self._returns_first:
            self._returns_first[function] = False  # in a recursion
            held = frozenset(self.machine.arguments[:1])
            self._returns_first[function] = bool(_is_returned(function, held, self))
        return self._returns_first[function]

    def at(self, address: int) -> Any:
        """None outside the code."""
        if address not in self._known:
            skipped = address - self._code.start
            data = self._code.data[skipped : skipped + 16] if skipped >= 0 else b""
            self._known[address] = next(self._engine.disasm(data, address, 1), None)
        return self._known[address]


def _walk(
    address: int, state: _State, instructions: _Instructions, derives: bool
) -> Iterator[tuple[Any, _State]]:
    """Every instruction that can be reached, with the state before it.

    `derives`: what is computed from what is followed is followed, too.
    """
    pending, seen = [(address, state)], dict[int, set[_State]]()
    steps = 0
    while pending and steps < _MAX_STEPS:
        address, state = pending.pop()
        instruction = instructions.at(address)
        states = seen.setdefault(address, set())
        if instruction is None or state in states:
            continue
        if len(states) >= _MAX_STATES:
            instructions.is_cut = True
            continue
        states.add(state)
        steps += 1
        yield instruction, state
        if _in_group(instruction, "RET") or instructions.is_identity_jump(instruction):
            continue
        after = _after(instruction, state, instructions, derives)
        pending += [(target, after) for target in _successors(instruction)]
    instructions.is_cut |= bool(pending)


@lru_cache(_MAX_STEPS)
def _successors(instruction: Any) -> list[int]:
    following = instruction.address + instruction.size
    if _is_call(instruction) or not _in_group(instruction, "JUMP"):
        return [following]
    target = _target(instruction)
    jumps = [] if target is None else [target]
    return jumps if _always_jumps(instruction) else [*jumps, following]


def _always_jumps(instruction: Any) -> bool:
    return str(instruction.mnemonic).rpartition(" ")[2] in ("jmp", "b", "br")


def _target(instruction: Any) -> int | None:
    """Where a jump or a call leads; None if a register or memory says it."""
    target = str(instruction.op_str).rpartition(" ")[2].lstrip("#")
    return int(target, 16) if _ADDRESS.fullmatch(target) else None


def _callee(instruction: Any) -> int | None:
    """Where a call or a jump leads, or the address of the slot that it goes through."""
    slot = _RELATIVE.search(str(instruction.op_str))
    if slot is None:
        return _target(instruction)
    distance = int(slot[2], 16)
    after = int(instruction.address) + int(instruction.size)
    return after - distance if slot[1] == "-" else after + distance


def _after_call(
    instruction: Any, state: _State, instructions: _Instructions, derives: bool
) -> _State:
    machine = instructions.machine
    is_result = machine.arguments[0] in state and (
        derives or instructions.returns_first(instruction)
    )
    return (state - machine.clobbered) | ({machine.result} if is_result else set())


def _note_arguments(instruction: Any, state: _State, machine: _Machine) -> _State:
    """Notes writes to the second argument, and registers with the addresses of slots."""
    writes = machine.clobbered if _is_call(instruction) else _access(instruction)[1]
    if machine.arguments[1] in writes:
        state -= {_UNTOUCHED}
    target, _, source = str(instruction.op_str).partition(", ")
    noted = {held for held in state if _ADDRESS_OF in held}
    slots = {held.removeprefix(source + _ADDRESS_OF) for held in noted}
    state -= {held for held in noted if held.partition(_ADDRESS_OF)[0] in writes}
    mnemonic = str(instruction.mnemonic)
    if mnemonic in ("lea", "add") or source in ("rsp", "sp"):
        slot = _SLOT.fullmatch(source if "[" in source else f"[{source}]")
        slots = {slot[0]} if slot is not None else set()
    elif mnemonic != "mov":
        return state
    return state | {target + _ADDRESS_OF + slot for slot in slots if _ADDRESS_OF not in slot}


def _after(instruction: Any, state: _State, instructions: _Instructions, derives: bool) -> _State:
    machine = instructions.machine
    if derives:
        state = _note_arguments(instruction, state, machine)
    if _is_call(instruction):
        return _after_call(instruction, state, instructions, derives)
    reads, writes = _access(instruction)
    source, target = _moved(instruction, machine)
    if source:
        return state | {target} if source in state else state - {target}
    keeps = derives or _is_offset(instruction)
    is_memory = "[" in str(instruction.op_str) and not str(instruction.mnemonic).startswith("lea")
    if keeps and not is_memory and not state.isdisjoint(reads - {"rsp", "sp"}) and writes:
        return state if _zeroes(instruction) else state | writes
    if str(instruction.mnemonic).startswith(("cmov", "csel")):
        return state - writes if state.isdisjoint(reads) else state | writes
    return state - writes


@lru_cache(_MAX_STEPS)
def _moved(instruction: Any, machine: _Machine) -> tuple[str, str]:
    """The source and the target of a move between registers and stack slots, or two empty names."""
    mnemonic, operands = str(instruction.mnemonic), str(instruction.op_str)
    if not machine.moves.fullmatch(mnemonic):
        return "", ""
    first, _, second = operands.partition(", ")
    first, second = (_place(operand) for operand in (first, second))
    if mnemonic.startswith("st"):
        first, second = second, first
    return (second, first) if first and second else ("", "")


def _place(operand: str) -> str:
    """The name of a register or of a slot in the function's frame; empty for anything else."""
    slot = _SLOT.search(operand)
    if slot is not None:
        return slot[0]
    return _WHOLE.get(operand, operand if re.fullmatch(r"r\w+|x\d+", operand) else "")


def _is_offset(instruction: Any) -> bool:
    """Whether it adds something: a pool gives out a part of its block."""
    return str(instruction.mnemonic) in ("add", "sub", "lea")


def _zeroes(instruction: Any) -> bool:
    first, _, second = str(instruction.op_str).partition(", ")
    return str(instruction.mnemonic) in ("xor", "sub") and first == second


@lru_cache(_MAX_STEPS)
def _access(instruction: Any) -> tuple[frozenset[str], frozenset[str]]:
    """The registers that it reads and writes, but for the base of an address that it advances.

    capstone says that comparisons on arm64 write.
    """
    reads, writes = (_whole(instruction, registers) for registers in instruction.regs_access())
    if str(instruction.mnemonic) in _COMPARISONS:
        return reads, frozenset()
    advanced = _ADVANCED.search(str(instruction.op_str))
    return reads, writes - {advanced[1]} if advanced is not None else writes


def _whole(instruction: Any, registers: Any) -> frozenset[str]:
    names = (str(instruction.reg_name(number)) for number in registers)
    return frozenset(_WHOLE.get(name, name) for name in names)


@lru_cache(_MAX_STEPS)
def _is_call(instruction: Any) -> bool:
    return _in_group(instruction, "CALL") or str(instruction.mnemonic) in ("bl", "blr")


@lru_cache(_MAX_STEPS)
def _in_group(instruction: capstone.CsInsn, name: str) -> bool:
    import capstone

    return bool(instruction.group(getattr(capstone, f"CS_GRP_{name}")))


#: The parts of registers of both machines.
_WHOLE = ARM_WHOLE | X86_WHOLE
