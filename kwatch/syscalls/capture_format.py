# SPDX-License-Identifier: Apache-2.0
"""The form of the capture plan: rows that one BPF program for all calls reads from its maps.

A row has a cell for each register. At entry the program reads what the cells with ENTRY say, at
exit those with EXIT; what could not be read at entry is read again at exit. Each cell gives one
piece at entry and one at exit: pieces 0 to 5 and 6 to 11. A piece that was not captured has the
length -1, as opposed to an empty one. At exit a failed call (-4095 to -1) gives no pieces, but
for cells with ON_ERROR.

The bytes of a cell that is not STRING or POINTERS are

    n = scale                              CONSTANT
        register[operand & 15] * scale     ARGUMENT
        result * scale                     RESULT
        *(u32 *)register[...] * scale      POINTEE
        *(u32 *)(register[...] + 4) * scale   SECOND
        (register[...] + 63) / 64 * 8      BITS
        (register[...] + 4095) / 4096      PAGES
    n = min(n, register[operand >> 4] * scale)    unless operand >> 4 is NO_LIMIT
    n = min(n + (when >> 4) * 4, cap)

with results as signed numbers, and registers as unsigned longs of the ABI; of the first register
only the lower 32 bits with LOW_32 added to `source`: C leaves anything in the upper half of an int.

STRING reads up to a null byte, POINTERS words of the ABI up to a null one, both at most `cap`
bytes; where the next page cannot be read they give what lies before it.

IOCTL is for requests without a variant: bits 16 to 29 of the request are the length; bit 30 is
ENTRY, bit 31 EXIT.

The nested argument gives chunks: an int32 length (-1: not resident), then the bytes, without
padding. The first chunk is what the register points to, then in this order:

    IOVEC      the vector; each segment
    MSGHDR     the header; name, control data, vector, each segment
    MMSGHDR    the array of headers; for each message name, control data, vector, each segment
    STRINGS    the pointers, up to the null one; each string with its null byte
    POINTER    a pointer and a length; the bytes at the pointer

Of a failed call only IOVEC is given, with EXIT and its first chunk alone: no byte was received.

A program may stop after any chunk. Segments have at most `cap` bytes each, and in all those that
the result says; with `cap` 0 no segment is read, and IOVEC ends with the vector. A null pointer
gives a chunk of length -1.

Calls with variants: the program looks up (number, command), the command being the register
`selector & 15` as 32 bits; with SOCKET_LEVEL the register before it, shifted by 16, is added;
with LOW_7_BITS only those bits count, with WITHOUT_IPC_64 all but bit 8. Without a variant the row
itself holds.

socketcall has INDIRECT: register 1 points to the words of the arguments; the row to use is that of
SOCKETCALL_NUMBERS plus register 0. ipc: the row of IPC_NUMBERS plus the lower half of register 0,
whose argument i is the register in bits 4*i of `order`, as everywhere.
"""

from __future__ import annotations

import enum

import numpy as np

NO_LIMIT = 15
LOW_32 = 128
NO_SELECTOR = 255
PIECES = 12
IN_ORDER = 0x543210


class What(enum.IntEnum):
    NONE = 0
    STRING = 1
    BYTES = 2
    POINTERS = 3
    IOCTL = 4


class When(enum.IntFlag):
    ENTRY = 1
    EXIT = 2
    ON_ERROR = 4


class From(enum.IntEnum):
    CONSTANT = 0
    ARGUMENT = 1
    RESULT = 2
    POINTEE = 3
    BITS = 4
    PAGES = 5
    SECOND = 6


class Nested(enum.IntEnum):
    NONE = 0
    IOVEC = 1
    MSGHDR = 2
    MMSGHDR = 3
    STRINGS = 4
    POINTER = 5


class RowFlag(enum.IntFlag):
    KNOWN = 1
    INDIRECT = 2


class Selector(enum.IntFlag):
    """The upper half of `selector`."""

    SOCKET_LEVEL = 16
    LOW_7_BITS = 32
    WITHOUT_IPC_64 = 64


CELL = np.dtype(
    [
        ("what", "u1"),
        ("when", "u1"),
        ("source", "u1"),
        ("operand", "u1"),
        ("scale", "u2"),
        ("cap", "u2"),
    ]
)
NESTED_CELL = np.dtype(
    [
        ("what", "u1"),
        ("register", "u1"),
        ("when", "u1"),
        ("source", "u1"),
        ("operand", "u1"),
        ("pad", "u1"),
        ("cap", "u2"),
    ]
)
ROW = np.dtype(
    [
        ("cells", CELL, 6),
        ("nested", NESTED_CELL),
        ("effect", "u1"),
        ("words", "u1"),
        ("flags", "u1"),
        ("selector", "u1"),
        ("order", "u4"),
    ]
)
VARIANT = np.dtype([("number", "u4"), ("command", "u4"), ("row", ROW)])
