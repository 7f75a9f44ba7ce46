# SPDX-License-Identifier: Apache-2.0
"""Programs that a probe would end are not probed, and kwatch says why.

The programs are static: another tracer on the machine may probe the C library, and such a probe
would act in them as soon as kwatch has set one at the same place.
"""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

import pytest

from kwatch.kernel import bpf_features, perf
from kwatch.kernel.syscall_work import return_probes_call
from kwatch.probes.finder import AllocatorFinder

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="the programs are for x86-64"
)

DISPATCH = "it uses Syscall User Dispatch"
BLOCKS = 101  # of both programs


def unharmed(target):
    said = target.go()
    return (said["dispatched"], said["foreign"], target.end()) == (1, 0, 0)


def assert_traced(final):
    """The ret instructions of the allocator are probed, so that no block is missed."""
    assert final["heap"]["allocs"] == BLOCKS
    assert final["lost"]["events"] == 0


def assert_unsure(final, why):
    assert final["verdict"] == "unsure"
    assert why in final["reason"]


def test_syscall_user_dispatch_is_seen_in_any_thread(start, run_kwatch):
    target = start("dispatch", "early")
    kwatch = run_kwatch("--pid", target.pid, "--json", "--no-syscalls")
    kwatch.attached()
    assert unharmed(target)
    assert_traced(kwatch.finish().final())


def test_syscall_user_dispatch_after_the_attach(start, run_kwatch):
    """Its first allocation comes at once: the kernel side must not wait for kwatch."""
    target = start("dispatch", "late")
    kwatch = run_kwatch("--pid", target.pid, "--json", "--no-syscalls")
    assert DISPATCH not in kwatch.attached()
    assert unharmed(target)
    kwatch.said(lambda line: DISPATCH in line)
    assert_unsure(kwatch.finish().final(), DISPATCH)


def test_syscall_user_dispatch_in_a_command(program, run_kwatch):
    kwatch = run_kwatch("--json", "--", program("dispatch"), "late", "now")
    result = kwatch.finish()
    assert (result.status, result.answers["foreign"]) == (0, 0)
    assert_unsure(result.final(), DISPATCH)


def test_a_tracer_that_emulates_system_calls(start, run_kwatch):
    tracer = start("sysemu")
    kwatch = run_kwatch("--pid", tracer.answers["child"], "--json")
    kwatch.attached()
    said = tracer.go()
    assert (said["calls"], said["foreign"]) == (2, 0)
    assert_traced(kwatch.finish().final())


def test_the_heap_of_every_process_with_such_a_program(start, run_kwatch):
    """Where kwatch cannot leave the program's returns alone, it attaches to no process."""
    target = start("dispatch", "early")
    kwatch = run_kwatch("--heap", "--no-syscalls", "--json")
    if not (return_probes_call() and not bpf_features.has_uprobe_sessions()):
        kwatch.attached()
        assert unharmed(target)
        assert_unsure(kwatch.stop().final(target.pid), "Syscall User Dispatch")
        return
    result = kwatch.finish()
    assert result.status == 1
    (line,) = [line for line in result.stderr if "would be harmed" in line]
    assert f"dispatch[{target.pid}]" in line
    assert unharmed(target)


@pytest.mark.needs("valgrind")
def test_a_guest_of_valgrind(start, run_kwatch):
    target = start("leaky", prefix=("valgrind", "-q", "--tool=none"))
    kwatch = run_kwatch("--pid", target.pid, "--json")
    assert "(valgrind runs it from a translated copy" in kwatch.attached()
    target.go()
    assert target.end() == 0
    assert_unsure(kwatch.finish().final(), "valgrind")


@pytest.mark.needs("valgrind")
def test_a_command_under_valgrind(program, run_kwatch):
    kwatch = run_kwatch("--json", "--", "valgrind", "-q", "--tool=none", program("leaky"), "now")
    result = kwatch.finish()
    assert result.status == 0
    assert result.answers["live_blocks"] > 0
    final = result.final()  # the scan finds what the program has lost, though nothing was probed
    assert final["verdict"] == "leak"
    assert "valgrind" in final["reason"]


def test_a_program_that_has_copied_its_code(start, run_kwatch):
    """The probes do not act in the copy: `clean` would be wrong."""
    target = start("selfcopy", "early")
    kwatch = run_kwatch("--pid", target.pid, "--json")
    kwatch.attached()
    target.go("copied")
    assert target.go()["blocks"] == 101
    assert target.end() == 0
    assert_unsure(kwatch.finish().final(), "it runs a copy of code of")


def test_a_program_that_copies_its_probed_code(start, run_kwatch):
    """kwatch cannot save it, but says what will end it, and what has."""
    target = start("selfcopy", "late")
    kwatch = run_kwatch("--pid", target.pid, "--json")
    kwatch.attached()
    target.go("copied")
    kwatch.said(lambda line: "runs a copy of code of" in line)
    target.release()
    kwatch.said(lambda line: line.startswith("kwatch: SIGTRAP ended selfcopy"))
    final = kwatch.finish().final()
    assert final["process"]["killed_by"] == "SIGTRAP"
    assert_unsure(final, "breakpoints")


def test_a_foreign_probe_with_a_reference_counter(program, start, run_kwatch):
    """The kernel refuses every other probe of that place: the others are set."""
    path = str(program("leaky", "-static"))
    allocator = AllocatorFinder().find((0, 0), path, path)
    place = next(probe.offset for probe in allocator.probes if probe.name == "malloc")
    counter = Path(path).stat().st_size // 4096 * 4096  # any value but 0
    name = ctypes.create_string_buffer(path.encode())
    foreign = perf.open_event(
        -1,
        0,
        type=perf.uprobe_type(),
        config=counter << 32,
        config1=ctypes.addressof(name),
        config2=place,
    )
    try:
        target = start(Path(path))
        kwatch = run_kwatch("--pid", target.pid, "--json")
        line = kwatch.attached()
        target.go()
        assert target.end() == 0
        final = kwatch.finish().final()
    finally:
        os.close(foreign)
    assert "not malloc (probably another tracer has a probe with a reference counter" in line
    assert f"{len(allocator.names) - 1} functions of {path}" in line
    assert_unsure(final, "malloc")


def test_a_private_mapping_of_the_probed_file_has_breakpoints(start, run_kwatch):
    """As docs/troubleshooting.md says: by address space, whatever its protection but writing."""
    target = start("rereads")
    before = target.answers
    kwatch = run_kwatch("--pid", target.pid, "--json")
    kwatch.attached()
    during = target.go("during")
    assert kwatch.stop().status == 0
    after = target.go()
    assert target.end() == 0
    assert during.pop("private") > 0
    assert not any(during.values()), during
    assert not any([*before.values(), *after.values()])
