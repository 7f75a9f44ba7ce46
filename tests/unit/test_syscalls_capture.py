# SPDX-License-Identifier: Apache-2.0
"""The capture plan: rows of known calls, and rules that hold for all of them."""

from __future__ import annotations

import pytest

from kwatch.syscalls import calls, names
from kwatch.syscalls.capture import Limits, plan, variants
from kwatch.syscalls.capture_format import (
    IN_ORDER,
    LOW_32,
    NO_LIMIT,
    NO_SELECTOR,
    ROW,
    From,
    Nested,
    RowFlag,
    Selector,
    What,
    When,
)
from kwatch.syscalls.constants import ioctl_numbers
from kwatch.wire.events import Abi
from kwatch.wire.maps import CALL_NUMBERS, IPC_NUMBERS

CONTENT = Limits(content=256)


def row(name: str, abi: Abi = Abi.X86_64, limits: Limits = CONTENT):
    number = names.number(abi, name)
    assert number is not None
    return plan(abi, limits)[number]


def cell(name: str, register: int, abi: Abi = Abi.X86_64):
    """what, when, source, register of the length, of its limit, scale, cap"""
    found = row(name, abi)["cells"][register]
    what, when, source, operand, scale, cap = found.tolist()
    return what, when, source & ~LOW_32, operand & 15, operand >> 4, scale, cap


def test_a_row_fills_a_cache_line() -> None:
    assert ROW.itemsize == 64
    assert plan(Abi.X86_64).shape == (CALL_NUMBERS,)


@pytest.mark.parametrize(
    ("name", "register", "expected"),
    [
        ("openat", 1, (What.STRING, When.ENTRY, From.CONSTANT, 0, NO_LIMIT, 0, 4096)),
        ("read", 1, (What.BYTES, When.EXIT, From.RESULT, 0, NO_LIMIT, 1, 256)),
        ("write", 1, (What.BYTES, When.ENTRY, From.ARGUMENT, 2, NO_LIMIT, 1, 256)),
        ("recvfrom", 1, (What.BYTES, When.EXIT, From.RESULT, 0, 2, 1, 256)),
        ("recvfrom", 4, (What.BYTES, When.EXIT, From.POINTEE, 5, NO_LIMIT, 1, 4096)),
        (
            "recvfrom",
            5,
            (What.BYTES, When.ENTRY | When.EXIT, From.CONSTANT, 0, NO_LIMIT, 4, 4096),
        ),
        ("connect", 1, (What.BYTES, When.ENTRY, From.ARGUMENT, 2, NO_LIMIT, 1, 4096)),
        ("epoll_wait", 1, (What.BYTES, When.EXIT, From.RESULT, 0, NO_LIMIT, 12, 4096)),
        ("poll", 0, (What.BYTES, When.ENTRY | When.EXIT, From.ARGUMENT, 1, NO_LIMIT, 8, 4096)),
        ("select", 1, (What.BYTES, When.ENTRY | When.EXIT, From.BITS, 0, NO_LIMIT, 1, 4096)),
        ("mincore", 2, (What.BYTES, When.EXIT, From.PAGES, 1, NO_LIMIT, 1, 4096)),
        ("getdents64", 1, (What.BYTES, When.EXIT, From.RESULT, 0, NO_LIMIT, 1, 32768)),
        ("newfstatat", 2, (What.BYTES, When.EXIT, From.CONSTANT, 0, NO_LIMIT, 144, 4096)),
        ("execve", 2, (What.POINTERS, When.ENTRY, From.CONSTANT, 0, NO_LIMIT, 0, 4096)),
        (
            "nanosleep",
            1,
            (What.BYTES, When.EXIT | When.ON_ERROR, From.CONSTANT, 0, NO_LIMIT, 16, 4096),
        ),
        ("bpf", 1, (What.BYTES, When.ENTRY | When.EXIT, From.ARGUMENT, 2, NO_LIMIT, 1, 168)),
        ("perf_event_open", 0, (What.BYTES, When.ENTRY, From.SECOND, 0, NO_LIMIT, 1, 4096)),
    ],
)
def test_cells(name: str, register: int, expected: tuple[int, ...]) -> None:
    assert cell(name, register) == expected


def test_only_the_lower_half_of_an_int_is_a_length() -> None:
    assert row("connect")["cells"][1]["source"] == From.ARGUMENT | LOW_32, "int addrlen"
    assert row("select")["cells"][1]["source"] == From.BITS | LOW_32, "int n"
    assert row("write")["cells"][1]["source"] == From.ARGUMENT, "size_t count"
    assert row("getsockname")["cells"][1]["source"] == From.POINTEE, "int *usockaddr_len"


def test_the_type_of_a_message_comes_before_its_bytes() -> None:
    what, when, source, *_, cap = cell("msgrcv", 1)
    assert (what, source, when >> 4, cap) == (What.BYTES, From.RESULT, 2, 256 + 8)


@pytest.mark.parametrize(
    ("name", "nested", "register", "when"),
    [
        ("readv", Nested.IOVEC, 1, When.EXIT),
        ("writev", Nested.IOVEC, 1, When.ENTRY),
        ("recvmsg", Nested.MSGHDR, 1, When.EXIT),
        ("sendmmsg", Nested.MMSGHDR, 1, When.ENTRY),
        ("execve", Nested.STRINGS, 1, When.ENTRY),
        ("pselect6", Nested.POINTER, 5, When.ENTRY),
    ],
)
def test_nested_arguments(name: str, nested: int, register: int, when: int) -> None:
    found = row(name)["nested"]
    assert (found["what"], found["register"], found["when"]) == (nested, register, when)


def test_without_content_no_buffer_is_read() -> None:
    for name in ("read", "write", "recvfrom", "pwrite64", "getrandom", "msgsnd"):
        assert row(name, limits=Limits())["cells"][1]["what"] == What.NONE
    assert row("readv", limits=Limits())["nested"]["cap"] == 0
    assert row("openat", limits=Limits())["cells"][1]["what"] == What.STRING


@pytest.mark.parametrize("abi", Abi)
def test_rows_of_every_call(abi: Abi) -> None:
    rows = plan(abi, CONTENT)
    for nr, found in enumerate(rows):
        call = calls.call(abi, nr)
        assert bool(found["flags"] & RowFlag.KNOWN) == (call is not None)
        if call is None:
            continue
        assert (found["effect"], found["words"]) == (call.effect, call.words)
        for register, one in enumerate(found["cells"]):
            assert one["what"] == What.NONE or register < call.words
            if int(one["source"]) & ~LOW_32 not in (From.CONSTANT, From.RESULT):
                assert one["operand"] & 15 < call.words
            if one["what"] == What.BYTES and one["source"] == From.CONSTANT:
                assert one["scale"] > 0


def test_a_variant_has_the_command_of_its_abi() -> None:
    found = {(int(v["number"]), int(v["command"])): v["row"] for v in variants(Abi.X86_64)}
    ioctl, request = names.number(Abi.X86_64, "ioctl"), ioctl_numbers(Abi.X86_64)

    get = found[ioctl, request["TCGETS"]]["cells"][2]
    assert (get["what"], get["when"], get["scale"]) == (What.BYTES, When.EXIT, 36)
    assert found[ioctl, request["FICLONE"]]["cells"][2]["what"] == What.NONE
    assert plan(Abi.X86_64)[ioctl]["cells"][2]["what"] == What.IOCTL
    keys = list(found)
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("name", "selector"),
    [
        ("fcntl", 1),
        ("ioctl", 1),
        ("getsockopt", 2 | Selector.SOCKET_LEVEL),
        ("futex", 1 | Selector.LOW_7_BITS),
        ("shmctl", 1 | Selector.WITHOUT_IPC_64),
        ("read", NO_SELECTOR),
    ],
)
def test_selectors(name: str, selector: int) -> None:
    assert row(name)["selector"] == selector


def test_calls_inside_ipc_know_their_registers() -> None:
    rows = plan(Abi.I386)
    assert rows[names.number(Abi.I386, "socketcall")]["flags"] & RowFlag.INDIRECT
    assert rows[IPC_NUMBERS + 1]["order"] == 0x241, "semop(first, ptr, second)"
    assert rows[names.number(Abi.I386, "read")]["order"] == IN_ORDER


def test_pointers_have_4_bytes_where_longs_do() -> None:
    assert row("nanosleep", Abi.I386)["cells"][0]["scale"] == 8
    assert row("utimensat", Abi.X86_64)["cells"][2]["scale"] == 32
