# SPDX-License-Identifier: Apache-2.0
"""Descriptors that are waited for: poll, epoll and select."""

from __future__ import annotations

import struct
from collections.abc import Callable

from kwatch.syscalls.calls import Argument, Call
from kwatch.syscalls.decode import scalars, structs
from kwatch.syscalls.decode.sets import named_set
from kwatch.syscalls.decode.structs import MAX_ELEMENTS
from kwatch.syscalls.decode.style import Show, Style, descriptor_text
from kwatch.syscalls.layouts import layout
from kwatch.wire.events import Abi

_POLLFD = struct.Struct("<ihh")


def _listed(parts: list[str]) -> str:
    shown = parts[:MAX_ELEMENTS] + (["..."] if len(parts) > MAX_ELEMENTS else [])
    return f"[{', '.join(shown)}]"


def pollfds_show(style: Style) -> Callable[[bytes], str]:
    """What is asked: `[{fd=3, events=POLLIN}]`."""
    events, descriptor = named_set("poll_events", style.abi), descriptor_text(style)
    assert events is not None

    def show(data: bytes) -> str:
        whole = data[: len(data) // _POLLFD.size * _POLLFD.size]
        return _listed(
            [
                f"{{fd={descriptor(fd)}, events={events[asked & 0xFFFF]}}}"
                if fd >= 0
                else f"{{fd={fd}}}"
                for fd, asked, _ in _POLLFD.iter_unpack(whole)
            ]
        )

    return show


def ready_show(abi: Abi) -> Callable[[bytes], str]:
    """What is ready: `[{fd=3, revents=POLLIN}]`."""
    events = named_set("poll_events", abi)
    assert events is not None

    def show(data: bytes) -> str:
        whole = data[: len(data) // _POLLFD.size * _POLLFD.size]
        return _listed(
            [
                f"{{fd={fd}, revents={events[ready & 0xFFFF]}}}"
                for fd, _, ready in _POLLFD.iter_unpack(whole)
                if ready
            ]
        )

    return show


def epoll_show(abi: Abi) -> Callable[[bytes], str]:
    """One event: `{events=EPOLLIN, data={u32=3, u64=3}}`."""
    events, found = named_set("epoll_events", abi), layout("epoll_event", abi)
    assert events is not None
    assert found is not None

    def show(data: bytes) -> str:
        known = found.values(data)
        if "data" not in known:
            return "{...}"
        value = known["data"]
        low = f"u32={value & 0xFFFFFFFF}, u64={value}"
        return f"{{events={events[known['events']]}, data={{{low}}}}}"

    return show


def descriptors(data: bytes, limit: int) -> list[int]:
    """The members of an fd_set below `limit`."""
    bits = int.from_bytes(data, "little")
    return [fd for fd in range(min(limit, len(data) * 8)) if bits >> fd & 1]


def fd_set_text(data: bytes, limit: int, show: Callable[[int], str] = str) -> str:
    return f"[{' '.join(map(show, descriptors(data, limit)))}]"


def pollfds_maker(call: Call, argument: Argument, style: Style) -> Show:
    show = pollfds_show(style)
    return lambda data, a, r, d: show(data)


def fd_set_maker(call: Call, argument: Argument, style: Style) -> Show:
    show = descriptor_text(style)
    return lambda data, a, r, d: fd_set_text(data, scalars.int32(a[0]), show)


def epoll_maker(call: Call, argument: Argument, style: Style) -> Show:
    show, size = epoll_show(style.abi), structs.size("epoll_event", style.abi)
    if argument.kind.length is None:
        return lambda data, a, r, d: show(data)
    return lambda data, a, r, d: structs.array(data, size, show)


def cpu_set_maker(call: Call, argument: Argument, style: Style) -> Show:
    return lambda data, a, r, d: f"[{' '.join(map(str, descriptors(data, len(data) * 8)))}]"
