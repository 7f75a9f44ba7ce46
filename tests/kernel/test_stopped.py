# SPDX-License-Identifier: Apache-2.0
"""A process is stopped for a scan, and continues as if nothing had happened, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from harness.blocking import wait_for_any_call
from harness.waiting import wait_until

from kwatch.errors import KwatchError
from kwatch.procfs.current_call import thread_ids, thread_state
from kwatch.reach import stopped as reach_stopped
from kwatch.reach.stopped import stopped

_STOPS_AND_WAITS = """
import sys, time
from kwatch.reach.stopped import stopped

with stopped(int(sys.argv[1])):
    time.sleep(3600)
"""


def states(pid):
    return {thread_state(pid, tid) for tid in thread_ids(pid)} - {"Z", "X", ""}


def test_all_threads_stop_and_continue(start):
    """Also those that begin meanwhile."""
    target = start("crowd", 1000000, 20)
    target.release()
    for _ in range(20):
        began = time.monotonic()
        with stopped(target.pid) as stop:
            assert states(target.pid) == {"t"}
            assert {state.tid for state in stop.threads} <= set(thread_ids(target.pid))
        assert 0 < stop.seconds <= time.monotonic() - began
        assert "t" not in states(target.pid)
    assert target.is_running


def test_threads_that_are_listed_late_are_stopped(start, monkeypatch):
    target = start("registers")
    begun = {tid for name, tid in target.answers.items() if name.endswith("_tid")}
    lists = iter([[target.pid], [target.pid]])  # of the refusal, and the first to stop

    def list_late(pid):
        return next(lists, None) or thread_ids(pid)

    monkeypatch.setattr(reach_stopped, "thread_ids", list_late)
    with stopped(target.pid) as stop:
        assert {state.tid for state in stop.threads} == begun | {target.pid}
        assert states(target.pid) == {"t"}


def test_an_error_lets_the_process_continue(start):
    target = start("getppid")
    with pytest.raises(KwatchError, match="wrong"), stopped(target.pid):
        raise KwatchError("something went wrong")
    assert "t" not in states(target.pid)
    target.go()
    assert target.end() == 0


def test_killing_the_tracer_lets_the_process_continue(start):
    target = start("getppid")
    tracer = subprocess.Popen([sys.executable, "-c", _STOPS_AND_WAITS, str(target.pid)])
    wait_until(lambda: states(target.pid) == {"t"})
    tracer.kill()
    tracer.wait()
    wait_until(lambda: "t" not in states(target.pid))
    target.go()
    assert target.end() == 0


def test_no_signal_is_lost(start):
    target = start("counts")
    for _ in range(30):
        os.kill(target.pid, signal.SIGRTMIN)
        with stopped(target.pid):
            os.kill(target.pid, signal.SIGRTMIN)
        os.kill(target.pid, signal.SIGRTMIN)
    assert target.go() == {"signals": 90}


def test_a_process_that_is_traced_is_refused(start):
    target = start("getppid")
    refused = f"process {target.pid} cannot be stopped: process {os.getpid()} traces it"
    with stopped(target.pid):
        with pytest.raises(KwatchError, match=refused), stopped(target.pid):
            pass
        assert states(target.pid) == {"t"}
    target.go()


def test_a_process_that_a_signal_has_stopped_stays_stopped(start):
    target = start("getppid")
    os.kill(target.pid, signal.SIGSTOP)
    wait_until(lambda: states(target.pid) == {"T"})
    with pytest.raises(KwatchError, match="a signal has stopped it"), stopped(target.pid):
        pass
    assert states(target.pid) == {"T"}
    os.kill(target.pid, signal.SIGCONT)
    target.go()


def test_a_stop_signal_meanwhile_takes_effect_afterwards(start):
    target = start("getppid")
    with stopped(target.pid):
        os.kill(target.pid, signal.SIGSTOP)
    wait_until(lambda: states(target.pid) == {"T"})
    os.kill(target.pid, signal.SIGCONT)
    target.go()


def test_a_process_that_has_ended_is_refused(start):
    target = start("getppid", "now")
    target.end()
    with pytest.raises(KwatchError, match="it has ended"), stopped(target.pid):
        pass


def test_a_stop_interrupts_calls_as_documented(start):
    """Without it, none is: see test_threads.py."""
    target = start("blocked")
    wait_for_any_call(target.pid, [target.pid, *target.answers.values()])
    with stopped(target.pid) as stop:
        assert len(stop.threads) == 17
    wait_until(lambda: states(target.pid) == {"S"})
    interrupted = target.go()["interrupted"]
    assert interrupted >= 3
