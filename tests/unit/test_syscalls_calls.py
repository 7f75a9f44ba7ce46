# SPDX-License-Identifier: Apache-2.0
"""The table of arguments: every call has a row, and what is easily got wrong is right."""

from __future__ import annotations

import importlib

import pytest

from kwatch.syscalls import calls, names
from kwatch.syscalls.calls import Effect
from kwatch.syscalls.constants import constants, ioctl_numbers, numbers
from kwatch.syscalls.data_files import by_name
from kwatch.syscalls.kinds import Source, parse
from kwatch.syscalls.layouts import layout
from kwatch.wire.events import Abi
from kwatch.wire.maps import CALL_NUMBERS, IPC_NUMBERS, SOCKETCALL_NUMBERS


def kinds_of(name: str, abi: Abi = Abi.X86_64, variant: str = "") -> dict[str, calls.Kind]:
    call = calls.named(abi, name, variant)
    assert call is not None
    return {argument.name: argument.kind for argument in call.arguments}


@pytest.mark.parametrize("abi", Abi)
def test_every_call_with_a_name_has_a_row(abi: Abi) -> None:
    named = [nr for nr in range(CALL_NUMBERS) if not names.name(abi, nr).startswith("syscall_")]

    assert len(named) > 300
    assert [names.name(abi, nr) for nr in named if calls.call(abi, nr) is None] == []


@pytest.mark.parametrize("abi", Abi)
def test_every_call_of_the_newest_kernel_has_a_row(abi: Abi) -> None:
    module = {Abi.AARCH64: "arm64"}.get(abi, abi.name.lower())
    table = vars(importlib.import_module(f"system_calls.tables.{module}"))[f"syscalls_{module}"]
    numbers_of = {nr & 0xFFF for nr in table.values() if not nr & 0xF0000}

    assert len(numbers_of) > 300
    assert [nr for nr in numbers_of if calls.call(abi, nr) is None] == []


def test_every_kind_is_known() -> None:
    """Scalars, sets, structures: nothing falls through to an address by a misspelling."""
    from kwatch.syscalls.decode.conditional import CONDITIONAL
    from kwatch.syscalls.decode.pointers import MAKERS
    from kwatch.syscalls.decode.scalars import SCALARS
    from kwatch.syscalls.kinds import NESTED

    scalars = {*SCALARS, "ulong", "long", "addr", "none"} | {kind for _, kind in CONDITIONAL}
    pointees = {*MAKERS, *by_name("structs"), *NESTED}
    unknown = {
        (name, kind.base)
        for name, rows in by_name("calls").items()
        for kind in map(parse, (cell.partition(":")[2] for cell in rows[0][2].split()))
        if kind.base not in (pointees if kind.is_pointer else scalars)
        and (kind.is_pointer or kind.base not in by_name("constants"))
        and not (kind.is_pointer and kind.base in ("uint", "int", "hex"))
    }
    assert unknown == set()


@pytest.mark.parametrize(
    ("name", "second"), [("stat", "stat"), ("fstat", "stat"), ("lstat", "stat"), ("uname", None)]
)
def test_renamed_calls_take_the_new_structures(name: str, second: str | None) -> None:
    """tracefs calls them newstat, newfstat, newlstat, newuname; BTF has only the old ones."""
    pointees = [kind.base for kind in kinds_of(name).values() if kind.is_written]
    assert pointees == [second or "utsname"]


@pytest.mark.parametrize("name", ["getpid", "fork", "sync", "munlockall", "rt_sigreturn"])
def test_calls_without_arguments_have_none(name: str) -> None:
    assert kinds_of(name) == {}


@pytest.mark.parametrize(
    ("name", "argument", "is_read", "is_written"),
    [
        ("connect", "uservaddr", True, False),
        ("bind", "umyaddr", True, False),
        ("sendto", "addr", True, False),
        ("mount", "data", True, False),
        ("io_submit", "iocbpp", True, False),
        ("sched_setattr", "uattr", True, False),
        ("readv", "vec", False, True),
        ("getsockname", "usockaddr_len", True, True),
        ("recvfrom", "ubuf", False, True),
    ],
)
def test_directions_do_not_follow_const(
    name: str, argument: str, is_read: bool, is_written: bool
) -> None:
    kind = kinds_of(name)[argument]
    assert (kind.is_read, kind.is_written) == (is_read, is_written)


@pytest.mark.parametrize("nr", [335, 336, *range(451, 472)])
def test_calls_that_others_do_not_know_have_names_and_rows(nr: int) -> None:
    assert not names.name(Abi.X86_64, nr).startswith("syscall_")
    assert calls.call(Abi.X86_64, nr) is not None


def test_errors_that_python_does_not_know_have_names() -> None:
    assert numbers("errno", Abi.X86_64)["EHWPOISON"] == 133


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("perf_event_open", "attr_uptr"),
        ("landlock_create_ruleset", "attr"),
        ("bpf", "uattr"),
        ("clone3", "uargs"),
        ("openat2", "how"),
        ("mount_setattr", "uattr"),
        ("sched_setattr", "uattr"),
        ("sched_getattr", "uattr"),
        ("file_getattr", "ufattr"),
        ("statmount", "req"),
        ("statmount", "buf"),
    ],
)
def test_structures_that_grow_have_the_callers_size(name: str, argument: str) -> None:
    length = kinds_of(name)[argument].length
    assert length is not None
    assert length.source is not Source.CONSTANT


@pytest.mark.parametrize(
    ("request_name", "base", "size"),
    [
        ("TCGETS", "termios", 36),
        ("TIOCGWINSZ", "winsize", 8),
        ("FIONREAD", "int", 4),
        ("FS_IOC_GETFLAGS", "int", 4),
        ("FICLONE", "fd", None),
        ("PERF_EVENT_IOC_SET_BPF", "fd", None),
    ],
)
def test_requests_whose_numbers_lie(request_name: str, base: str, size: int | None) -> None:
    kind = kinds_of("ioctl", variant=request_name)["arg"]
    found = layout(base, Abi.X86_64)

    assert request_name in ioctl_numbers(Abi.X86_64)
    assert kind.base == base
    assert kind.is_written == (size is not None)
    assert size is None or (found is not None and found.size == size)


def test_halves_of_64_bits_lie_in_the_next_registers_of_i386() -> None:
    call = calls.named(Abi.I386, "pread64")
    assert call is not None
    assert [(a.name, a.word, a.is_split) for a in call.arguments][-1] == ("pos", 3, True)
    assert call.words == 5


def test_halves_of_64_bits_lie_in_an_even_pair_of_arm() -> None:
    pread, truncate = calls.named(Abi.ARM, "pread64"), calls.named(Abi.ARM, "ftruncate64")
    assert pread is not None
    assert truncate is not None
    assert pread.arguments[-1].word == 4
    assert truncate.arguments[-1].word == 2


@pytest.mark.parametrize(
    ("nr", "name", "arguments"),
    [
        (SOCKETCALL_NUMBERS + 3, "connect", ["fd", "uservaddr", "addrlen"]),
        (SOCKETCALL_NUMBERS + 10, "recv", ["fd", "ubuf", "size", "flags"]),
        (IPC_NUMBERS + 21, "shmat", ["shmid", "shmaddr", "shmflg"]),
    ],
)
def test_calls_inside_others_have_rows_of_their_own(
    nr: int, name: str, arguments: list[str]
) -> None:
    call = calls.call(Abi.I386, nr)
    assert call is not None
    assert call.name == name
    assert [argument.name for argument in call.arguments] == arguments


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("read", Effect.READS_CONTENT),
        ("recvmsg", Effect.READS_CONTENT),
        ("write", Effect.WRITES_CONTENT),
        ("newfstatat", Effect.READS_STATUS),
        ("getpid", Effect.READS_STATUS),
        ("unlink", Effect.WRITES_STATUS),
        ("setuid", Effect.WRITES_STATUS),
    ],
)
def test_effects(name: str, effect: Effect) -> None:
    call = calls.named(Abi.X86_64, name)
    assert call is not None
    assert call.effect is effect


def test_a_structure_has_the_layout_of_its_abi() -> None:
    sizes = {abi: found.size for abi in Abi if (found := layout("stat", abi))}
    assert (sizes[Abi.X86_64], sizes[Abi.I386], sizes[Abi.AARCH64]) == (144, 64, 128)
    epoll = {abi: found.size for abi in Abi if (found := layout("epoll_event", abi))}
    assert (epoll[Abi.X86_64], epoll[Abi.AARCH64], epoll[Abi.ARM]) == (12, 16, 16)


def test_constants_differ_by_abi() -> None:
    assert numbers("open_flags", Abi.X86_64)["O_DIRECTORY"] == 0o200000
    assert numbers("open_flags", Abi.ARM)["O_DIRECTORY"] == 0o40000
    found = constants("map_flags", Abi.AARCH64)
    assert found is not None
    assert "MAP_32BIT" not in {constant.name for constant in found.constants}


@pytest.mark.parametrize("text", ["", "<", "<>x[", "<x[a b]", ">x[*]"])
def test_a_damaged_kind_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        parse(text)
