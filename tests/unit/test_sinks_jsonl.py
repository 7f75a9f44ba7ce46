# SPDX-License-Identifier: Apache-2.0
"""The JSON that scripts rely on."""

from __future__ import annotations

import io
import json
from dataclasses import replace

from kwatch.model.frame import Ending, Frame
from kwatch.model.growth import Grown, GrowthEvidence, GrowthKind
from kwatch.model.process import ProcessFacts
from kwatch.model.reach import Amount, BlockCounts, HeapReach
from kwatch.model.snapshot import (
    BlockOwner,
    CallStackStats,
    Descriptors,
    EndedStats,
    EndedSummary,
    Footprint,
    HeapStats,
    Lost,
    MemoryStats,
    Release,
    Snapshot,
    StackStats,
    SyscallStats,
    SyscallSummary,
    Verdict,
)
from kwatch.sinks.jsonl import JsonLines

FRAME = Frame(0x401136, "main", 6, "/path", "main.c", 7)
RELEASE = Release((FRAME,), 97, 100, 0.014)
SNAPSHOT = Snapshot(
    kind="final",
    time="2026-01-31T12:00:00.000Z",
    elapsed_s=5.0,
    process=ProcessFacts(1, 1.0, "nginx", "/usr/sbin/nginx"),
    heap=HeapStats(
        64,
        2,
        3,
        96,
        1,
        32,
        4,
        5,
        endings={"complete": 1},
        reach=HeapReach(definite=Amount(1, 32), reachable=Amount(1, 32), scans=5, seconds=0.25),
        stacks=(
            StackStats(
                *(9, 64, 2, 0.5, (16, 48), (32, 32), (FRAME,), Ending.COMPLETE),
                release=RELEASE,
                owner=BlockOwner.LIBRARY,
                owner_module="/lib/libx.so",
                reach=BlockCounts(definite=1, reachable=1),
                lost_bytes=32,
                direct=Amount(1, 32),
                indirect=Amount(2, 9),
            ),
        ),
    ),
    memory=MemoryStats(4096, 1, 2, 1, -4096, anonymous_bytes=8192, anonymous_growth=4096),
    syscalls=SyscallSummary(7, 1, (SyscallStats("read", 7, 1, 700, 90, 200, 210, 2, 1),)),
    lost=Lost(3, {"heap_ring_full": 3}),
    verdict=Verdict.UNSURE,
    reason="3 events were lost",
    descriptors=Descriptors(5, 1),
    kwatch=Footprint(1 << 19, 250, 1 << 24),
    growth=(
        GrowthEvidence(
            Grown.DESCRIPTORS, GrowthKind.GROWING, "they grow", "number", 2.5, 0.5, 60.0
        ),
    ),
)

#: The fields of docs/json.md.
EXPECTED = """
{"kind": "final", "time": "2026-01-31T12:00:00.000Z", "elapsed_s": 5.0,
 "process": {"pid": 1, "start_time": 1.0, "comm": "nginx", "exe": "/usr/sbin/nginx", "exited": false,
             "killed_by": ""},
 "heap": {"live_bytes": 64, "live_blocks": 2, "allocs": 3, "alloc_bytes": 96, "frees": 1, "freed_bytes": 32, "unknown_frees": 4, "thread_end_frees": 0, "failed_allocs": 5, "inherited": 0, "superseded": 0, "young_bytes": 0, "young_blocks": 0, "endings": {"complete": 1},
          "reach": {"definite": {"blocks": 1, "bytes": 32}, "indirect": {"blocks": 0, "bytes": 0}, "possible": {"blocks": 0, "bytes": 0}, "reachable": {"blocks": 1, "bytes": 32},
                    "stack_only": {"blocks": 0, "bytes": 0}, "scans": 5, "seconds": 0.25, "stopped_s": 0.0, "is_walked": false, "is_settled": false, "blind_threads": 0, "unreadable": 0, "unwalked": [], "error": ""},
          "stacks": [{"id": "0x9", "bytes": 64, "blocks": 2, "oldest_s": 0.5, "addresses": ["0x10", "0x30"], "sizes": [32, 32],
                      "reach": {"definite": 1, "indirect": 0, "possible": 0, "reachable": 1, "unknown": 0}, "lost_bytes": 32, "direct": {"blocks": 1, "bytes": 32}, "indirect": {"blocks": 2, "bytes": 9},
                      "ending": "complete", "frames": [{"address": "0x401136", "symbol": "main", "offset": 6, "module": "/path", "file": "main.c", "line": 7, "inlined": false}],
                      "release": {"frames": [{"address": "0x401136", "symbol": "main", "offset": 6, "module": "/path", "file": "main.c", "line": 7, "inlined": false}], "at": 0, "blocks": 97, "of": 100, "mean_lifetime_s": 0.014},
                      "owner": "library", "owner_module": "/lib/libx.so"}], "young_stacks": []},
 "memory": {"mapped_bytes": 4096, "mappings": 1, "mmap_calls": 2, "munmap_calls": 1, "brk_bytes": -4096,
            "own_bytes": 0, "own_mappings": 0, "anonymous_bytes": 8192, "anonymous_growth": 4096, "unseen_bytes": 0, "shared_bytes": 0, "shared_growth": 0, "stacks": []},
 "syscalls": {"calls": 7, "errors": 1,
              "by_name": [{"name": "read", "calls": 7, "errors": 1, "total_ns": 700, "p50_ns": 90, "p99_ns": 200, "max_ns": 210, "unfinished": 2, "began_earlier": 1}],
              "endings": {}, "stacks": null, "other_calls": 0},
 "lost": {"events": 3, "by_cause": {"heap_ring_full": 3}},
 "verdict": "unsure", "reason": "3 events were lost", "descriptors": {"open": 5, "growth": 1},
 "growth": [{"what": "descriptors", "kind": "growing", "sentence": "they grow", "unit": "number",
             "per_s": 2.5, "error": 0.5, "seconds": 60.0, "id": null, "gains": []}], "wrappers": null, "mark": null, "since_mark": null,
 "kwatch": {"table_bytes": 524288, "name_bytes": 250, "symbol_reader_bytes": 16777216}}
"""  # noqa: E501


def lines_of(*snapshots: Snapshot) -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    sink = JsonLines(stream)
    for snapshot in snapshots:
        sink.write(snapshot)
    stream.seek(0)
    return stream.read().splitlines()


def test_stacks_of_system_calls() -> None:
    stack = CallStackStats(10, "read", 7, 1, 700, (FRAME,), Ending.COMPLETE)
    calls = SyscallSummary(7, 1, endings={"complete": 1}, stacks=(stack,), other_calls=2)
    [line] = lines_of(replace(SNAPSHOT, syscalls=calls))
    found = json.loads(line)
    frames = found["heap"]["stacks"][0]["frames"]
    assert found["syscalls"] == {
        "calls": 7,
        "errors": 1,
        "by_name": [],
        "endings": {"complete": 1},
        "stacks": [
            {
                "id": "0xa",
                "name": "read",
                "calls": 7,
                "errors": 1,
                "total_ns": 700,
                "ending": "complete",
                "frames": frames,
            }
        ],
        "other_calls": 2,
    }


def test_a_snapshot_is_one_line_with_the_documented_keys() -> None:
    [line] = lines_of(SNAPSHOT)
    assert json.loads(line) == json.loads(EXPECTED)
    assert line.startswith('{"kind": "final", "time": ')


def test_what_is_not_traced_is_null() -> None:
    [line] = lines_of(replace(SNAPSHOT, heap=None, memory=None, syscalls=None, verdict=None))
    record = json.loads(line)
    assert [record[key] for key in ("heap", "memory", "syscalls", "verdict")] == [None] * 4


def test_names_may_be_any_bytes() -> None:
    comm = bytes(range(1, 256)).decode("utf-8", "surrogateescape")
    [line] = lines_of(replace(SNAPSHOT, process=ProcessFacts(1, 1.0, comm, "/tmp/é\udcff")))
    process = json.loads(line)["process"]
    assert process["exe"] == "/tmp/é\ufffd"
    assert process["comm"].encode("utf-8").startswith(bytes(range(1, 128)))


def test_ended_processes_are_a_line_of_their_own() -> None:
    out = io.StringIO()
    calls = SyscallSummary(3, 0, ())
    JsonLines(out).write_ended(EndedSummary("now", 5.0, (EndedStats("cat", 2, 1, calls),), 4))
    record = json.loads(out.getvalue())
    assert record.pop("names")[0].items() >= {"comm": "cat", "processes": 2, "skipped": 1}.items()
    assert record == {"kind": "ended", "time": "now", "elapsed_s": 5.0, "other_names": 4}
