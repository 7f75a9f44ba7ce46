# SPDX-License-Identifier: Apache-2.0
"""Every access to watched memory is reported, with its thread and its instruction."""

from __future__ import annotations

import errno
import os
import platform
import random
import re
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from harness.session import Session
from harness.waiting import wait_until

from kwatch.kernel.breakpoints import OF_PROCESS, Access, Breakpoint, open_breakpoint
from kwatch.system.signals import fork
from kwatch.watchpoints import events
from kwatch.watchpoints.trial import try_watchpoints

of_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 instructions")

#: Options of the runs whose results are compared, and the program's own writes in `threads`.
WATCH = ("watchpoint", "total", "--json")
WRITES = 1000
#: KWATCH_KILLS=500 makes a long run of it.
KILLS = int(os.environ.get("KWATCH_KILLS", "5"))


def threads_inherit():
    """Linux 5.13."""
    try:
        os.close(open_breakpoint(Breakpoint(8, 8, Access.WRITE), 0, flags=OF_PROCESS))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def own_places(final):
    return [place for place in final["places"] if not place["in_kernel"]]


def counts(final):
    return sum(place["count"] for place in own_places(final))


def final_of(result):
    (final,) = (each for each in result.documents if each["kind"] == "final")
    assert (final["missed"], final["lost"]) == (0, {}), final
    return final


#: kwatch whose watchpoints belong to CPUs, as with very many threads.
PER_CPU = (
    "import sys; from kwatch.watchpoints import events; events.MAX_THREADS = 0;"
    "from kwatch.cli import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.mark.parametrize("by", ["thread", "CPU"])
def test_every_write_of_50_threads(start, run_kwatch, by):
    """Half of them start after the watchpoint is set. The kernel's writes show with their call."""
    target = start("watched", "threads")
    script = PER_CPU if by == "CPU" else ""
    kwatch = run_kwatch(*WATCH, "--pid", target.pid, script=script)
    assert kwatch.attached().endswith(f"by {by if threads_inherit() else 'CPU'}")
    writes = target.go()
    target.end()
    final = final_of(kwatch.finish())
    (place,) = own_places(final)
    assert place["threads"] == {
        key.removeprefix("thread_"): count
        for key, count in writes.items()
        if key.startswith("thread_")
    }
    assert (place["count"], len(place["threads"])) == (WRITES, 50)
    assert int(place["instruction"]["address"], 16) == target.answers["store"]
    assert [frame["symbol"] for frame in place["frames"]][:3] == ["stray", "write_times", "worker"]
    (of_kernel,) = (each for each in final["places"] if each["in_kernel"])
    assert (of_kernel["call"], list(of_kernel["threads"])) == ("read", [str(target.pid)])
    assert final["hits"] == WRITES + of_kernel["count"]


@of_x86
def test_each_form_of_an_instruction(start, run_kwatch):
    """The processor reports the next instruction, or `rep` itself, or where a call leads."""
    target = start("watched", "forms")
    kwatch = run_kwatch(*WATCH, "--pid", target.pid)
    kwatch.attached()
    target.go()
    target.end()
    found = {
        int(each["instruction"]["address"], 16) for each in own_places(final_of(kwatch.finish()))
    }
    expected = {at for key, at in target.answers.items() if key.startswith("form_")}
    assert found == expected


def test_an_address_without_a_name(start, run_kwatch):
    target = start("watched", "plain")
    address = hex(target.answers["address"])
    kwatch = run_kwatch("watchpoint", f"{address}:8", "--json", "--pid", target.pid)
    kwatch.attached()
    target.go()
    target.end()
    assert counts(final_of(kwatch.finish())) == 5


def test_launched(program, run_kwatch):
    """From the first instruction on; the exit status is the program's."""
    result = run_kwatch(*WATCH, "--", program("watched"), "plain", "now").finish()
    assert (result.status, counts(final_of(result))) == (0, 5)


def test_a_fork_and_an_exec(start, run_kwatch):
    """A child's writes are in other memory; a new program has the variable elsewhere."""
    for what, writes in (("fork", 5), ("exec", 3)):
        target = start("watched", what)
        kwatch = run_kwatch(*WATCH, "--pid", target.pid)
        kwatch.attached()
        target.release()
        if what == "fork":
            target.reached()
        target.end()
        final = final_of(kwatch.finish())
        places = own_places(final)
        assert {place["pid"] for place in places} == {target.pid}
        first = [each for each in places if each["address"] == hex(target.answers["address"])]
        assert sum(each["count"] for each in first) == writes


def test_a_process_that_has_ended_has_no_watchpoint():
    """Before its parent knows it, too."""
    child = fork(signal.SIG_DFL)
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    watched = Breakpoint(8, 8, Access.WRITE)
    with pytest.raises(ProcessLookupError):
        events.open_events(child, watched, -1)
    os.waitpid(child, 0)
    with pytest.raises(ProcessLookupError):
        events.open_events(child, watched, -1)


def test_execution(start, run_kwatch):
    target = start("watched", "plain")
    options = ("watchpoint", "stray", "--access", "x", "--json")
    kwatch = run_kwatch(*options, "--pid", target.pid)
    kwatch.attached()
    target.go()
    target.end()
    (place,) = final_of(kwatch.finish())["places"]
    assert (place["count"], place["frames"][1]["symbol"]) == (5, "write_times")


def test_a_killed_target(start, run_kwatch):
    target = start("watched", "plain")
    kwatch = run_kwatch(*WATCH, "--pid", target.pid)
    kwatch.attached()
    target.go()
    target.kill()
    result = kwatch.finish()
    assert (result.status, counts(final_of(result))) == (0, 5)


def test_stop_at_a_hit(start, run_kwatch):
    target = start("watched", "plain")
    kwatch = run_kwatch("watchpoint", "total", "--on-hit", "stop", "--pid", target.pid)
    kwatch.attached()
    target.release()
    said = kwatch.said(lambda line: "kill -CONT" in line)
    assert said.endswith(str(target.pid))
    process = psutil.Process(target.pid)
    wait_until(lambda: process.status() == psutil.STATUS_STOPPED)
    kwatch.stop()
    assert process.status() == psutil.STATUS_STOPPED
    process.resume()
    target.reached()


def test_max_hits(start, run_kwatch):
    target = start("watched", "plain")
    kwatch = run_kwatch(*WATCH, "--max-hits", 2, "--pid", target.pid)
    kwatch.attached()
    target.go()
    assert final_of(kwatch.finish())["hits"] >= 2
    assert target.is_running


@pytest.mark.parametrize("fails", ["SIGKILL", "a bad length"])
def test_nothing_is_left(start, run_kwatch, fails):
    """All registers of every thread are free again, and the program goes on."""
    target = start("watched", "threads")
    if fails == "SIGKILL":
        kwatch = run_kwatch(*WATCH, "--pid", target.pid)
        kwatch.attached()
        kwatch.stop(signal.SIGKILL)
    else:
        assert run_kwatch("watchpoint", "total+4:8", "--pid", target.pid).finish().status
    free = try_watchpoints().free
    wait_until(lambda: all(takes_all(tid, free) for tid in events.thread_ids(target.pid)))
    target.go()
    assert target.end() == 0


def test_killed_at_random_moments(start):
    """No watchpoint is left, whatever kwatch was about to do, and no thread is harmed."""
    target, chance, free = start("watched", "threads"), random.Random(KILLS), try_watchpoints().free
    for _ in range(KILLS):
        kwatch = Session(*WATCH, "--access", "rw", "--pid", target.pid)
        try:
            if chance.random() < 0.5:
                kwatch.attached()
            time.sleep(chance.uniform(0, 0.5))
        finally:
            kwatch.kill()
        wait_until(lambda: all(takes_all(tid, free) for tid in events.thread_ids(target.pid)))
    writes = target.go()
    assert sum(count for key, count in writes.items() if key.startswith("thread_")) == WRITES
    assert target.end() == 0


def takes_all(tid, free):
    """Whether a thread can have all watchpoints of the processor."""
    with ExitStack() as stack:
        for number in range(free):
            try:
                fd = open_breakpoint(Breakpoint(8 * number + 8, 8, Access.WRITE), tid)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return False
            stack.callback(os.close, fd)
    return True


def test_no_register_is_free(start, run_kwatch):
    """A debugger may have them all."""
    target = start("watched", "plain")
    with ExitStack() as stack:
        for number in range(try_watchpoints().free):
            fd = open_breakpoint(Breakpoint(8 * number + 8, 8, Access.WRITE), target.pid)
            stack.callback(os.close, fd)
        result = run_kwatch(*WATCH, "--pid", target.pid).finish()
    assert result.status == 1
    assert "no hardware watchpoint is free" in result.stderr[-2]
    assert "gdb" in result.stderr[-1]


@pytest.mark.parametrize(
    ("site", "what", "cure"),
    [
        ("totel", "no variable or function of process \\d+ is named totel", "total"),
        ("total:3", "1, 2, 4 or 8 bytes, not 3", "total:4"),
        ("total+4:8", "not a multiple of 8", "a length of 4"),
        ("total+8:8", "has 8 bytes", "smaller offset"),
        ("0x10:1:1", "is not a site", "give an address"),
    ],
)
def test_bad_sites(start, run_kwatch, site, what, cure):
    target = start("watched", "plain")
    result = run_kwatch("watchpoint", site, "--pid", target.pid).finish()
    assert result.status in (1, 2)
    assert re.search(what, result.stderr[-2]), result.stderr
    assert cure in result.stderr[-1]
    assert Path(f"/proc/{target.pid}").exists()
