# SPDX-License-Identifier: Apache-2.0
"""The descriptors that messages bring: SCM_RIGHTS in the control data of recvmsg and recvmmsg."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kwatch.descriptors.tables import Tables
from kwatch.model.traced_call import TracedCall
from kwatch.syscalls.decode.vectors import chunks
from kwatch.syscalls.layouts import layout
from kwatch.wire.events import Abi

_NESTED = 12  # the place of a nested argument among the pieces
_SOL_SOCKET, _SCM_RIGHTS = 1, 1


def received(call: TracedCall) -> tuple[int, ...]:
    """Those that a call has received."""
    nested = call.pieces[_NESTED]
    if nested is None or call.result < 0:
        return ()
    controls = _control(nested) if call.name == "recvmsg" else _controls(call, nested)
    return tuple(fd for control in controls for fd in rights(control, Abi(call.abi)))


def open_received(tables: Tables, call: TracedCall) -> None:
    for fd in received(call):
        tables.open(fd, None, False)
        tables.arrived.add(fd)


def rights(control: bytes, abi: Abi) -> Iterator[int]:
    """The descriptors in control data."""
    shape, at = layout("cmsghdr", abi), 0
    assert shape is not None
    align = shape.member("cmsg_len").size
    while at + shape.size <= len(control):
        known = shape.values(control, at)
        body = control[at + shape.size : at + known["cmsg_len"]]
        if (known["cmsg_level"], known["cmsg_type"]) == (_SOL_SOCKET, _SCM_RIGHTS):
            yield from struct.unpack_from(f"<{len(body) // 4}i", body)
        at += max(-(-known["cmsg_len"] // align) * align, shape.size)


def _control(nested: bytes) -> Iterator[bytes]:
    found = chunks(nested)[2:3]
    yield from (each for each in found if each is not None)


def _controls(call: TracedCall, nested: bytes) -> Iterator[bytes]:
    """Of each message: its name, control data, vector and segments follow each other."""
    header = layout("msghdr", Abi(call.abi))
    assert header is not None
    pair = 2 * header.member("msg_iov").size
    rest = iter(chunks(nested)[1:])
    for _ in range(call.result):
        _, control, vector = next(rest, None), next(rest, None), next(rest, None)
        if control is not None:
            yield control
        for _ in range(len(vector) // pair if vector is not None else 0):
            next(rest, None)
