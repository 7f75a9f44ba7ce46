# SPDX-License-Identifier: Apache-2.0
"""What a trace cannot show is counted: delivered + lost = what the program did."""

from __future__ import annotations

import re
import signal

from kwatch.kernel.bpf_features import has_compare_and_exchange


def lost_calls(result):
    """Of each cause, from the last message."""
    (line,) = [line for line in result.stderr if "not complete" in line]
    found = re.findall(r"(\d[\d,]*) (\w+)", line.split(":", 2)[2].split(";")[0])
    return {cause: int(number.replace(",", "")) for number, cause in found}


def test_a_reader_that_stalls_loses_calls_and_counts_them(start, run_kwatch):
    target = start("getppid", 2, 100_003)
    kwatch = run_kwatch(
        "trace", "--pid", target.pid, "--json", "-e", "trace=getppid", "--buffer", "64K"
    )
    kwatch.attached()
    kwatch.send(signal.SIGSTOP)
    answers = target.go()
    kwatch.send(signal.SIGCONT)
    target.end()
    result = kwatch.finish()
    delivered = sum(each["kind"] == "call" for each in result.documents)
    lost = lost_calls(result)
    assert lost.keys() == {"syscall_ring_full", "thread_event"}
    assert delivered > 0
    assert delivered + lost["syscall_ring_full"] == answers["getppid"]
    ends = sum(each["kind"] == "exit" for each in result.documents)
    assert ends + lost["thread_event"] == 3


def test_a_full_area_loses_contents_and_no_call(start, run_kwatch):
    """The ring has room for all records; the area has not for all contents.

    A kernel that cannot record calls is told.
    """
    target = start("contents", 400, 4096)
    options = ("--json", "-s", "4096", "-e", "trace=pwrite64", "--buffer", "256K")
    kwatch = run_kwatch("trace", "--pid", target.pid, *options)
    if not has_compare_and_exchange():
        refused = kwatch.finish()
        assert (refused.status, refused.stdout) == (1, [])
        assert "calls cannot be recorded" in refused.stderr[0]
        return
    kwatch.attached()
    kwatch.send(signal.SIGSTOP)
    answers = target.go()
    kwatch.send(signal.SIGCONT)
    target.end()
    result = kwatch.finish()
    calls = [each for each in result.documents if each["kind"] == "call"]
    assert len(calls) == answers["pwrite64"]
    cut = [each for each in calls if each["content_lost"]]
    assert lost_calls(result) == {"call_content": len(cut)}
    whole = [each for each in calls if not each["content_lost"]]
    assert whole
    for each in whole:
        assert each["args"][1].startswith(f'"block {each["arg3"]}\\0.')
    assert all(re.fullmatch("0x[0-9a-f]+", each["args"][1]) for each in cut)


def test_calls_that_the_kernel_drops_take_no_room(start, run_kwatch):
    target = start("getppid", 2, 100_003)
    options = ("--json", "--filter", "syscall = write and ret > 0", "--buffer", "64K")
    kwatch = run_kwatch("trace", "--pid", target.pid, *options)
    kwatch.attached()
    kwatch.send(signal.SIGSTOP)
    target.go()
    kwatch.send(signal.SIGCONT)
    target.end()
    result = kwatch.finish()
    assert {each["name"] for each in result.documents} == {"write"}
    assert not [line for line in result.stderr if "not complete" in line]
