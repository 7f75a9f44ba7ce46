# SPDX-License-Identifier: Apache-2.0
"""The heap is exact to the block: kwatch reports what the program says it did."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from harness.libraries import library

HEAP = ("--json", "--no-syscalls")


def assert_heap(document, answers, process=""):
    """Compares the report with the program's own `answers`; figures that it omits are skipped."""
    heap = document["heap"]
    assert document["lost"] == {"events": 0, "by_cause": {}}
    assert heap["live_blocks"] == answers[f"{process}live_blocks"]
    assert heap["live_bytes"] == answers[f"{process}live_bytes"]
    for key in ("allocs", "frees"):
        if f"{process}{key}" in answers:
            assert heap[key] == answers[f"{process}{key}"]
    assert heap["failed_allocs"] == answers.get(f"{process}failed", 0)


def stack_of(document, function):
    """The listed stack whose innermost frame is the function."""
    found = [s for s in document["heap"]["stacks"] if s["frames"][0]["symbol"] == function]
    assert len(found) == 1, f"{function} in {document['heap']['stacks']}"
    return found[0]


def assert_leaky(document, answers):
    assert_heap(document, answers)
    for function, name in (("leak_small", "small"), ("leak_big", "big")):
        stack = stack_of(document, function)
        assert stack["blocks"] == answers[f"{name}_blocks"]
        assert stack["bytes"] == answers[f"{name}_bytes"]
        assert stack["frames"][0]["file"].endswith("leaky.c")
        assert stack["frames"][1]["symbol"] == "main"
    assert document["verdict"] == "leak"


def traced_to_the_end(start, run_kwatch, name, *options, stages=("done",), **how):
    """Attaches by pid, lets the program run to its end; returns its answers and the report."""
    target = start(name, **how)
    kwatch = run_kwatch("--pid", target.pid, "--scan-at-exit", *HEAP, *options)
    kwatch.attached()
    answers = {}
    for stage in stages:
        answers |= target.go(stage)
    target.end()
    return answers, kwatch.finish().final(target.pid)


def test_launched(program, run_kwatch):
    result = run_kwatch(*HEAP, "--", program("leaky"), "now").finish()
    assert result.status == 0
    assert_leaky(result.final(), result.answers)


def test_by_pid(start, run_kwatch):
    answers, final = traced_to_the_end(start, run_kwatch, "leaky")
    assert_leaky(final, answers)


def test_a_lost_block_counts_at_any_age(start, run_kwatch):
    target = start("leaky")
    kwatch = run_kwatch("--pid", target.pid, *HEAP, "--older", "10m")
    kwatch.attached()
    answers = target.go()
    final = kwatch.stop().final(target.pid)
    assert_leaky(final, answers)
    assert target.end() == 0


def test_by_name_before_it_starts(start, run_kwatch):
    kwatch = run_kwatch("--comm", "leak?", "--scan-at-exit", *HEAP)
    kwatch.attached()
    target = start("leaky")
    kwatch.said(lambda line: line.startswith(f"attached to leaky[{target.pid}]; heap: "))
    answers = target.go()
    target.end()
    final = kwatch.document(lambda d: d["kind"] == "final" and d["process"]["pid"] == target.pid)
    kwatch.stop()
    assert_leaky(final, answers)


def test_by_a_name_that_is_longer_than_a_comm(program, start, run_kwatch, tmp_path):
    """The kernel compares the comm only; kwatch checks the executable's name a moment later."""
    path = tmp_path / "twenty-letters-leaky"
    shutil.copy(program("leaky"), path)
    kwatch = run_kwatch("--comm", path.name, "--scan-at-exit", *HEAP)
    kwatch.attached()
    target = start(path)
    kwatch.said(lambda line: line.startswith(f"attached to {path.name[:15]}[{target.pid}]; heap: "))
    answers = target.go()
    target.end()
    kwatch.document(lambda d: d["kind"] == "final" and d["process"]["pid"] == target.pid)
    assert_leaky(kwatch.stop().final(target.pid), answers)


def test_an_exec_into_a_name_that_only_the_executable_has(start, run_kwatch):
    """After its exec of /proc/self/exe the program's comm is `exe`."""
    target = start("execs")
    kwatch = run_kwatch("--comm", "execs", "--scan-at-exit", *HEAP)
    kwatch.attached()
    target.go("allocated")
    target.go("execed")
    kwatch.said(lambda line: line.startswith(f"attached to exe[{target.pid}]; heap: "))
    answers = target.go()
    target.end()
    kwatch.document(lambda d: d["kind"] == "final" and d["process"]["comm"] == "exe")
    before, after = (d for d in kwatch.stop().documents if d["kind"] == "final")
    assert before["process"]["comm"] == "execs"
    assert before["process"]["exited"]
    assert before["heap"]["live_blocks"] == 0
    assert before["verdict"] == "unsure"
    assert_heap(after, answers)
    assert after["verdict"] == "leak"


@pytest.mark.parametrize("name", ["threads", "reallocs", "family", "cxx"])
def test_programs(start, run_kwatch, name):
    answers, final = traced_to_the_end(start, run_kwatch, name)
    assert_heap(final, answers)


def test_launched_threads_under_a_size_filter(program, run_kwatch):
    result = run_kwatch(*HEAP, "--min-size", 4099, "--", program("leaky"), "now").finish()
    heap = result.final()["heap"]
    assert heap["live_blocks"] == result.answers["big_blocks"]
    assert heap["allocs"] == result.answers["big_blocks"]


ALLOCATORS = [
    pytest.param(name, marks=pytest.mark.needs(name))
    for name in ("jemalloc", "tcmalloc", "mimalloc")
]


@pytest.mark.parametrize("name", ["leaky", "reallocs", "family", "cxx", "threads"])
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_other_allocators(program, start, run_kwatch, allocator, name):
    # Debian's jemalloc has no pvalloc, so its free would get a block that glibc allocated.
    flags = ["-DNO_PVALLOC"] if allocator == "jemalloc" else []
    environment = {"LD_PRELOAD": str(library(f"lib{allocator}"))}
    answers, final = traced_to_the_end(
        start, run_kwatch, program(name, *flags), environment=environment
    )
    assert_heap(final, answers)


@pytest.mark.parametrize("name", ["leaky", "reallocs", "family"])
@pytest.mark.parametrize("flags", [(), ("-static",)])
def test_musl(program, start, run_kwatch, name, flags):
    path = program(name, *flags, compiler="musl-gcc")
    answers, final = traced_to_the_end(start, run_kwatch, path)
    assert_heap(final, answers)


@pytest.mark.parametrize("name", ["leaky", "reallocs", "cxx"])
@pytest.mark.parametrize("flag", ["-static", "-static-pie"])
def test_static(program, start, run_kwatch, name, flag):
    answers, final = traced_to_the_end(start, run_kwatch, program(name, flag))
    assert_heap(final, answers)


def test_launched_static(program, run_kwatch):
    """kwatch also sees what libc's start-up code allocates."""
    result = run_kwatch(*HEAP, "--", program("leaky", "-static"), "now").finish()
    stack = stack_of(result.final(), "leak_small")
    assert stack["blocks"] == result.answers["small_blocks"]
    assert result.final()["heap"]["live_blocks"] >= result.answers["live_blocks"]


def test_fork_copies_the_live_set(start, run_kwatch):
    target = start("forks")
    kwatch = run_kwatch("--pid", target.pid, "--follow", *HEAP)
    kwatch.attached()
    child = target.go("forked")["child"]
    kwatch.said(lambda line: line.startswith(f"attached to forks[{child}]; heap: "))
    answers = target.go()
    target.end()
    result = kwatch.finish()
    assert_heap(result.final(target.pid), answers, "parent_")
    assert_heap(result.final(child), answers, "child_")
    (own,) = result.final(child)["heap"]["stacks"]  # its parent's are listed with the parent
    assert own["frames"][0]["symbol"] == "allocate_in_child"


def test_exec_clears(start, run_kwatch):
    answers, final = traced_to_the_end(
        start, run_kwatch, "execs", stages=("allocated", "execed", "done")
    )
    assert_heap(final, answers)


@pytest.mark.needs("mimalloc")
def test_library_opened_later(start, run_kwatch):
    target = start("dlopens", library("libmimalloc"))
    kwatch = run_kwatch("--pid", target.pid, *HEAP)
    kwatch.attached()
    target.go("loaded")
    kwatch.said(lambda line: "functions of" in line and "mimalloc" in line)
    answers = target.go()
    target.end()
    final = kwatch.finish().final()
    stack = stack_of(final, "use_loaded")
    assert stack["blocks"] == answers["loaded_blocks"]
    assert stack["bytes"] == answers["loaded_bytes"]


def test_other_mount_namespace(program, start, run_kwatch, tmp_path):
    """The program and its debug file exist only in the target's mount namespace.

    The report names their functions after the process and its namespace are gone.
    """
    binary, debug = program("leaky"), tmp_path / "leaky.debug"
    bare, inside = tmp_path / "bare", tmp_path / "inside"
    subprocess.run(["objcopy", "--only-keep-debug", binary, debug], check=True)
    subprocess.run(
        ["objcopy", "--strip-all", f"--add-gnu-debuglink={debug}", binary, bare], check=True
    )
    inside.mkdir()
    script = (
        f"mount -t tmpfs none {inside} && cp {bare} {inside}/leaky && mv {debug} {inside}/"
        f" && exec {inside}/leaky"
    )
    answers, final = traced_to_the_end(
        start, run_kwatch, binary, prefix=("unshare", "-m", "sh", "-c", script)
    )
    assert_leaky(final, answers)


def test_frees_of_older_blocks_are_no_error(start, run_kwatch):
    target = start("forks")
    target.go("forked")
    kwatch = run_kwatch("--pid", target.pid, *HEAP)
    kwatch.attached()
    answers = target.go()
    target.end()
    heap = kwatch.finish().final()["heap"]
    assert heap["unknown_frees"] == answers["parent_frees"]
    assert heap["live_blocks"] == heap["allocs"] == 0


def test_verdict_and_exit_status(program, start, run_kwatch):
    leaking = run_kwatch(*HEAP, "--fail-on-leak", "--", program("leaky"), "now").finish()
    assert leaking.status == 3
    target = start("leaky")
    kwatch = run_kwatch(*HEAP, "--fail-on-leak", "--pid", target.pid)
    kwatch.attached()
    target.go()
    target.end()
    unsure = kwatch.finish()
    assert unsure.status == 0
    assert "--scan-at-exit keeps it until then" in unsure.final()["reason"]
    assert (
        unsure.stderr[-1]
        == "kwatch: --fail-on-leak: no leak found, but 1 process could not be judged"
    )
    clean = run_kwatch(*HEAP, "--fail-on-leak", "--", "true").finish()
    assert (clean.status, clean.final()["verdict"]) == (0, "clean")
