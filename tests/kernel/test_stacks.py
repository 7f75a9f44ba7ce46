# SPDX-License-Identifier: Apache-2.0
"""Stacks without frame pointers equal those of glibc's backtrace() in the program itself."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from harness.backtraces import EVERY_STACK, SITES, assert_exact

HEAP = ("--json", "--no-syscalls", *EVERY_STACK)


def test_every_kind_of_frame(start, run_kwatch):
    target = start("stacks")
    kwatch = run_kwatch("--pid", target.pid, *HEAP)
    kwatch.attached()
    answers = target.go()
    target.end()
    final = kwatch.finish().final()
    assert_exact(final, answers)
    assert final["heap"]["endings"]["too_deep"] == 1


def test_with_those_of_system_calls(start, run_kwatch):
    target = start("stacks")
    kwatch = run_kwatch("--pid", target.pid, "--json", *EVERY_STACK, "--stacks")
    kwatch.attached()
    answers = target.go()
    target.end()
    final = kwatch.finish().final()
    assert_exact(final, answers)
    writes = [stack for stack in final["syscalls"]["stacks"] if stack["name"] == "write"]
    assert {"too_deep", "complete"} <= {stack["ending"] for stack in writes}
    assert final["heap"]["endings"]["too_deep"] == 1


@pytest.mark.parametrize("flag", ["-static", "-static-pie"])
def test_static(program, start, run_kwatch, flag):
    target = start(program("stacks", flag, "-DNO_DLOPEN"))
    kwatch = run_kwatch("--pid", target.pid, *HEAP)
    kwatch.attached()
    answers = target.go()
    target.end()
    sites = [site for site in SITES if site != "library"]
    assert_exact(kwatch.finish().final(), answers, sites)


FAR_FROM_THE_REST = ("-no-pie", "-DFAR", "-Wl,--section-start=.hot.text=0x40000000")


def test_code_far_from_the_rest_of_its_file(program, start, run_kwatch):
    """As the linker places hot functions that a profile names."""
    target = start(program("stacks", *FAR_FROM_THE_REST))
    kwatch = run_kwatch("--pid", target.pid, *HEAP)
    kwatch.attached()
    answers = target.go()
    target.end()
    assert_exact(kwatch.finish().final(), answers)


MAPS_CODE = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    code = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
print("ready", flush=True)
sys.stdin.readline()
"""


def test_a_file_without_a_table_that_is_mapped_already_is_named(start, run_kwatch, tmp_path):
    code = tmp_path / "code"
    code.write_bytes(bytes(4096))
    target = start(Path(sys.executable), "-c", MAPS_CODE, code)
    kwatch = run_kwatch("--pid", target.pid, *HEAP)
    kwatch.attached()
    line = kwatch.said(lambda line: line.startswith("no unwind table for "))
    assert line.startswith(f"no unwind table for {code}: ")
    kwatch.stop()


def test_after_an_exec(start, run_kwatch):
    target = start("stacks", "exec")
    kwatch = run_kwatch("--pid", target.pid, *HEAP)
    kwatch.attached()
    answers = target.go()
    target.end()
    assert_exact(kwatch.finish().final(), answers)


def test_in_a_child(start, run_kwatch):
    target = start("stacks", "fork")
    kwatch = run_kwatch("--pid", target.pid, "--follow", *HEAP)
    kwatch.attached()
    child = target.go("forked")["child"]
    kwatch.said(lambda line: line.startswith(f"attached to stacks[{child}]; heap: "))
    answers = target.go()
    target.end()
    assert_exact(kwatch.finish().final(child), answers)


def test_launched(program, run_kwatch):
    result = run_kwatch(*HEAP, "--", program("stacks"), "now").finish()
    assert_exact(result.final(), result.answers)


def test_without_stacks(start, run_kwatch):
    target = start("stacks")
    kwatch = run_kwatch("--pid", target.pid, *HEAP, "--no-stacks")
    kwatch.attached()
    target.go()
    target.end()
    final = kwatch.finish().final()
    stacks = final["heap"]["stacks"]
    assert {stack["ending"] for stack in stacks} == {"off"}
    assert "malloc" in {stack["frames"][0]["symbol"] for stack in stacks}
    assert final["heap"]["live_blocks"] >= len(SITES)


def test_libraries_that_lie_in_turn_at_the_same_addresses(program, start, run_kwatch):
    names = ("first", "second")
    libraries = [program("passing", f"-DNAME={name}") for name in names]
    target = start("reopens", *libraries)
    kwatch = run_kwatch("--pid", target.pid, *HEAP)
    kwatch.attached()
    for _ in range(4):
        target.go("turned")
    answers = target.go()
    target.end()
    assert answers["same_place"]
    stacks = kwatch.finish().final()["heap"]["stacks"]
    for name in names:
        found = [stack for stack in stacks if stack["sizes"][0] == answers[f"{name}_size"]]
        assert sum(stack["blocks"] for stack in found) == answers["blocks"]
        whole = [stack for stack in found if stack["ending"] in ("complete", "finished")]
        (stack,) = whole
        assert [frame["symbol"] for frame in stack["frames"][:4]] == ["take", name, "leak", "main"]
        for cut in [stack for stack in found if stack not in whole]:  # of code not known so far
            symbols = [frame["symbol"] for frame in cut["frames"]]
            assert (cut["ending"], cut["blocks"]) == ("no_mapping", 1)
            assert symbols == ["take", name, "leak", "main"][: len(symbols)]


def test_stacks_that_differ_in_the_frame_pointer_alone(start, run_kwatch):
    target = start("bare")
    kwatch = run_kwatch("--pid", target.pid, *HEAP)
    kwatch.attached()
    answers = target.go()
    target.end()
    stacks = {stack["sizes"][0]: stack for stack in kwatch.finish().final()["heap"]["stacks"]}
    for kind, frames, ending, kinds in (
        ("no_frame", ["bare"], "no_row", 2),  # as a false one, which is not believed
        ("last_frame", ["bare", "landing"], "frame_pointers", 1),
        ("broken_frame", ["bare", "landing"], "no_row", 1),
    ):
        stack = stacks[answers[f"{kind}_size"]]
        assert [frame["symbol"] for frame in stack["frames"]] == frames
        assert (stack["blocks"], stack["ending"]) == (kinds * answers["blocks"], ending)
    stack = stacks[answers["handler_size"]]
    symbols = [frame["symbol"] for frame in stack["frames"]]
    assert symbols[0] == "handle"
    assert "main" in symbols
    assert (stack["blocks"], stack["ending"]) == (answers["blocks"], "frame_pointers")


def test_a_library_of_whose_mapping_the_record_was_lost(program, start, run_kwatch):
    target = start("floods", program("passing", "-DNAME=first"))
    kwatch = run_kwatch("--pid", target.pid, *HEAP, "--interval", "0.2")
    kwatch.attached()
    kwatch.send(signal.SIGSTOP)
    target.go("opened")
    kwatch.send(signal.SIGCONT)

    def is_whole(document):
        stacks = [[frame["symbol"] for frame in s["frames"]] for s in document["heap"]["stacks"]]
        return any(symbols[:3] == ["take", "first", "main"] for symbols in stacks)

    seconds, whole = 0.0, False
    while not whole and seconds < 15:
        target.go("leaked")
        document = kwatch.document(lambda d, after=seconds: d["elapsed_s"] > after)
        seconds, whole = document["elapsed_s"], is_whole(document)
    assert whole
    target.end()
    assert kwatch.finish().final()["lost"]["by_cause"]["mapping_record_lost"] > 0
