# SPDX-License-Identifier: Apache-2.0
"""The target is never harmed, however kwatch ends, and no probe stays attached."""

from __future__ import annotations

import platform
import random
import signal
import time

import pytest
from harness.breakpoints import malloc_of, wait_until_clean
from harness.libraries import library


def test_killed_at_any_moment_under_load(start, run_kwatch):
    """Kills kwatch 20 times: before, during and after the attach. The target is unaffected."""
    target = start("load", 4)
    target.release()
    choice = random.Random(20)
    for round_ in range(20):
        kwatch = run_kwatch("--pid", target.pid, "--json", "--interval", "0.1")
        if round_ % 2:
            kwatch.attached()
        time.sleep(choice.uniform(0, 0.6))
        kwatch.kill()
        assert target.is_running
    wait_until_clean(target.pid)
    target.release()
    answers = target.reached()
    assert answers["wrong"] == 0
    assert target.end() == 0


def test_detached_when_it_ends(start, run_kwatch):
    target = start("leaky")
    kwatch = run_kwatch("--pid", target.pid, "--json", "--duration", "0.3")
    assert kwatch.finish().status == 0
    assert malloc_of(target.pid).is_untouched()
    target.go()
    assert target.end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_the_report(start, run_kwatch, number):
    target = start("leaky")
    kwatch = run_kwatch("--pid", target.pid, "--json")
    kwatch.attached()
    target.go()
    result = kwatch.stop(number)
    assert result.status == 0
    assert result.final(target.pid)["process"]["exited"] is False
    assert target.end() == 0


@pytest.mark.needs("tcmalloc")
def test_exceptions_pass_through_probed_operators(start, run_kwatch):
    """A bad_alloc unwinds through the frame of operator new, whose return is probed.

    The next allocator call on that thread then looks nested. On x86-64 kwatch detects that at once;
    elsewhere the events are lost, and counted as lost.
    """
    target = start("badalloc", environment={"LD_PRELOAD": str(library("libtcmalloc"))})
    kwatch = run_kwatch("--pid", target.pid, "--json", "--no-syscalls")
    kwatch.attached()
    answers = target.go()
    assert target.end() == 0
    assert answers["caught"] == answers["thrown"]
    final = kwatch.finish().final()
    abandoned = final["lost"]["by_cause"]["heap_call_abandoned"]
    assert abandoned >= answers["thrown"]  # the exceptions themselves are allocated
    assert final["verdict"] == "unsure"
    assert final["heap"]["failed_allocs"] == answers["thrown"]
    if platform.machine() == "x86_64":
        assert abandoned == answers["thrown"]
        assert final["heap"]["frees"] == answers["frees"]


def test_a_signal_reaches_a_launched_command(run_kwatch):
    kwatch = run_kwatch("--json", "--", "sleep", "1000")
    kwatch.attached()
    result = kwatch.stop(signal.SIGTERM)
    assert result.status == 128 + signal.SIGTERM
    assert result.final()["process"]["exited"]
