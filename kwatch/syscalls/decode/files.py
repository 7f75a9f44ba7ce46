# SPDX-License-Identifier: Apache-2.0
"""Files: their status, how they are opened, their times, and the entries of folders."""

from __future__ import annotations

from collections.abc import Sequence

from kwatch.syscalls.calls import NARROW, Argument, Call
from kwatch.syscalls.decode import scalars, structs, text, times
from kwatch.syscalls.decode.sets import Cached, named_set
from kwatch.syscalls.decode.style import Pieces, Show, Style
from kwatch.syscalls.layouts import layout


def stat_maker(call: Call, argument: Argument, style: Style) -> Show:
    """The size of a file, but the number of a device."""
    found = layout(argument.kind.base, style.abi)
    if found is None:
        return lambda data, a, r, d: structs.address(a[argument.word])

    members = sorted(("st_mode", "st_rdev", "st_size"), key=lambda name: found.member(name).offset)
    needed, read = found.reader(*members)
    mode_at, device_at, size_at = (members.index(m) for m in ("st_mode", "st_rdev", "st_size"))
    modes = Cached(scalars.file_mode)

    def show(data: bytes, a: Sequence[int], r: int, d: Pieces) -> str:
        if len(data) < needed:
            return "{...}"
        values = read(data)
        mode = values[mode_at]
        if mode & 0o170000 in (0o020000, 0o060000):
            device = scalars.device(values[device_at])
            return f"{{st_mode={modes[mode]}, st_rdev={device}, ...}}"
        return f"{{st_mode={modes[mode]}, st_size={values[size_at]}, ...}}"

    return show


def open_how_maker(call: Call, argument: Argument, style: Style) -> Show:
    """The mode of openat2 only where it counts."""
    found, flags = layout("open_how", style.abi), named_set("open_flags", style.abi)
    resolve = named_set("resolve_flags", style.abi)
    assert found is not None
    assert flags is not None
    assert resolve is not None

    def show(data: bytes, a: Sequence[int], r: int, d: Pieces) -> str:
        known = found.values(data)
        if len(known) < 3:
            return "{...}"
        mode = f"mode={scalars.mode(known['mode'])}, " if known["mode"] else ""
        return f"{{flags={flags[known['flags']]}, {mode}resolve={resolve[known['resolve']]}}}"

    return show


def dirents_maker(call: Call, argument: Argument, style: Style) -> Show:
    offset = 16 if argument.kind.base == "dirents64" or style.abi not in NARROW else 8

    def show(data: bytes, a: Sequence[int], r: int, d: Pieces) -> str:
        at = count = 0
        while at + offset + 2 <= len(data):
            length = int.from_bytes(data[at + offset : at + offset + 2], "little")
            if not length or at + length > len(data):
                break
            at, count = at + length, count + 1
        more = "" if at == r else " or more"
        entries = "entry" if count == 1 and not more else "entries"
        return f"{structs.address(a[argument.word])} /* {count}{more} {entries} */"

    return show


def timespecs_maker(call: Call, argument: Argument, style: Style) -> Show:
    """Times of a file, which may be now or left as they are."""
    narrow = style.abi in NARROW and argument.kind.base == "timespec"
    is_special = argument.kind.base != "timeval"
    return lambda data, a, r, d: times.file_times(data, narrow, is_special)


def file_handle_maker(call: Call, argument: Argument, style: Style) -> Show:
    """A handle: as many bytes as it says."""
    found = layout("file_handle", style.abi)
    assert found is not None
    at = found.member("f_handle").offset

    def show(data: bytes, a: Sequence[int], r: int, d: Pieces) -> str:
        if len(data) < at:
            return "{...}"
        size = int.from_bytes(data[:4], "little")
        kind = int.from_bytes(data[4:8], "little", signed=True)
        handle = text.hexadecimal(data[at : at + size], size, 128)
        before = d[argument.word]
        asked = int.from_bytes(before[:4], "little") if before is not None else size
        shown = f"{asked} => {size}" if asked != size else str(size)
        return f"{{handle_bytes={shown}, handle_type={kind}, f_handle={handle}}}"

    return show
