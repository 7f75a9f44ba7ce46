# SPDX-License-Identifier: Apache-2.0
"""What the capture plan says of one call, read from a stopped thread's memory.

A reference for the BPF program: slow, simple, and by the same rules (capture_format.py).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kwatch.syscalls.calls import NARROW
from kwatch.syscalls.capture_format import LOW_32, NO_LIMIT, From, Nested, What, When
from kwatch.syscalls.layouts import layout
from kwatch.wire.events import Abi

_PAGE = 4096
_U32, _U64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
_MAX_ERRNO = 4095
_MAX_VECTOR = 1024


class Memory:
    """The memory of one process; None for what cannot be read."""

    def __init__(self, pid: int, abi: Abi) -> None:
        self._fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        self.abi = abi
        self.word = 4 if abi in NARROW else 8

    def close(self) -> None:
        os.close(self._fd)

    def read(self, address: int, size: int) -> bytes | None:
        if size <= 0:
            return b"" if address else None
        try:
            data = os.pread(self._fd, size, address)
        except (OSError, OverflowError):
            return None
        return data if len(data) == size else None

    def until(self, address: int, cap: int, end: Callable[[bytes], int]) -> bytes | None:
        """Whole pages up to where `end` finds one, at most `cap` bytes."""
        data = b""
        while len(data) < cap:
            size = min(_PAGE - (address + len(data)) % _PAGE, cap - len(data))
            more = self.read(address + len(data), size)
            if more is None:
                break
            data += more
            found = end(data)
            if found:
                return data[:found]
        return data or None

    def string(self, address: int, cap: int) -> bytes | None:
        return self.until(address, cap, lambda data: data.find(0) + 1)

    def pointers(self, address: int, cap: int) -> bytes | None:
        def end(data: bytes) -> int:
            whole = range(0, len(data) - self.word + 1, self.word)
            return next((i + self.word for i in whole if not any(data[i : i + self.word])), 0)

        return self.until(address, cap, end)

    def number(self, address: int) -> int:
        data = self.read(address, 4)
        return int.from_bytes(data, "little") if data else 0


def capture(
    row: Any,
    memory: Memory,
    registers: Sequence[int],
    result: int | None,
    known: list[bytes | None],
) -> None:
    """Fill the pieces (13) of a call at its entry (`result` None) or at its exit."""
    at_exit = result is not None
    failed = result is not None and -_MAX_ERRNO <= result < 0
    for i, cell in enumerate(row["cells"]):
        if cell["what"] == What.NONE:
            continue
        when = _when(cell, registers)
        if not at_exit and when & When.ENTRY:
            known[i] = _cell(cell, i, memory, registers, 0)
        elif (at_exit and when & When.EXIT and not (failed and not when & When.ON_ERROR)) or (
            at_exit and when & When.ENTRY and known[i] is None
        ):
            known[6 + i] = _cell(cell, i, memory, registers, result or 0)
    nested = row["nested"]
    if nested["what"] == Nested.NONE:
        return
    if failed and nested["when"] & When.EXIT:
        if nested["what"] == Nested.IOVEC:
            known[12] = _chunk(next(_nested(nested, memory, registers, 0)))
        return
    if nested["when"] & (When.EXIT if at_exit else When.ENTRY):
        chunks = _nested(nested, memory, registers, result)
        known[12] = b"".join(map(_chunk, chunks))


def _when(cell: Any, registers: Sequence[int]) -> int:
    if cell["what"] == What.IOCTL:
        bits = registers[1] >> 30 & 3
        return (When.ENTRY if bits & 1 else 0) | (When.EXIT if bits & 2 else 0)
    return int(cell["when"])


def _cell(cell: Any, i: int, memory: Memory, registers: Sequence[int], result: int) -> bytes | None:
    address, cap = registers[i], int(cell["cap"])
    if not address:
        return None
    if cell["what"] == What.STRING:
        return memory.string(address, cap)
    if cell["what"] == What.POINTERS:
        return memory.pointers(address, cap)
    if cell["what"] == What.IOCTL:
        return memory.read(address, min(registers[1] >> 16 & 0x3FFF, cap))
    count = _count(cell, memory, registers, result, int(cell["scale"]))
    return memory.read(address, min(count + (int(cell["when"]) >> 4) * 4, cap))


def _count(cell: Any, memory: Memory, registers: Sequence[int], result: int, scale: int) -> int:
    operand = int(cell["operand"])
    register = registers[operand & 15] if operand & 15 < 6 else 0
    source = int(cell["source"]) & ~LOW_32
    if cell["source"] & LOW_32:
        register &= _U32
    if source == From.CONSTANT:
        count = scale
    elif source == From.ARGUMENT:
        count = register * scale
    elif source == From.RESULT:
        count = max(result, 0) * scale
    elif source == From.POINTEE:
        count = memory.number(register) * scale
    elif source == From.SECOND:
        count = memory.number(register + 4) * scale
    elif source == From.BITS:
        count = (register + 63) // 64 * 8
    else:
        count = (register + 4095) // 4096
    limit = operand >> 4
    return count if limit == NO_LIMIT or limit > 5 else min(count, registers[limit] * scale)


def _chunk(data: bytes | None) -> bytes:
    return struct.pack("<i", -1) if data is None else struct.pack("<i", len(data)) + data


def _nested(
    nested: Any, memory: Memory, registers: Sequence[int], result: int | None
) -> Iterator[bytes | None]:
    address, cap, abi = registers[nested["register"]], int(nested["cap"]), memory.abi
    count = _count(nested, memory, registers, result or 0, 1)
    left = None if result is None else max(result, 0)
    if nested["what"] == Nested.IOVEC:
        chunks = _vector(memory, address, count, left, cap)
        yield from chunks if cap else [next(chunks)]
    elif nested["what"] == Nested.STRINGS:
        yield from _strings(memory, address, cap)
    elif nested["what"] == Nested.POINTER:
        size = 2 * memory.word
        pair = memory.read(address, size)
        yield pair
        if pair:
            inner, length = _words(pair, memory)
            yield memory.read(inner, min(length, 128)) if inner else None
    else:
        shape = layout("mmsghdr" if nested["what"] == Nested.MMSGHDR else "msghdr", abi)
        assert shape is not None
        number = count if nested["what"] == Nested.MMSGHDR else 1
        headers = memory.read(address, shape.size * min(number, _MAX_VECTOR))
        yield headers
        for i in range(len(headers or b"") // shape.size):
            known = shape.values(headers or b"", i * shape.size)
            yield from _message(
                memory, known, known.get("msg_len") if left is not None else None, left, cap
            )


def _message(
    memory: Memory, known: dict[str, int], length: int | None, left: int | None, cap: int
) -> Iterator[bytes | None]:
    for pointer, size in (("msg_name", "msg_namelen"), ("msg_control", "msg_controllen")):
        yield memory.read(known[pointer], min(known[size], 4096)) if known[pointer] else None
    total = left if length is None else length
    yield from _vector(memory, known["msg_iov"], known["msg_iovlen"], total, cap)


def _vector(
    memory: Memory, address: int, count: int, left: int | None, cap: int
) -> Iterator[bytes | None]:
    vector = memory.read(address, 2 * memory.word * min(count, _MAX_VECTOR)) if address else None
    yield vector
    pairs = _words(vector or b"", memory)
    for base, length in zip(pairs[::2], pairs[1::2], strict=False):
        size = length if left is None else min(length, left)
        left = None if left is None else left - size
        yield memory.read(base, min(size, cap)) if cap and base else None


def _strings(memory: Memory, address: int, cap: int) -> Iterator[bytes | None]:
    pointers = memory.pointers(address, 8 * _MAX_VECTOR) if address else None
    yield pointers
    for pointer in _words(pointers or b"", memory):
        if pointer:
            yield memory.string(pointer, cap)


def _words(data: bytes, memory: Memory) -> tuple[int, ...]:
    code = "I" if memory.word == 4 else "Q"
    return struct.unpack(f"<{len(data) // memory.word}{code}", data)
