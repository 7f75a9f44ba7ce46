# SPDX-License-Identifier: Apache-2.0
"""Calls whose arguments strace prints by name or in another order: clone and clone3."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kwatch.syscalls.calls import Call
from kwatch.syscalls.constants import numbers
from kwatch.syscalls.decode import scalars
from kwatch.syscalls.decode.sets import named_set
from kwatch.syscalls.decode.structs import address
from kwatch.syscalls.decode.style import Pieces, Style
from kwatch.syscalls.layouts import layout

#: Bytes of the first version of clone_args: a smaller one is refused.
_FIRST_SIZE = 64

Text = Callable[[Sequence[int], int, Pieces], str]


def _clone(call: Call, style: Style) -> Text:
    flags, bits = named_set("clone_flags", style.abi), numbers("clone_flags", style.abi)
    assert flags is not None
    word = {argument.name: argument.word for argument in call.arguments}
    parent, child, tls = (word[name] for name in ("parent_tidptr", "child_tidptr", "tls"))
    has_parent = bits["CLONE_PARENT_SETTID"] | bits["CLONE_PIDFD"]
    has_child = bits["CLONE_CHILD_SETTID"] | bits["CLONE_CHILD_CLEARTID"]

    def text(a: Sequence[int], r: int, d: Pieces) -> str:
        parts = [f"child_stack={address(a[1])}", f"flags={flags[a[0]]}"]
        if a[0] & has_parent:
            label = "parent_tid"
            data = d[6 + parent]
            shown = (
                f"[{int.from_bytes(data, 'little')}]" if data is not None else address(a[parent])
            )
            parts.append(f"{label}={shown}")
        if a[0] & bits["CLONE_SETTLS"]:
            parts.append(f"tls={address(a[tls])}")
        if a[0] & has_child:
            parts.append(f"child_tidptr={address(a[child])}")
        return ", ".join(parts)

    return text


def _clone3(call: Call, style: Style) -> Text:
    found, bits = layout("clone_args", style.abi), numbers("clone_flags", style.abi)
    flags = named_set("clone_flags", style.abi)
    assert found is not None
    assert flags is not None

    def text(a: Sequence[int], r: int, d: Pieces) -> str:
        data = d[0]
        if data is None or len(data) < _FIRST_SIZE:
            return f"{address(a[0])}, {a[1]}"
        known = {name: value & (1 << 64) - 1 for name, value in found.values(data).items()}
        set_bits = known["flags"]
        parts = [f"flags={flags[set_bits]}"]
        parts += [
            f"{name}={show(known[name])}"
            for name, needs, show in _CLONE3
            if name in known and (set_bits & sum(bits[bit] for bit in needs) if needs else True)
        ]
        parts += [
            f"{name}={show(known[name])}"
            for name, show in (("set_tid", address), ("set_tid_size", str), ("cgroup", str))
            if known.get(name)
        ]
        made = _made_tid(known, d, set_bits, bits, r)
        return f"{{{', '.join(parts)}}}{made}, {a[1]}"

    return text


def _made_tid(known: dict[str, int], d: Pieces, set_bits: int, bits: dict[str, int], r: int) -> str:
    if r > 0 and set_bits & bits["CLONE_PARENT_SETTID"]:
        return f" => {{parent_tid=[{r}]}}"
    return ""


def _hex(value: int) -> str:
    return f"{value:#x}" if value else "0"


#: Members of clone_args in strace's order, the flags of which one gives them a meaning.
_CLONE3: list[tuple[str, tuple[str, ...], Callable[[int], str]]] = [
    ("pidfd", ("CLONE_PIDFD",), address),
    ("child_tid", ("CLONE_CHILD_SETTID", "CLONE_CHILD_CLEARTID"), address),
    ("parent_tid", ("CLONE_PARENT_SETTID",), address),
    ("exit_signal", (), scalars.signal),
    ("stack", (), address),
    ("stack_size", (), _hex),
    ("tls", ("CLONE_SETTLS",), address),
]

LABELLED: dict[str, Callable[[Call, Style], Text]] = {"clone": _clone, "clone3": _clone3}
