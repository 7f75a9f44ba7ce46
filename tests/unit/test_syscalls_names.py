# SPDX-License-Identifier: Apache-2.0
"""The table of system calls against the kernel's own headers and a package on PyPI."""

import importlib
import re
from pathlib import Path

import pytest

from kwatch.syscalls import names
from kwatch.wire.events import Abi
from kwatch.wire.maps import SOCKETCALL_NUMBERS

ROOT = Path(__file__).parents[2]
HEADERS = Path("/usr/include/x86_64-linux-gnu/asm")
NUMBER = re.compile(r"^#define __NR_(\w+) (?:\(__X32_SYSCALL_BIT \+ )?(\d+)\)?$", re.MULTILINE)


@pytest.mark.parametrize(
    ("abi", "header"),
    [
        (Abi.X86_64, HEADERS / "unistd_64.h"),
        (Abi.I386, HEADERS / "unistd_32.h"),
        (Abi.X32, HEADERS / "unistd_x32.h"),
    ],
)
def test_every_call_of_the_kernel_headers_has_its_name_and_number(abi: Abi, header: Path) -> None:
    if not header.exists():
        pytest.skip(f"{header} is absent: install linux-libc-dev on x86-64")
    calls = {name: int(nr) for name, nr in NUMBER.findall(header.read_text())}

    assert len(calls) > 300
    assert {name: names.number(abi, name) for name in calls} == calls
    assert {names.name(abi, nr) for nr in calls.values()} == set(calls)


#: strace has other names for these.
OF_STRACE = {"arm_fadvise64_64": "fadvise64_64"}
ARM_PRIVATE = 0xF0000


@pytest.mark.parametrize("abi", Abi)
def test_every_call_of_the_newest_kernel_has_its_name_and_number(abi: Abi) -> None:
    """The package has the names and numbers of all kernels up to its own version."""
    module = {Abi.AARCH64: "arm64"}.get(abi, abi.name.lower())
    table = vars(importlib.import_module(f"system_calls.tables.{module}"))[f"syscalls_{module}"]
    public = {name: nr for name, nr in table.items() if not nr & ARM_PRIVATE}
    calls = {OF_STRACE.get(name, name): nr & 0xFFF for name, nr in public.items()}

    assert len(calls) > 300
    assert calls.keys() >= {"listns", "rseq_slice_yield"}
    assert {name: names.number(abi, name) for name in calls} == calls


@pytest.mark.parametrize(
    ("abi", "nr", "name"),
    [
        (Abi.X86_64, 17, "pread64"),
        (Abi.X86_64, 262, "newfstatat"),
        (Abi.X86_64, 335, "uretprobe"),
        (Abi.I386, 192, "mmap2"),
        (Abi.X32, 512, "rt_sigaction"),
        (Abi.AARCH64, 56, "openat"),
        (Abi.ARM, 341, "sync_file_range2"),
        *((abi, 462, "mseal") for abi in Abi),
    ],
)
def test_names_are_those_strace_prints(abi: Abi, nr: int, name: str) -> None:
    assert names.name(abi, nr) == name
    assert names.number(abi, name) == nr


@pytest.mark.parametrize("abi", Abi)
def test_every_number_has_a_name_that_leads_back_to_it(abi: Abi) -> None:
    numbers = range(names.CALL_NUMBERS)

    assert all(nr in names.numbers(abi, names.name(abi, nr)) for nr in numbers)
    assert {names.name(abi, nr) for nr in numbers} <= names.everything()


def test_a_call_without_a_name_is_called_by_its_number() -> None:
    assert names.name(Abi.X86_64, 999) == "syscall_999"
    assert names.number(Abi.X86_64, "syscall_0") is None, "0 is read"
    assert names.number(Abi.AARCH64, "open") is None
    assert names.number(Abi.X86_64, "opne") is None


@pytest.mark.parametrize(
    ("outer", "argument", "inner"),
    [
        ("socketcall", 1, "socket"),
        ("socketcall", 3, "connect"),
        ("socketcall", 20, "sendmmsg"),
        ("socketcall", 0, "socketcall"),
        ("socketcall", 21, "socketcall"),
        ("ipc", 1, "semop"),
        ("ipc", 0x10000 | 12, "msgrcv"),  # with the version that the upper half has
        ("ipc", 24, "shmctl"),
        ("ipc", 5, "ipc"),
    ],
)
def test_calls_inside_i386s_own_are_named(outer: str, argument: int, inner: str) -> None:
    nr = names.number(Abi.I386, outer)
    assert nr is not None
    found = names.inner_number(Abi.I386, nr, argument)

    assert names.name(Abi.I386, found) == inner
    assert found in names.numbers(Abi.I386, inner)
    assert names.inner_number(Abi.X86_64, nr, argument) == nr


def test_no_kernel_has_the_numbers_of_inner_calls() -> None:
    known = (names.number(abi, name) for abi in Abi for name in names.all_names())
    assert max(nr for nr in known if nr is not None) < SOCKETCALL_NUMBERS
