# SPDX-License-Identifier: Apache-2.0
"""One kwatch traces many processes at once; each has its own exact report.

One start of kwatch checks most kinds of program, so every kernel of tests/kernels.txt runs this
file (see tools/vm).
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from harness import exchange
from harness.backtraces import EVERY_STACK, assert_exact
from harness.breakpoints import malloc_of
from harness.libraries import library
from harness.programs import Programs
from harness.requirements import missing
from harness.session import Document, Session
from harness.target import Target

FEWER = "-DPAIRS=1009"


# The same program three times: attached by pid, started later and found by name, and launched.
LEAKY = ("pairs", "by name", "launched")


@dataclass(frozen=True)
class Case:
    """How a program is built and run. `stages` are the stages after `ready`."""

    program: str
    flags: tuple[str, ...] = ()
    compiler: str | None = None
    preload: str = ""
    arguments: tuple[str, ...] = ()
    stages: tuple[str, ...] = ("done",)
    needs: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()


HEAP = {
    "pairs": Case("leaky"),
    "threads": Case("threads"),
    "reallocs": Case("reallocs"),
    "family": Case("family"),
    "cxx": Case("cxx", needs=("g++",)),
    "exec": Case("execs", stages=("allocated", "execed", "done")),
    "mount namespace": Case("leaky", (FEWER,), prefix=("unshare", "-m")),
    "static": Case("leaky", (FEWER, "-static")),
    "static-pie": Case("reallocs", ("-static-pie",)),
    "musl": Case("leaky", (FEWER,), compiler="musl-gcc", needs=("musl",)),
    "musl reallocs": Case("reallocs", compiler="musl-gcc", needs=("musl",)),
    "musl static": Case("leaky", (FEWER, "-static"), compiler="musl-gcc", needs=("musl",)),
    # Debian's jemalloc has no pvalloc, so its free would get a block that glibc allocated.
    "jemalloc": Case("family", ("-DNO_PVALLOC",), preload="jemalloc", needs=("jemalloc",)),
    "tcmalloc": Case("cxx", preload="tcmalloc", needs=("tcmalloc", "g++")),
    "mimalloc": Case("reallocs", preload="mimalloc", needs=("mimalloc",)),
    "wrappers": Case("handover"),
}

# The wrappers in tests/programs/handover.c.
WRAPPERS = ("--alloc-prefix", "pool_", "--alloc-prefix", "pool_other_")
FORKS = Case("forks", stages=("forked", "done"))
CALLS = {
    "threads calling": (Case("getppid", arguments=("3", "10007")), ("getppid",)),
    "refused by seccomp": (Case("refused"), ("getppid",)),
    "32-bit": (
        Case("syscalls32", needs=("m32",)),
        ("getppid", "open", "close", "access", "unknown"),
    ),
}
if platform.machine() == "x86_64":
    CALLS["int 0x80 and x32"] = (Case("gates"), ("getppid",))
DLOPEN = Case("dlopens", arguments=("libmimalloc",), stages=("loaded", "done"), needs=("mimalloc",))
BADALLOC = Case("badalloc", preload="tcmalloc", needs=("tcmalloc", "g++"))
OTHERS = {
    "forks": FORKS,
    "dlopen": DLOPEN,
    "bad_alloc": BADALLOC,
    "stacks": Case("stacks"),
    "survivor": Case("leaky", (FEWER,)),
}
CASES = {**HEAP, **OTHERS, **{label: case for label, (case, _) in CALLS.items()}}


def start(program: Programs, case: Case) -> Target:
    path = program(case.program, *case.flags, compiler=case.compiler)
    preload = {"LD_PRELOAD": str(library(f"lib{case.preload}"))} if case.preload else {}
    arguments = [library(word) or word for word in case.arguments]
    return Target([*case.prefix, path, *arguments], preload)


@dataclass
class Together:
    """The answers of each program and the final report of each process."""

    answers: dict[str, dict[str, int]] = field(default_factory=dict)
    finals: dict[str, dict[str, Any]] = field(default_factory=dict)
    untouched: bool = False  # the survivor's code, when kwatch has ended
    status: int | None = None  # with which the survivor has ended


@pytest.fixture(scope="module")
def together(program):
    """Traces every program that this machine can build with one kwatch."""
    targets: dict[str, Target] = {}
    found = Together()
    sessions = []
    try:
        for label, case in CASES.items():
            if not any(map(missing, case.needs)):
                targets[label] = start(program, case)
        pids = ",".join(str(target.pid) for target in targets.values())
        # An emulated kwatch is slow to read its rings, so the buffer is large. Waiting threads call
        # sched_yield a million times, so it is not traced.
        options = ["--pid", pids, "--comm", "leak?", "--follow", "--json", "--buffer", "32M"]
        options += [
            *EVERY_STACK,
            *WRAPPERS,
            "-e",
            "trace=!sched_yield",
            "--",
            str(program("leaky")),
            "now",
        ]
        sessions.append(kwatch := Session(*options))
        kwatch.attached()
        targets["by name"] = start(program, HEAP["pairs"])
        wait_for(kwatch, f"attached to leaky[{targets['by name'].pid}]; heap: ")
        for label, target in targets.items():
            found.answers[label] = run_through(kwatch, target, CASES.get(label, HEAP["pairs"]))
        survivor = targets["survivor"]
        for target in targets.values():
            if target is not survivor:
                target.end()
                wait_for_report(kwatch, target.pid)
        result = kwatch.stop()
        found.untouched = malloc_of(survivor.pid).is_untouched()
        found.status = survivor.end()
        for label, target in targets.items():
            found.finals[label] = result.final(target.pid)
        found.finals["child"] = result.final(found.answers["forks"]["child"])
        found.answers["launched"] = result.answers
        found.finals["launched"] = launched_one(
            result.documents, targets.values(), program("leaky")
        )
        calls = {
            targets[label].pid: {name: found.answers[label][name] for name in names}
            for label, (_, names) in CALLS.items()
            if label in targets
        }
        exchange.save("together", result.stdout, calls)
        yield found
    finally:
        for target in targets.values():
            target.kill()
        for session in sessions:
            session.kill()


def run_through(kwatch: Session, target: Target, case: Case) -> dict[str, int]:
    """Takes the program from stage to stage, and waits until new processes are attached."""
    answers = {}
    for stage in case.stages:
        answers |= target.go(stage)
        if stage == "forked":
            wait_for(kwatch, f"attached to forks[{answers['child']}]; heap: ")
        if stage == "loaded":
            wait_for(kwatch, f"dlopens[{target.pid}]", "libmimalloc")
    return answers


def wait_for(kwatch: Session, *words: str) -> None:
    kwatch.said(lambda line: all(word in line for word in words))


def wait_for_report(kwatch: Session, pid: int) -> None:
    kwatch.document(lambda d: d["kind"] == "final" and d["process"]["pid"] == pid)


def launched_one(
    documents: Iterable[Document], others: Iterable[Target], program: Path
) -> Document:
    """The final report of the launched program; other programs may have its name."""
    pids = {target.pid for target in others}
    finals = [d for d in documents if d["kind"] == "final" and d["process"]["pid"] not in pids]
    (found,) = [final for final in finals if final["process"]["exe"] == str(program)]
    return found


def needing(cases):
    return [
        pytest.param(label, marks=pytest.mark.needs(*case.needs)) for label, case in cases.items()
    ]


def assert_heap(document, answers, process=""):
    heap = document["heap"]
    assert document["lost"] == {"events": 0, "by_cause": {}}
    for key in ("live_blocks", "live_bytes", "allocs", "frees"):
        if f"{process}{key}" in answers:
            assert (key, heap[key]) == (key, answers[f"{process}{key}"])
    assert heap["failed_allocs"] == answers.get(f"{process}failed", 0)


@pytest.mark.parametrize("label", [*needing(HEAP), *LEAKY[1:]])
def test_heap(together, label):
    answers = together.answers[label]
    assert "live_blocks" in answers
    assert_heap(together.finals[label], answers)


@pytest.mark.parametrize("label", LEAKY)
def test_stacks_of_leaks(together, label):
    """Function, blocks, bytes and line of both leaks."""
    answers, final = together.answers[label], together.finals[label]
    stacks = {s["frames"][0]["symbol"]: s for s in final["heap"]["stacks"]}
    for function, name in (("leak_small", "small"), ("leak_big", "big")):
        stack = stacks[function]
        assert stack["blocks"] == answers[f"{name}_blocks"]
        assert stack["bytes"] == answers[f"{name}_bytes"]
        assert stack["frames"][0]["file"].endswith("leaky.c")
        assert stack["frames"][1]["symbol"] == "main"


def test_every_kind_of_frame(together):
    assert_exact(together.finals["stacks"], together.answers["stacks"])


def test_fork_copies_the_live_set(together):
    answers = together.answers["forks"]
    assert_heap(together.finals["forks"], answers, "parent_")
    assert_heap(together.finals["child"], answers, "child_")


def test_detached_when_kwatch_ends(together):
    assert together.untouched
    assert together.status == 0


@pytest.mark.needs("mimalloc")
def test_library_opened_later(together):
    answers = together.answers["dlopen"]
    stacks = together.finals["dlopen"]["heap"]["stacks"]
    (stack,) = [s for s in stacks if s["frames"][0]["symbol"] == "use_loaded"]
    assert (stack["blocks"], stack["bytes"]) == (answers["loaded_blocks"], answers["loaded_bytes"])


@pytest.mark.needs("tcmalloc")
def test_exceptions_pass_through_probed_operators(together):
    """A bad_alloc unwinds through the frame of operator new, whose return is probed."""
    answers = together.answers["bad_alloc"]
    assert answers["caught"] == answers["thrown"]


@pytest.mark.needs("m32")
def test_mappings_of_a_32_bit_program(together):
    memory = together.finals["32-bit"]["memory"]
    assert memory["mapped_bytes"] == together.answers["32-bit"]["mapped_bytes"]


@pytest.mark.parametrize("label", needing({label: case for label, (case, _) in CALLS.items()}))
def test_calls_by_their_own_table(together, label):
    answers, final = together.answers[label], together.finals[label]
    calls = {row["name"]: row["calls"] for row in final["syscalls"]["by_name"]}
    _, names = CALLS[label]
    assert {name: calls.get(name, 0) for name in names} == {name: answers[name] for name in names}
    assert not [name for name in calls if name.startswith("syscall_")]
