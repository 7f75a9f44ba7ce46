# SPDX-License-Identifier: Apache-2.0
"""Children that share their parent's memory share its heap: vfork(), clone(CLONE_VM)."""

from __future__ import annotations

import os

import pytest
from harness.breakpoints import malloc_of

from kwatch.kernel import bpf_features
from kwatch.procfs.mappings import read_mappings

#: Without these, glibc's own count includes its caches.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1"}
HEAP = ("--json", "--no-syscalls", "--top", "20")
#: Processes that use the parent's heap; the child of posix_spawn() does not.
SHARERS = 4


def traced(start, run_kwatch, *options):
    """Attaches to the program; returns it, its answers and kwatch's result."""
    target = start("sharers", environment=ENVIRONMENT)
    kwatch = run_kwatch("--pid", target.pid, "--scan-at-exit", *HEAP, *options)
    kwatch.attached()
    target.go("living")
    answers = target.go()
    assert answers["mallinfo_bytes"] == answers["chunk_bytes"]
    target.end()
    return target, answers, kwatch.finish()


def leaked(heap):
    """Blocks by the function that lost them."""
    found = {}
    for stack in heap["stacks"]:
        symbols = [frame["symbol"] for frame in stack["frames"]]
        assert stack["ending"] == "complete"
        found[symbols[1]] = found.get(symbols[1], 0) + stack["blocks"]
    return found


@pytest.mark.parametrize("follow", [(), ("--follow",)])
def test_their_blocks_and_frees_are_the_parents(start, run_kwatch, follow):
    target, answers, result = traced(start, run_kwatch, "--perf-uprobes", *follow)
    final = result.final(target.pid)
    heap = final["heap"]
    assert final["lost"] == {"events": 0, "by_cause": {}}
    for key in ("live_blocks", "live_bytes", "allocs", "frees"):
        assert heap[key] == answers[key]
    assert heap["superseded"] == 0
    assert heap["unknown_frees"] <= 1  # glibc's own, at the end of the thread
    lost = {"leak_in_vfork": 13 + 17, "leak_in_clone": 19, "leak_in_sibling": 23 + 29}
    assert lost.items() <= leaked(heap).items()
    assert final["verdict"] == "leak"
    children = [d for d in result.documents if d["process"]["pid"] != target.pid]
    assert [d for d in children if d["process"]["comm"] == "sharers" and d["heap"]] == []
    assert len(children) == (5 if follow else 0)


@pytest.mark.parametrize("follow", [(), ("--follow",)])
def test_what_the_probes_do_not_see_is_lost(start, run_kwatch, follow):
    """Since Linux 6.12, programs of a link run only in the process of the link."""
    target, answers, result = traced(start, run_kwatch, *follow)
    final = result.final(target.pid)
    unseen = final["lost"]["by_cause"].get("shared_heap_unseen", 0)
    if not unseen:  # an older kernel
        assert final["heap"]["live_blocks"] == answers["live_blocks"]
        return
    assert bpf_features.has_uprobe_links()
    assert unseen == SHARERS
    # The scan finds what the children have lost too.
    own = sum(blocks for function, blocks in leaked(final["heap"]).items() if "leak_" in function)
    assert final["heap"]["reach"]["definite"]["blocks"] > own
    assert final["verdict"] == "leak"
    assert final["heap"]["superseded"] == 0


def test_a_command_that_uses_posix_spawn_is_judged(run_kwatch):
    """The children of sh and posix_spawn() leave the heap alone."""
    spawn = "os.posix_spawn('/bin/true', ['true'], {})"
    script = f"import os\nfor _ in range(7): os.waitpid({spawn}, 0)"
    result = run_kwatch(*HEAP, "--", "python3", "-c", script).finish()
    assert "shared_heap_unseen" not in result.final()["lost"]["by_cause"]


def with_own_libc(tmp_path):
    """Runs a program with a copy of libc, in which no other program has probes."""
    libc = next(m.path for m in read_mappings(os.getpid()) if "libc.so" in m.path)
    script = f'cp {libc} {tmp_path}/c && mount --bind {tmp_path}/c {libc} && exec "$0" "$@"'
    return ("unshare", "--mount", "sh", "-c", script)


def test_a_child_that_is_not_traced_loses_the_probes(start, run_kwatch, tmp_path):
    """Its memory begins as a copy of its parent's, with the breakpoints."""
    target = start("forks", prefix=with_own_libc(tmp_path))
    kwatch = run_kwatch("--pid", target.pid, *HEAP, "--perf-uprobes")
    kwatch.attached()
    child = target.go("forked")["child"]
    assert not malloc_of(child).is_untouched()
    line = kwatch.said(lambda line: "forks children" in line)
    assert line.startswith(f"kwatch: forks[{target.pid}] forks children, which are not traced")
    target.go()
    assert malloc_of(child).is_untouched()
    assert not malloc_of(target.pid).is_untouched()
    target.end()
    assert kwatch.finish().final()["heap"]["allocs"] == 1009


def test_a_child_that_is_not_traced_and_keeps_the_probes_is_named(start, run_kwatch):
    target = start("forks")
    kwatch = run_kwatch("--pid", target.pid, *HEAP)
    kwatch.attached()
    target.go("forked")
    line = kwatch.said(lambda line: "forks children" in line)
    assert "--perf-uprobes" in line
    assert "--follow" in line
    kwatch.stop()


@pytest.mark.parametrize("options", [(), ("--perf-uprobes",)])
def test_the_heap_after_the_end_of_the_main_thread(program, run_kwatch, options):
    """A perf event compares the memory with that of the main thread, which has none then."""
    result = run_kwatch(*HEAP, *options, "--", program("headless"), "now").finish()
    final = result.final()
    if options or not bpf_features.has_uprobe_links():
        assert final["lost"]["by_cause"] == {"main_thread_ended": 1}
        lost = final["heap"]["reach"]["definite"]["blocks"]  # of which kwatch saw none allocated
        assert lost >= result.answers["live_blocks"] - 1
        assert final["verdict"] == "leak"
        assert final["reason"].startswith(f"{lost} blocks")
        return
    leaked = [s for s in final["heap"]["stacks"] if s["frames"][0]["symbol"] == "go_on"]
    assert sum(stack["blocks"] for stack in leaked) == result.answers["live_blocks"]


@pytest.mark.parametrize("name", ["threads", "threadexec"])
def test_a_main_thread_that_ends_with_the_others_loses_nothing(program, run_kwatch, name):
    result = run_kwatch(*HEAP, "--perf-uprobes", "--", program(name), "now").finish()
    assert "main_thread_ended" not in result.final()["lost"]["by_cause"]
