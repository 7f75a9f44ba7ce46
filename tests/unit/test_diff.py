# SPDX-License-Identifier: Apache-2.0
"""Two recordings with known differences."""

from __future__ import annotations

import json

import pytest
from harness.recordings import call, ended, opened, record

from kwatch.cli import main
from kwatch.recording.diff.normal import normal_path, normal_text


def run_of(base=0x7F0000000000, pid=100, content=b"hello", more=(), path=b"/etc/passwd", fd=3):
    """Calls of a thread; addresses and pids may differ."""
    mine = {"tgid": pid, "tid": pid}
    return [
        call("mmap", 0, 4096, 1, 34, 2**32 - 1, 0, result=base, **mine),
        call("getpid", result=pid, **mine),
        opened(path, fd=fd, **mine),
        *[(each[0] | mine, *each[1:]) for each in more],
        call("read", 3, base, 100, result=len(content), pieces={7: content}, **mine),
        call("close", 3, **mine),
        call("munmap", base, 4096, **mine),
        ended(**mine),
    ]


@pytest.fixture
def diff(tmp_path, capsys):
    """diff(first, second, *options): the exit status and the lines."""

    def run(first, second, *options):
        paths = [record(tmp_path / name, calls) for name, calls in (("a", first), ("b", second))]
        status = main(["diff", *paths, *options])
        return status, capsys.readouterr().out.splitlines()

    return run


def test_addresses_pids_and_times_do_not_count(diff):
    status, lines = diff(run_of(), run_of(base=0x7FFF12345000, pid=4711))
    assert (status, lines[2:]) == (0, ["no call differs"])
    assert lines[0].endswith("/a: 6 calls of 1 thread")


def test_a_result(diff):
    status, lines = diff(run_of(), run_of(fd=-13))
    assert status == 1
    assert lines[2:] == [
        "1 call differs; 0 only in the first run, 0 only in the second",
        "",
        "@@ cat[100] and cat[100], after 2 calls @@",
        " mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000",
        " getpid()                                = 100",
        '-openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3',
        '+openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = -1 EACCES (Permission denied)',
        ' read(3, "hello", 100)                   = 5',
        " close(3)                                = 0",
        " munmap(0x7f0000000000, 4096)            = 0",
        "  result: 3 | -1 EACCES (Permission denied)",
        "",
        "call    calls-  calls+  change  errors-  errors+",
        "openat       1       1      +0        0        1",
    ]


def test_contents_beyond_what_is_shown(diff):
    start = bytes(range(60)) * 3
    status, lines = diff(run_of(content=start + b"one\0"), run_of(content=start + b"two\xff"))
    assert status == 1
    assert '  buf, byte 180: "one\\x00" | "two\\xff"' in lines


def test_contents_of_another_length(diff):
    status, lines = diff(run_of(content=b"abc"), run_of(content=b"abcde"), "-s", "2")
    assert '  buf, byte 3: "" | "de"' in lines
    assert "  result: 3 | 5" in lines
    assert status == 1
    assert any(line.startswith('-read(3, "ab"..., 100) ') for line in lines)


def test_an_argument(diff):
    seeks = [[call("lseek", 3, place, 0, result=place)] for place in (1, 2)]
    status, lines = diff(run_of(more=seeks[0]), run_of(more=seeks[1]))
    assert status == 1
    assert {"  offset: 1 | 2", "  result: 1 | 2"} <= set(lines)


def test_another_path(diff):
    status, lines = diff(run_of(), run_of(path=b"/etc/shadow"))
    assert status == 1
    assert "0 calls differ; 1 only in the first run, 1 only in the second" in lines
    assert '-openat(AT_FDCWD, "/etc/passwd", O_RDONLY) = 3' in lines
    assert '+openat(AT_FDCWD, "/etc/shadow", O_RDONLY) = 3' in lines
    assert '  filename, byte 5: "passwd\\x00" | "shadow\\x00"' in lines


def test_calls_that_only_one_run_has(diff):
    status, lines = diff(run_of(), run_of(more=[call("getuid"), call("getgid")]))
    assert status == 1
    assert "0 calls differ; 0 only in the first run, 2 only in the second" in lines
    at = lines.index("+getuid()                                = 0")
    assert lines[at - 1].startswith(" openat")
    assert lines[at + 1 : at + 3] == ["+getgid()" + " " * 32 + "= 0", lines[at + 2]]
    assert lines[at + 2].startswith(" read")
    assert "getuid       0       1      +1        0        0" in lines


def in_turn(*ids):
    """Eight equal calls, then one with each of these ids, and a close behind each."""
    calls = [call("lseek", 3, place, 0, result=place) for place in range(8)]
    return [
        *calls,
        *(each for id_ in ids for each in (call("dup", id_, result=7), call("close", 7))),
    ]


def test_the_number_of_those_that_are_not_shown(diff):
    status, lines = diff(in_turn(1, 2, 3, 4), in_turn(5, 2, 6, 7))
    assert status == 1
    assert "3 calls differ; 0 only in the first run, 0 only in the second" in lines
    assert "2 more differences; --all shows them" in lines


def test_the_runs_meet_again_and_part_again(diff):
    """No call is shown twice."""
    lines = diff(in_turn(1, 2, 3), in_turn(4, 2, 5), "--all")[1]
    shown = [line.split(" = ")[0].rstrip() for line in lines[4:]]
    assert shown == [
        "@@ cat[100] and cat[100], after 8 calls @@",
        *(f" lseek(3, {place}, SEEK_SET)" for place in (5, 6, 7)),
        "-dup(1)",
        "+dup(4)",
        *(" close(7)", " dup(2)", " close(7)"),
        "  fildes: 1 | 4",
        "",
        "@@ cat[100] and cat[100], after 12 calls @@",
        "-dup(3)",
        "+dup(5)",
        " close(7)",
        "  fildes: 3 | 5",
    ]


def test_a_long_region(diff):
    more = [call("getuid")] * 9
    lines = diff(run_of(), run_of(more=more))[1]
    assert lines.count("+getuid()                                = 0") == 3
    at = lines.index(" ... 6 more calls ...")
    assert lines[at + 1].startswith(" read(3")


def test_json(diff):
    status, lines = diff(
        in_turn(1, 2, 3), [*in_turn(4, 2, 5), call("getuid")], "--json", "--max", "2"
    )
    summary, one, two, *rest = map(json.loads, lines)
    assert status == 1
    assert summary["runs"][1] | {"path": ""} == {"path": "", "calls": 15, "threads": 1}
    assert [summary[name] for name in ("changed", "only_second", "differences")] == [2, 1, 3]
    assert one["steps"] == [
        {
            "first": {"seq": 8, "text": "dup(1)                                  = 7"},
            "second": {"seq": 8, "text": "dup(4)                                  = 7"},
        }
    ]
    assert one["details"] == [{"what": "fildes", "first": "1", "second": "4"}]
    assert (two["calls_before"], two["omitted"]) == (12, 0)
    assert rest == [{"kind": "count", "name": "getuid", "calls": [0, 1], "errors": [0, 0]}]


@pytest.mark.parametrize("most", ["0", "-1", "x", ""])
def test_a_number_of_differences_that_is_none(diff, most):
    assert diff(run_of(), run_of(), f"--max={most}")[0] == 2


def test_threads_are_paired_by_name_in_order(diff):
    """Those of one name that another run starts first are still those of that name."""
    one = [opened(b"/one", tid=101, comm=b"one"), opened(b"/two", tid=102, comm=b"two")]
    two = [opened(b"/two", tid=7, comm=b"two"), opened(b"/one", tid=8, comm=b"one")]
    assert diff(one, two)[0] == 0


def test_a_thread_that_only_one_run_has(diff):
    more = [opened(b"/a", tid=101, comm=b"helper")] * 3
    status, lines = diff([*run_of(), *more], run_of())
    assert status == 1
    assert "-thread helper[101]: 3 calls" in lines
    assert "0 calls differ; 3 only in the first run, 0 only in the second" in lines


def family(first, second, *more, order=(0, 1), ends=(0, 1)):
    """A process with two children; `order`: which one's calls come first. `ends`: the same of their
    ends."""
    both = first, second
    lives = [
        [
            call("getpid", result=pid, tgid=pid, tid=pid, comm=b"child"),
            opened(path, tgid=pid, tid=pid, comm=b"child"),
        ]
        for pid, path in zip(both, (b"/one", b"/two"), strict=True)
    ]
    return [
        *(call("clone", 17, result=pid) for pid in both),
        *(each for number in order for each in lives[number]),
        *more,
        *(call("wait4", 2**32 - 1, result=both[number]) for number in ends),
    ]


def test_children_are_those_of_the_same_call(diff):
    """They begin and end in another order."""
    status, lines = diff(family(201, 202), family(301, 302, order=(1, 0), ends=(1, 0)))
    assert (status, lines[2:]) == (0, ["no call differs"])


def test_a_signal_to_another_child(diff):
    one = family(201, 202, call("kill", 201, 9))
    assert diff(one, family(302, 301, call("kill", 302, 9), order=(1, 0)))[0] == 0
    status, lines = diff(one, family(302, 301, call("kill", 301, 9), order=(1, 0)))
    assert status == 1
    assert "1 call differs; 0 only in the first run, 0 only in the second" in lines
    assert "  pid: PID1 | PID2" in lines


def test_children_that_were_not_recorded(diff):
    made = [
        [*(call("fork", result=pid) for pid in pids), call("kill", pids[which], 9)]
        for pids, which in (((201, 202), 0), ((302, 301), 0), ((302, 301), 1))
    ]
    assert diff(made[0], made[1])[0] == 0
    assert "  pid: PID1 | PID2" in diff(made[0], made[2])[1]


def test_children_with_another_name_are_alone(diff):
    """The call that created them is the same."""
    one, two = (
        [call("fork", result=pid), opened(b"/a", tgid=pid, tid=pid, comm=comm)]
        for pid, comm in ((201, b"one"), (301, b"two"))
    )
    lines = diff(one, two)[1]
    assert "0 calls differ; 1 only in the first run, 1 only in the second" in lines
    assert {"-thread one[201]: 1 call", "+thread two[301]: 1 call"} <= set(lines)


def test_two_threads_with_one_tid(diff):
    lives = [opened(b"/a", tid=9), ended(tid=9), opened(b"/b", tid=9), ended(tid=9)]
    other = [opened(b"/a", tid=9), ended(tid=9), opened(b"/b", tid=10), ended(tid=10)]
    status, lines = diff(lives, other)
    assert status == 0
    assert lines[0].endswith("2 calls of 2 threads")


def test_a_set_of_calls(diff):
    other = run_of(more=[call("getuid")])
    assert diff(run_of(), other, "-e", "trace=%file,read")[0] == 0


def test_signals_arrive_at_any_moment(diff):
    assert diff(run_of(more=[call("rt_sigreturn")]), run_of())[0] == 0


def test_latency(diff):
    slow = [call("fsync", 3, duration_ns=2000)] * 20
    fast = [call("fsync", 3, duration_ns=100)] * 20
    status, lines = diff(fast, slow)
    assert status == 0, "a run that is slower does the same"
    assert lines[-1] == "fsync  100 ns  2.0 us  100 ns  2.0 us"


def test_nothing_at_all(diff):
    assert diff([ended()], [ended()])[0] == 0
    assert diff([ended()], run_of())[0] == 1


def test_no_recording(tmp_path, capsys):
    assert main(["diff", record(tmp_path / "a", run_of()), str(tmp_path)]) == 2
    assert "is no recording" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mmap(NULL, 10) = 0x7f0000001000", "mmap(NULL, 10) = ADDRESS"),
        ("open(0x1f)", "open(0x1f)"),
        ("{tv_sec=17, tv_nsec=-5}", "{tv_sec=N, tv_nsec=N}"),
        ('open("/proc/123/task/45/maps")', 'open("/proc/PID/task/PID/maps")'),
        ('getrandom("a\\"b", 8, 0) = 8', 'getrandom("RANDOM", 8, 0) = 8'),
        ("clone(parent_tid=[123], x=123)", "clone(parent_tid=[P], x=123)"),
        ("time(NULL) = 1796028588", "time(NULL) = N"),
        ("getppid()        = 1234", "getppid()        = PID"),
        ("wait4(-1, NULL, 0, NULL) = 1234", "wait4(-1, NULL, 0, NULL) = PID"),
        ("waitid(P_ALL, 0, {si_pid=17}) = 0", "waitid(P_ALL, 0, {si_pid=PID}) = 0"),
        ("wait4(7, NULL, 0, NULL) = 7", "wait4(7, NULL, 0, NULL) = 7"),
    ],
)
def test_texts(text, expected):
    assert normal_text(text, {123: "P"}, False) == expected


def test_pids_in_calls_that_take_them():
    assert normal_text("kill(123, 9) = 0", {123: "P"}, True) == "kill(P, 9) = 0"
    assert normal_path("/proc/123/fd/7") == "/proc/PID/fd/7"
    assert normal_path("/srv/123") == "/srv/123"
