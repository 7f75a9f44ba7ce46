# SPDX-License-Identifier: Apache-2.0
"""The class of each block is the one that valgrind reports for the same program."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from harness.blocks import named_blocks
from harness.reach import differences, searched, stack_differences
from harness.session import documents
from harness.valgrind import VALGRIND, classes
from harness.waiting import wait_until

#: A program, with the flags that are added to its own.
PROGRAMS = {
    "shapes": ("reach_shapes",),
    "places": ("reach_places",),
    "threads": ("reach_threads",),
    "library": ("reach_library",),
    "objects": ("reach_objects",),
    "objects, old strings": ("reach_objects", "-D_GLIBCXX_USE_CXX11_ABI=0"),
}

#: Other layouts of the same heap: a program, and its environment.
SURROUNDINGS = {
    "no tcache": ("reach_shapes", {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}),
    "many mapped": ("reach_shapes", {"MALLOC_MMAP_THRESHOLD_": "1000"}),
    "all mapped": ("reach_shapes", {"MALLOC_MMAP_THRESHOLD_": "64"}),
    "perturbed": ("reach_shapes", {"MALLOC_PERTURB_": "85"}),
    "one arena": ("reach_threads", {"MALLOC_ARENA_MAX": "1"}),
}

# Where kwatch and valgrind differ: docs/reachability.md explains it.

#: What valgrind reports of blocks that memory without write or read permission or the kernel holds,
#: and of a second C library in a namespace of its own: it does not know the heap of that one.
VALGRIND_SAYS = {
    **{"read-only": "definite", "no-access": "definite"},
    **{"epoll-only": "definite", "signal-stack-only": "definite"},
    **{"other-libc-held": None, "other-libc-lost": None, "lost-by-other-libc": "reachable"},
}

#: What kwatch reports of a page that only another mapping or a system call has written.
KWATCH_SAYS = {"shared-untouched": "definite"}

#: The same of a process that kwatch has not traced. It does not know the requested sizes.
UNTRACED = {**KWATCH_SAYS, "end-spare": "possible"}

OPTIONS = ("--json", "--no-syscalls", "--top", 1000)

pytestmark = pytest.mark.needs("g++")


def command_of(program, name, *flags):
    """The program and its arguments."""
    library = [program(name, "-shared", "-fPIC", "-DLIBRARY")] if name == "reach_library" else []
    return [program(name, *flags), *library]


@pytest.fixture(params=PROGRAMS)
def command(request, program):
    return command_of(program, *PROGRAMS[request.param])


def named(target):
    """Lets the program allocate; returns its blocks."""
    target.go()
    blocks = named_blocks(target.printed)
    assert blocks
    return blocks


@pytest.mark.needs("valgrind")
def test_programs_expect_what_valgrind_reports(start, command):
    target = start(*command, prefix=VALGRIND)
    blocks = named(target)
    assert list(differences(blocks, classes(target.pid), VALGRIND_SAYS)) == []


def test_a_process_that_was_never_traced(start, command):
    target = start(*command)
    blocks = named(target)
    assert list(differences(blocks, searched(target.pid), UNTRACED)) == []


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
def test_another_layout_of_the_heap(start, program, surroundings):
    name, environment = SURROUNDINGS[surroundings]
    target = start(*command_of(program, name), environment=environment)
    blocks = named(target)
    assert list(differences(blocks, searched(target.pid), UNTRACED)) == []


@pytest.mark.parametrize("name", ["reach_shapes", "reach_places", "reach_threads"])
def test_a_static_program(start, program, name):
    target = start(program(name, "-static"))
    blocks = named(target)
    assert list(differences(blocks, searched(target.pid), UNTRACED)) == []


def test_a_child_after_a_fork(start, program):
    target = start(program("reach_shapes"), "fork")
    answers = target.go()
    blocks = named_blocks(target.printed)
    assert list(differences(blocks, searched(answers["child"]), UNTRACED)) == []


def test_a_stopped_process(start, program):
    target = start(program("reach_threads"))
    blocks = named(target)
    os.kill(target.pid, signal.SIGSTOP)
    assert list(differences(blocks, searched(target.pid), UNTRACED)) == []


def test_a_process_whose_main_thread_has_ended(start, program):
    target = start(program("reach_threads"), "leaderless")
    blocks = named(target)
    assert list(differences(blocks, searched(target.pid), UNTRACED)) == []


@pytest.mark.parametrize("name", [name for name in PROGRAMS if "strings" not in name])
def test_a_process_that_was_attached(start, run_kwatch, program, name):
    target = start(*command_of(program, *PROGRAMS[name]))
    kwatch = run_kwatch("--pid", target.pid, *OPTIONS, "--older", "0")
    kwatch.attached()
    blocks = named(target)
    heap = kwatch.stop().final()["heap"]
    assert list(stack_differences(blocks, heap["stacks"], KWATCH_SAYS)) == []


@pytest.mark.parametrize("name", ["reach_shapes", "reach_threads", "reach_objects"])
def test_a_launched_program(start, program, tmp_path, name):
    reports = tmp_path / "reports"
    options = [*OPTIONS, "--interval", 1, "-o", reports]
    kwatch = (sys.executable, "-m", "kwatch", *map(str, options), "--")
    target = start(name, prefix=kwatch)
    blocks = named(target)
    before = len(reports.read_text().splitlines())

    def later():
        """The reports on what the program holds now: the next one may be half done."""
        lines = reports.read_text().splitlines(keepends=True)
        return [line for line in lines[before + 1 :] if line.endswith("\n")]

    wait_until(later)
    heap = documents(later())[0]["heap"]
    assert list(stack_differences(blocks, heap["stacks"], KWATCH_SAYS)) == []


@pytest.mark.needs("musl")
def test_a_program_with_musl(start, run_kwatch, program):
    """kwatch knows its blocks from the attach on. What is in freed blocks counts there."""
    target = start(program("reach_shapes", compiler="musl-gcc"))
    kwatch = run_kwatch("--pid", target.pid, *OPTIONS, "--older", "0")
    kwatch.attached()
    blocks = [block for block in named(target) if not block.name.startswith(("freed", "realloc"))]
    heap = kwatch.stop().final()["heap"]
    assert list(stack_differences(blocks, heap["stacks"], KWATCH_SAYS)) == []
