# SPDX-License-Identifier: Apache-2.0
"""Programs that a probe would end are not probed, and kwatch says why.

The programs are static: another tracer on the machine may probe the C library, and such a probe
would act in them as soon as kwatch has set one at the same place.
"""

from __future__ import annotations

import platform

import pytest

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="return probes make no system call on arm64"
)

DISPATCH = "it uses Syscall User Dispatch"
EMULATED = "its tracer emulates its system calls"


def unharmed(target):
    said = target.go()
    return (said["dispatched"], said["foreign"], target.end()) == (1, 0, 0)


def assert_unsure(final, why):
    assert final["verdict"] == "unsure"
    assert why in final["reason"]


def test_syscall_user_dispatch_is_seen_in_any_thread(start, run_kwatch):
    target = start("dispatch", "early")
    kwatch = run_kwatch("--pid", target.pid, "--json")
    assert f"not of dispatch[{target.pid}] ({DISPATCH}" in kwatch.attached()
    assert unharmed(target)
    assert_unsure(kwatch.finish().final(), DISPATCH)


def test_syscall_user_dispatch_after_the_attach(start, run_kwatch):
    """Its first allocation comes at once: the kernel side must not wait for kwatch."""
    target = start("dispatch", "late")
    kwatch = run_kwatch("--pid", target.pid, "--json", "--no-syscalls")
    assert DISPATCH not in kwatch.attached()
    assert unharmed(target)
    assert DISPATCH in kwatch.said(lambda line: "no longer traced" in line)
    assert_unsure(kwatch.finish().final(), DISPATCH)


def test_syscall_user_dispatch_in_a_command(program, run_kwatch):
    kwatch = run_kwatch("--json", "--", program("dispatch"), "late", "now")
    result = kwatch.finish()
    assert (result.status, result.answers["foreign"]) == (0, 0)
    assert_unsure(result.final(), DISPATCH)


def test_a_tracer_that_emulates_system_calls(start, run_kwatch):
    tracer = start("sysemu")
    kwatch = run_kwatch("--pid", tracer.answers["child"], "--json")
    assert EMULATED in kwatch.attached()
    said = tracer.go()
    assert (said["calls"], said["foreign"]) == (2, 0)
    assert_unsure(kwatch.finish().final(), EMULATED)
