# SPDX-License-Identifier: Apache-2.0
"""Lines and JSON objects of a trace, from calls with known contents."""

from __future__ import annotations

import io
import json
import signal
import struct
import time

import pytest

from kwatch.model.traced_call import Moment, TracedCall
from kwatch.sinks.argument_texts import argument_texts
from kwatch.sinks.signal_text import signal_line
from kwatch.sinks.trace_json import TraceJson
from kwatch.sinks.trace_lines import LineStyle, TraceLines
from kwatch.syscalls import names
from kwatch.syscalls.decode.formatter import NO_PIECES
from kwatch.wire.events import Abi

NOON = int(time.mktime((2026, 3, 4, 12, 0, 0, 0, 0, -1))) * 1_000_000_000
AT_FDCWD = 0xFFFFFF9C


def call(name="close", arguments=(3,), result=0, pieces=None, **fields):
    known = list(NO_PIECES)
    for number, piece in (pieces or {}).items():
        known[number] = piece
    defaults = {
        "moment": Moment.RETURNED,
        "pid": 100,
        "tid": 100,
        "comm": b"cat",
        "abi": Abi.X86_64,
        "nr": names.number(Abi.X86_64, name),
        "name": name,
        "time_ns": NOON,
        "duration_ns": 12_345,
        "result": result,
        "arguments": [*arguments, *[0] * (6 - len(arguments))],
        "pieces": known,
    }
    return TracedCall(**defaults | fields)


def lines(*calls, **style):
    stream = io.StringIO()
    TraceLines(stream, LineStyle(**style)).write(calls)
    return stream.getvalue().splitlines()


OPEN = call("openat", (AT_FDCWD, 0x1000, 0o2000000), 3, {1: b"/etc/passwd\0"})
EXIT = call("exit_group", (0,), duration_ns=None)


BLOCKED = call("read", (3, 0x1000, 8), 2, {7: b"ab"}, seq=5, entry_tid=100)


def test_a_call_that_takes_long_has_two_lines():
    """The second one tells when the call returned. Another call of the thread comes between."""
    begun = BLOCKED._replace(moment=Moment.BLOCKED, duration_ns=2_000_000_000)
    ended = BLOCKED._replace(duration_ns=3_000_000_000)
    assert lines(begun, call(seq=6, entry_tid=100), ended, ended, clock=1) == [
        "12:00:00 read(3,  <unfinished ...>",
        "12:00:00 close(3)                       = 0",
        '12:00:03 <... read resumed>"ab", 8)     = 2',
        '12:00:00 read(3, "ab", 8)               = 2',
    ]


@pytest.mark.parametrize(
    ("moment", "end"), [("UNFINISHED", "unfinished ...>) = ?"), ("IN_PROGRESS", "detached ...>")]
)
def test_a_long_call_that_does_not_return(moment, end):
    begun, ended = (
        BLOCKED._replace(moment=Moment[each], pieces=NO_PIECES) for each in ("BLOCKED", moment)
    )
    assert lines(begun, ended)[1] == f"<... read resumed>0x1000, 8 <{end}"


def test_the_result_is_at_column_40_where_it_fits():
    assert lines(call(), OPEN, EXIT) == [
        "close(3)                                = 0",
        'openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC) = 3',
        "exit_group(0)                           = ?",
    ]


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ({"clock": 1}, "12:00:00 close(3)                       = 0"),
        ({"clock": 2}, "12:00:00.000000 close(3)                = 0"),
        ({"clock": 3}, f"{NOON // 10**9}.000000 close(3)              = 0"),
        ({"relative": True}, "     0.000000 close(3)                  = 0"),
        ({"relative": True, "clock": 1}, "12:00:00 (+     0.000000) close(3)      = 0"),
        ({"spent": True}, "close(3)                                = 0 <0.000012>"),
        ({"pids": True}, "100   close(3)                          = 0"),
        ({"color": True}, "\x1b[1mclose\x1b[0m(3)                                = 0"),
    ],
)
def test_what_options_add(style, expected):
    assert lines(call(), **style) == [expected]


def test_the_time_since_the_line_before():
    second = call(time_ns=NOON + 1_500_000)
    assert lines(call(), second, relative=True)[1] == "     0.001500 close(3)                  = 0"


def test_threads_are_named_while_there_are_several():
    ended = call(tid=101, moment=Moment.ENDED, result=7 << 8)
    assert lines(call(), call(tid=101), ended, call()) == [
        "close(3)                                = 0",
        "[pid   101] close(3)                    = 0",
        "[pid   101] +++ exited with 7 +++",
        "close(3)                                = 0",
    ]


def test_calls_that_do_not_return():
    killed = call("read", (0, 0x7000, 100), moment=Moment.UNFINISHED)
    ended = call(moment=Moment.ENDED, result=signal.SIGKILL)
    waiting = call("pause", (), moment=Moment.IN_PROGRESS)
    assert lines(killed, ended, waiting) == [
        "read(0, 0x7000, 100 <unfinished ...>) = ?",
        "+++ killed by SIGKILL +++",
        "pause( <detached ...>",
    ]


def siginfo(number, code, *rest, layout="=iiii"):
    data = struct.pack(layout, number, 0, code, 0, *rest)
    return struct.unpack("=6Q", data.ljust(48, b"\0"))


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (
            17,
            siginfo(17, 1, 42, 0, 3, 0, 1, 2, layout="=iiiiIIiiqq"),
            "SIGCHLD, si_code=CLD_EXITED, si_pid=42, si_uid=0, si_status=3, si_utime=1, si_stime=2",
        ),
        (
            17,
            siginfo(17, 2, 42, 0, 9, 0, 0, 0, layout="=iiiiIIiiqq"),
            "SIGCHLD, si_code=CLD_KILLED, si_pid=42, si_uid=0, si_status=SIGKILL, si_utime=0, "
            "si_stime=0",
        ),
        (11, siginfo(11, 1, 0x10, layout="=iiiiQ"), "SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x10"),
        (
            15,
            siginfo(15, 0, 7, 1000, layout="=iiiiII"),
            "SIGTERM, si_code=SI_USER, si_pid=7, si_uid=1000",
        ),
        (14, siginfo(14, 0x80), "SIGALRM, si_code=SI_KERNEL"),
    ],
)
def test_signals(number, words, expected):
    name = expected.partition(",")[0]
    assert signal_line(number, words) == f"--- {name} {{si_signo={expected}}} ---"


def objects(*calls):
    stream = io.StringIO()
    TraceJson(stream, 32).write(calls)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_has_the_text_and_the_registers():
    failed = call("openat", (AT_FDCWD, 0x1000, 0), -2, {1: b'/a"b, c\0'})
    found = objects(failed, EXIT)
    assert found[0]["args"] == ["AT_FDCWD", '"/a\\"b, c"', "O_RDONLY"]
    assert (found[0]["ret"], found[0]["error"], found[0]["arg0"]) == (-2, "ENOENT", AT_FDCWD)
    assert (found[1]["ret"], found[1]["error"], found[1]["duration_ns"]) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("3", ["3"]),
        ('1, "a, (b", 2', ["1", '"a, (b"', "2"]),
        (
            "{st_mode=1, st_size=2, ...}, [1, 2], f(3, 4)",
            ["{st_mode=1, st_size=2, ...}", "[1, 2]", "f(3, 4)"],
        ),
        ('"\\\\", 4', ['"\\\\"', "4"]),
    ],
)
def test_arguments_are_split_between_them_only(text, parts):
    assert argument_texts(text) == parts
