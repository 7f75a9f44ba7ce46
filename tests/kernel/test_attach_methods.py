# SPDX-License-Identifier: Apache-2.0
"""Each way to attach that some kernel needs, on this one too: the counts are the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from harness.bpf_objects import compiled_programs
from harness.callsites import EVERY_CALL, EXPECTED, assert_adds_up, counted
from harness.libraries import library
from harness.session import documents
from harness.target import answers

from kwatch.kernel import bpf, bpf_features
from kwatch.kernel.bpf_features import has_uprobe_links
from kwatch.programs.loader import Loader
from kwatch.programs.source import AttachMethods, ProgramConfig

# kwatch with the methods that its first two arguments name.
SCRIPT = """
import sys
from kwatch.cli import _parse
from kwatch.commands.startup import program_config
from kwatch.commands.watch.command import options_from
from kwatch.commands.watch.loop import Watch
from kwatch.programs.loader import Loader
from kwatch.programs.source import AttachMethods
from kwatch.system.signals import Signals

links, perf, *arguments = sys.argv[1:]
traced, report = options_from(_parse("watch", arguments))
methods = AttachMethods(
    links == "links",
    perf == "perf",
    event_cookies=links == "cookies",
    atomics=perf == "perf",  # kernels that need perf have them
    young_blocks=perf == "perf",
)
loader = Loader(program_config(traced), methods)
sys.exit(Watch(traced, report, loader, Signals()).run())
"""


def traced(methods, *arguments):
    """What the command printed, and the final reports."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *methods, "--json", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return answers(lines), [d for d in documents(lines) if d["kind"] == "final"]


@pytest.mark.parametrize("name", ["leaky", "reallocs", "cxx"])
@pytest.mark.parametrize("tracepoints", ["raw", "perf"])
def test_heap_without_uprobe_links(program, name, tracepoints):
    said, (final,) = traced(("events", tracepoints), "--no-syscalls", "--", program(name), "now")
    # libstdc++ keeps one block for its own exceptions, from before main().
    runtime = 1 if name == "cxx" else 0
    assert final["lost"]["events"] == 0
    assert final["heap"]["live_blocks"] == said["live_blocks"] + runtime
    assert final["heap"]["frees"] == said["frees"]


@pytest.mark.parametrize(
    ("way", "preload", "name"),
    [
        pytest.param(way, preload, name, marks=pytest.mark.needs(preload))
        for way in ("events", "cookies")
        for preload, name in (("mimalloc", "reallocs"), ("tcmalloc", "cxx"))
    ],
)
def test_an_allocator_of_many_names_without_uprobe_links(start, run_kwatch, way, preload, name):
    """mimalloc's realloc jumps to mi_realloc; tcmalloc's operator new is probed at its exits."""
    if way == "cookies" and not bpf_features.has_event_cookies():
        pytest.skip("perf events have no cookies in this kernel")
    environment = {"LD_PRELOAD": str(library(f"lib{preload}"))}
    target = start(name, environment=environment)
    options = ("--pid", str(target.pid), "--json", "--no-syscalls")
    kwatch = run_kwatch(way, "raw", *options, script=SCRIPT)
    kwatch.attached()
    said = target.go()
    target.end()
    final = kwatch.finish().final(target.pid)
    assert (final["lost"]["events"], final["heap"]["unknown_frees"]) == (0, 0)
    for key in ("live_blocks", "live_bytes", "frees"):
        assert final["heap"][key] == said[key]


def blocks_by_function(program, way, name):
    """Of what is left: the program's answers, and the blocks by the function alone."""
    if way == "links" and not has_uprobe_links():
        pytest.skip("this kernel has no uprobe links")
    options = ("--no-syscalls", "--no-stacks", "--", program(name), "now")
    said, (final,) = traced((way, "raw"), *options)
    return said, {s["frames"][0]["symbol"]: s["blocks"] for s in final["heap"]["stacks"]}


@pytest.mark.parametrize("way", ["links", "events"])
def test_functions_are_named_without_stacks(program, way):
    said, blocks = blocks_by_function(program, way, "family")
    for name in ("calloc", "reallocarray", "posix_memalign"):
        assert blocks[name] == said[f"{name}_blocks"]
    # One function with two names in most releases of glibc, and two of one kind in others.
    aligned = said["aligned_alloc_blocks"] + said["memalign_blocks"]
    assert blocks["aligned_alloc"] + blocks.get("memalign", 0) == aligned


@pytest.mark.parametrize("way", ["links", "events"])
def test_reallocs_are_named_without_stacks(program, way):
    """Not in `family`, where the compiler makes malloc(n) of realloc(NULL, n)."""
    said, blocks = blocks_by_function(program, way, "reallocs")
    assert blocks.keys() == {"malloc", "realloc", "reallocarray"}
    assert sum(blocks.values()) == said["live_blocks"]
    assert blocks["reallocarray"] == 29


def test_tracepoints_through_perf(program):
    """Calls, forks, execs and exits of a tree of processes, as through raw tracepoints."""
    script = f"{program('getppid')} 3 1009 </dev/null; (true | cat; exec cat </dev/null) & wait"
    options = ("--no-heap", "--follow", "-e", "trace=getppid,execve,clone,vfork,exit_group")
    seen = []
    for way in ("raw", "perf"):
        _, finals = traced(("events", way), *options, "--", "sh", "-c", script)
        assert all(final["lost"]["events"] == 0 for final in finals)
        rows = [row for final in finals for row in final["syscalls"]["by_name"]]
        names = sorted(final["process"]["comm"] for final in finals)
        seen.append((names, sorted((row["name"], row["calls"]) for row in rows)))
    assert seen[0] == seen[1]
    assert ("getppid", 3 * 1009) in seen[0][1]


def test_stacks_of_system_calls_through_perf(program):
    options = ("--no-heap", *EVERY_CALL, "--", program("callsites"), "now")
    _, (final,) = traced(("events", "perf"), *options)
    assert counted(final) == EXPECTED
    assert_adds_up(final)


@pytest.mark.parametrize("unpreempted", [False, True])
def test_changing_a_map_keeps_its_cpu(monkeypatch, unpreempted):
    """Where perf runs the programs: events of a thread that came to run meanwhile are missed."""
    before, within = os.sched_getscheduler(0), []
    monkeypatch.setattr(bpf, "_bpf", lambda *_: within.append(os.sched_getscheduler(0)) or 0)
    bpf.Map(fd=0, key_size=4, value_size=4, max_entries=1, unpreempted=unpreempted).set(b"", b"")
    assert within == [os.SCHED_FIFO if unpreempted else before]
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize("perf_tracepoints", [False, True])
def test_only_maps_of_perf_programs_are_changed_unpreempted(perf_tracepoints):
    config = ProgramConfig(heap=False, heap_stacks=False)
    methods = AttachMethods(False, perf_tracepoints)
    compiled_programs(config, methods)  # in a process of its own; a fork of pytest takes them
    programs = Loader(config, methods).result()
    try:
        assert {map_.unpreempted for map_ in programs.maps.values()} == {perf_tracepoints}
    finally:
        programs.close()
