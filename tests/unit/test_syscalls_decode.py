# SPDX-License-Identifier: Apache-2.0
"""Captured bytes as text. What strace prints of real calls is compared in tests/kernel."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.syscalls import calls, names
from kwatch.syscalls.decode import signals, text
from kwatch.syscalls.decode.formatter import Formatter
from kwatch.syscalls.decode.vectors import chunks
from kwatch.wire.events import Abi
from kwatch.wire.maps import CALL_NUMBERS

AT_FDCWD = 0xFFFFFF9C


def shown(
    name: str, *registers: int, result: int | None = 0, abi: Abi = Abi.X86_64, **pieces: bytes
) -> str:
    """`in1=` and `out1=` are the pieces of register 1; `nested=` the chunks."""
    number = names.number(abi, name)
    assert number is not None
    given: list[bytes | None] = [None] * 13
    for place, data in pieces.items():
        at = 12 if place == "nested" else int(place[-1]) + (6 if place.startswith("out") else 0)
        given[at] = data
    words = (*registers, *(0,) * (6 - len(registers)))
    arguments, end = Formatter(abi).text(number, words, result, given)
    return f"{name}({arguments}) = {end}"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"plain", '"plain"'),
        (b'tab\t nl\n "q" \\', '"tab\\t nl\\n \\"q\\" \\\\"'),
        (b"\x001\x009\x00a\x1b\x7f\xff", '"\\0001\\0009\\0a\\33\\177\\377"'),
        (b"", '""'),
        (b"x" * 33, f'"{"x" * 32}"...'),
    ],
)
def test_strings(data: bytes, expected: str) -> None:
    assert text.quoted(data, len(data), 32) == expected


def test_a_path_is_shown_wholly_and_dots_say_that_its_end_was_not_captured() -> None:
    whole, cut = b"/" + b"a" * 100 + b"\0", b"/" + b"a" * 100
    assert f'"/{"a" * 100}", ' in shown("openat", AT_FDCWD, 8, in1=whole)
    assert f'"/{"a" * 100}"..., ' in shown("openat", AT_FDCWD, 8, in1=cut)


@pytest.mark.parametrize("upper", [0, 0xFFFFFFFF00000000, 0x1234567800000000])
def test_the_upper_half_of_an_int_does_not_count(upper: int) -> None:
    line = shown("openat", AT_FDCWD | upper, 8, 0x80000, in1=b"x\0", result=3)
    assert line == 'openat(AT_FDCWD, "x", O_RDONLY|O_CLOEXEC) = 3'


def test_the_upper_half_of_a_length_does_not_count() -> None:
    length = 4 | 0x5555 << 32
    line = shown("setsockopt", 3, 99, 1, 8, length, in3=b"abcdefgh"[:4])
    assert line == "setsockopt(3, 0x63 /* SOL_?? */, 1, [1684234849], 4) = 0"
    line = shown("sethostname", 8, length, in0=b"host")
    assert line == 'sethostname("host", 4) = 0'


def test_what_was_not_captured_is_an_address_never_an_empty_string() -> None:
    assert shown("write", 1, 0x7F00, 3) == "write(1, 0x7f00, 3) = 0"
    assert shown("write", 1, 0, 3) == "write(1, NULL, 3) = 0"
    assert shown("write", 1, 0x7F00, 0, in1=b"") == 'write(1, "", 0) = 0'
    assert shown("execve", 8, 16, 24, in0=b"x\0") == 'execve("x", 0x10, 0x18) = 0'


def test_a_path_that_was_read_at_exit_stands_for_the_one_at_entry() -> None:
    assert shown("unlink", 8, out0=b"late\0") == 'unlink("late") = 0'


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (-2, "-1 ENOENT (No such file or directory)"),
        (-133, "-1 EHWPOISON (Memory page has hardware error)"),
        (-512, "? ERESTARTSYS (To be restarted if SA_RESTART is set)"),
        (-4095, "-1 (errno 4095)"),
        (None, "?"),
    ],
)
def test_results(result: int | None, expected: str) -> None:
    assert shown("close", 3, result=result) == f"close(3) = {expected}"


def test_an_address_is_no_error() -> None:
    assert shown("mmap", 0, 4096, 3, 0x22, -1, 0, result=-4096).endswith("= 0xfffffffffffff000")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (("access", 8, 0), "F_OK"),
        (("access", 8, 6), "R_OK|W_OK"),
        (("access", 8, 0x18), "0x18 /* ?_OK */"),
        (("mprotect", 0, 1, 0), "PROT_NONE"),
        (("eventfd2", 0, 0x80801), "EFD_SEMAPHORE|EFD_CLOEXEC|EFD_NONBLOCK"),
        (("eventfd2", 0, 0x81000), "EFD_CLOEXEC|0x1000"),
        (("eventfd2", 0, 0), "0"),
        (("lseek", 0, 0, 9), "0x9 /* SEEK_??? */"),
        (("mknod", 8, 0o104755, 7), "S_IFREG|S_ISUID|0755"),
        (("umount2", 8, 0xF0), "0xf0 /* MNT_??? */"),
    ],
)
def test_flags_and_constants(call: tuple, expected: str) -> None:
    assert shown(*call).partition(") =")[0].endswith(f", {expected}")


def test_a_64_bit_argument_of_i386_lies_in_two_registers() -> None:
    line = shown("pread64", 3, 8, 4, 0xFFFFFFFB, 0xFFFFFFFF, abi=Abi.I386, result=-22)
    assert line == "pread64(3, 0x8, 4, -5) = -1 EINVAL (Invalid argument)"
    line = shown("ftruncate64", 3, 1, 2, abi=Abi.I386)
    assert line == "ftruncate64(3, 8589934593) = 0"


def test_structures_have_the_sizes_of_their_abi() -> None:
    times = struct.pack("<ii", 1, 2)
    assert "{tv_sec=1, tv_nsec=2}" in shown("nanosleep", 8, 0, abi=Abi.I386, in0=times)
    assert "{tv_sec=8589934593, ...}" in shown("nanosleep", 8, 0, in0=times), "half of one"


def test_the_length_that_came_back_does_not_lengthen_what_was_written() -> None:
    address = struct.pack("<HH", 2, 80) + bytes(12)
    line = shown("getsockname", 3, 8, 16, in2=b"\4\0\0\0", out1=address, out2=b"\x10\0\0\0")
    assert line == 'getsockname(3, {sa_family=AF_INET, sa_data="P\\0"}, [4 => 16]) = 0'


def test_a_truncated_datagram_has_no_more_bytes_than_the_buffer() -> None:
    line = shown("recvfrom", 3, 8, 4, 0x20, result=10, out1=b"abcd")
    assert line == 'recvfrom(3, "abcd", 4, MSG_TRUNC, NULL, NULL) = 10'


def test_segments_hold_what_arrived() -> None:
    vector = struct.pack("<4Q", 0x1000, 3, 0x2000, 100)
    nested = b"".join(struct.pack("<i", len(c)) + c for c in (vector, b"abc", b"de"))
    line = shown("readv", 3, 8, 2, result=5, nested=nested)
    assert line == 'readv(3, [{iov_base="abc", iov_len=3}, {iov_base="de", iov_len=100}], 2) = 5'


def test_a_segment_that_was_not_resident_is_its_address() -> None:
    vector = struct.pack("<2Q", 0x1000, 3)
    nested = struct.pack("<i", len(vector)) + vector + struct.pack("<i", -1)
    assert "[{iov_base=0x1000, iov_len=3}]" in shown("writev", 3, 8, 1, nested=nested)


def test_damaged_chunks_end_the_list() -> None:
    assert chunks(struct.pack("<i", 5) + b"abc") == []
    assert chunks(struct.pack("<i", -7)) == []
    assert chunks(b"\1\0") == []
    assert chunks(struct.pack("<i", 1) + b"x" + struct.pack("<i", -1)) == [b"x", None]


def test_unknown_calls_show_their_registers() -> None:
    assert Formatter(Abi.X86_64).text(999, (1, 2, 3, 4, 5, 6), -38)[0] == (
        "0x1, 0x2, 0x3, 0x4, 0x5, 0x6"
    )


def test_descriptors_may_say_what_they_are() -> None:
    class Known:
        def argument(self, fd: int) -> str:
            return f"{fd}<before>"

        def result(self, fd: int) -> str:
            return f"{fd}<after>"

    formatter = Formatter(Abi.X86_64, descriptors=Known())
    assert formatter.text(3, (3, 0, 0, 0, 0, 0), 0) == ("3<before>", "0")
    assert formatter.text(257, (AT_FDCWD, 0, 0, 0, 0, 0), 3) == (
        "-100<before>, NULL, O_RDONLY",
        "3<after>",
    )
    pipe: list[bytes | None] = [None] * 13
    pipe[6] = struct.pack("<ii", 3, 4)
    assert formatter.text(293, (8, 0, 0, 0, 0, 0), 0, pipe)[0] == "[3<after>, 4<after>], 0"
    assert formatter.text(436, (3, 5, 0, 0, 0, 0), 0)[0] == "3, 5, 0"
    assert formatter.text(257, (AT_FDCWD, 0, 0, 0, 0, 0), -14)[1].startswith("-1 EFAULT")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0x0300, "[{WIFEXITED(s) && WEXITSTATUS(s) == 3}]"),
        (0x000B | 0x80, "[{WIFSIGNALED(s) && WTERMSIG(s) == SIGSEGV && WCOREDUMP(s)}]"),
        (0x137F, "[{WIFSTOPPED(s) && WSTOPSIG(s) == SIGSTOP}]"),
        (0xFFFF, "[{WIFCONTINUED(s)}]"),
    ],
)
def test_ends_of_children(status: int, expected: str) -> None:
    assert signals.wait_status(status) == expected


#: A call of some ABI, with any registers, result and bytes.
_CALLS = [(abi, nr) for abi in Abi for nr in range(CALL_NUMBERS) if calls.call(abi, nr)]
_WORDS = st.one_of(st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(0, 300))
_BYTES = st.none() | st.binary(max_size=200)


@settings(deadline=None)
@given(
    st.sampled_from(_CALLS),
    st.lists(_WORDS, min_size=6, max_size=6),
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-600, 600),
    st.lists(_BYTES, min_size=13, max_size=13),
)
def test_nothing_that_was_captured_fails(call, registers, result, pieces) -> None:
    abi, nr = call
    arguments, end = Formatter(abi).text(nr, registers, result, pieces)
    assert arguments.isascii()
    assert arguments.isprintable()
    assert end
