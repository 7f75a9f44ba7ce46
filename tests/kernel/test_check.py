# SPDX-License-Identifier: Apache-2.0
"""`kwatch check` finds what valgrind finds, in the program as it is, and nothing in good ones."""

from __future__ import annotations

import re
import subprocess

import pytest
from harness.lines import DEADLINE

#: What glibc lets valgrind not see: it takes an aligned new for a plain one.
ONLY_KWATCH = {"aligned_new_delete": "mismatched_free"}

_TITLES = {"Invalid free()": "invalid_free", "Mismatched free()": "mismatched_free"}


def cases(program):
    listed = subprocess.run([program, "list"], capture_output=True, text=True, check=True)
    return [line.split()[1] for line in listed.stdout.splitlines()]


def by_valgrind(program, variant):
    """The kinds of errors that valgrind finds in each case."""
    command = ["valgrind", "-q", program, "all", variant]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    found = {}
    for line in done.stderr.splitlines():
        if line.startswith("case "):
            found[line.removeprefix("case ")] = kinds = set()
        for title, kind in _TITLES.items():
            if title in line:
                kinds.add(kind)
    return found


def by_kwatch(program, variant, start, run_kwatch):
    """The errors that kwatch finds in each case, which all run at once."""
    targets = {case: start(program, case, variant) for case in cases(program)}
    pids = {target.pid: case for case, target in targets.items()}
    kwatch = run_kwatch("check", "--json", "--pid", ",".join(map(str, pids)))
    kwatch.attached()
    for target in targets.values():
        target.release()
    documents = kwatch.finish().documents
    finals = {pids[one["process"]["pid"]]: one for one in documents if one["kind"] == "final"}
    assert finals.keys() == targets.keys()
    return {case: final["errors"] for case, final in finals.items()}


def kinds(errors):
    return {error["error"] for error in errors}


def functions(error, role):
    """The called function, and its callers, in the stack with this role."""
    (stack,) = [stack for stack in error["stacks"] if stack["role"] == role]
    names = [frame["symbol"].partition("(")[0] for frame in stack["frames"]]
    return [stack["function"], *names]


@pytest.mark.needs("g++", "valgrind")
def test_bad_programs(program, start, run_kwatch):
    path = program("misuses")
    found = by_kwatch(path, "bad", start, run_kwatch)
    expected = by_valgrind(path, "bad") | {case: {kind} for case, kind in ONLY_KWATCH.items()}
    assert {case: kinds(errors) for case, errors in found.items()} == expected
    (error,) = found["twice"]
    assert functions(error, "use")[:4] == ["free", "second_free", "twice", "main"]
    assert functions(error, "freed")[:4] == ["free", "first_free", "twice", "main"]
    assert functions(error, "allocated")[:4] == ["malloc", "allocate", "twice", "main"]
    (error,) = found["realloc_of_freed"]
    assert functions(error, "use")[:2] == ["realloc", "realloc_of_freed"]
    (error,) = found["old_pointer_after_realloc"]
    assert functions(error, "freed")[:2] == ["realloc", "old_pointer_after_realloc"]
    assert "static_buffer+0x10 (misuses)" in found["of_static_data"][0]["message"]


@pytest.mark.needs("g++")
def test_good_twins(program, start, run_kwatch):
    found = by_kwatch(program("misuses"), "good", start, run_kwatch)
    assert {case: errors for case, errors in found.items() if errors} == {}


@pytest.mark.needs("g++")
@pytest.mark.parametrize("options", [(), ("--no-free-stacks",)])
def test_a_launched_program_that_the_c_library_ends(program, run_kwatch, options):
    """It never waits: its last free arrives, with three stacks."""
    path = program("misuses")
    command = ["sh", "-c", f"exec {path} twice bad < /dev/null"]
    kwatch = run_kwatch("check", "--fail-on-error", *options, "--", *command)
    result = kwatch.finish()
    assert result.status == 3
    text = "\n".join(result.stdout)
    assert "Invalid free() / delete / delete[] / realloc()" in text
    freed = r"is 0 bytes inside a block of size 64 free'd\n    at free\n    by first_free"
    assert re.search(freed, text)
    assert "Block was alloc'd at\n    at malloc\n    by allocate" in text


def test_blocks_from_before_the_attach(start, run_kwatch):
    """Their words say that they are in use; a second free of one is an error all the same."""
    target = start("older_blocks")
    kwatch = run_kwatch("check", "--json", "--pid", target.pid)
    kwatch.attached()
    blocks = target.go()["blocks"]
    target.end()
    result = kwatch.finish()
    (error,) = result.final()["errors"]
    assert (error["reason"], functions(error, "use")[:2]) == ("freed", ["free", "free_again"])
    assert "from before the attach" in error["message"]
    assert result.final()["unknown"] == {"older": blocks}


def test_a_block_that_was_freed_before_the_attach(start, run_kwatch):
    target = start("older_blocks", 1)
    kwatch = run_kwatch("check", "--json", "--pid", target.pid)
    kwatch.attached()
    target.go()
    target.end()
    (error,) = kwatch.finish().final()["errors"]
    assert (error["reason"], functions(error, "use")[:2]) == ("chunk_free", ["free", "free_again"])


THREADS = """
import ctypes, decimal, json, sqlite3, threading
threads = [threading.Thread(target=lambda: [bytearray(n) for n in range(2000)]) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.mark.parametrize("options", [(), ("--no-free-stacks",), ("--buffer", "4K")])
def test_a_good_program_with_threads(run_kwatch, options):
    """glibc empties the caches of its threads through free(). A loss makes no error either."""
    kwatch = run_kwatch("check", "--json", *options, "--", "/usr/bin/python3", "-c", THREADS)
    result = kwatch.finish()
    assert result.status == 0
    final = result.final()
    assert final["errors"] == []
    if "--buffer" in options:
        assert final["lost"]["events"] > 0
    assert "lost" in final["unknown"] or "thread_end" in final["unknown"]


FORKS = """
import os, subprocess
for _ in range(5):
    pid = os.fork()
    if not pid:
        blocks = [bytearray(size) for size in range(3000)]
        os._exit(0)
    os.waitpid(pid, 0)
subprocess.run(["true"])
"""


def test_children_that_end_while_they_are_probed(run_kwatch):
    """Some releases of theirs are seen, but not all allocations."""
    kwatch = run_kwatch("check", "--json", "--follow", "--", "/usr/bin/python3", "-c", FORKS)
    result = kwatch.finish()
    assert result.status == 0
    finals = [one for one in result.documents if one["kind"] == "final"]
    assert len(finals) > 5
    assert [error for final in finals for error in final["errors"]] == []


def test_without_a_target(run_kwatch):
    result = run_kwatch("check").finish()
    assert result.status == 2
    assert "kwatch check needs a target" in result.stderr[0]


@pytest.mark.needs("g++")
@pytest.mark.parametrize("mistakes", [0, 1])
def test_operators_whose_blocks_have_a_header(start, run_kwatch, mistakes):
    """malloc and free see other addresses than the program; only the operators count."""
    target = start("own_operators", mistakes)
    kwatch = run_kwatch("check", "--json", "--pid", target.pid)
    kwatch.attached()
    blocks = target.go()["blocks"]
    target.end()
    final = kwatch.finish().final()
    assert final["releases"] == blocks + mistakes
    assert final["unknown"] == {}
    assert [functions(error, "use")[1] for error in final["errors"]] == ["delete_again"] * mistakes


@pytest.mark.parametrize("flags", [(), ("-static",)])
def test_threads_that_end_with_blocks_in_their_caches(program, start, run_kwatch, flags):
    """In a static program, glibc's functions are told by their names."""
    target = start(program("thread_caches", *flags))
    kwatch = run_kwatch("check", "--json", "--pid", target.pid)
    kwatch.attached()
    cached = target.go()["cached"]
    target.end()
    final = kwatch.finish().final()
    assert final["errors"] == []
    assert final["unknown"].get("thread_end", 0) >= cached


def test_a_heap_that_another_process_goes_on_using(start, run_kwatch):
    target = start("shared_heap")
    kwatch = run_kwatch("check", "--json", "--pid", target.pid)
    kwatch.attached()
    same = target.go()["same"]
    target.end()
    final = kwatch.finish().final()
    assert same > 1
    assert final["errors"] == []
    assert sum(final["unknown"].values()) >= same
