# SPDX-License-Identifier: Apache-2.0
"""What grows is told from what does not, with the slope that the programs themselves print."""

from __future__ import annotations

import pytest

GROWING = {
    "list": "blocks",
    "buffer": "blocks",
    "mappings": "mappings",
    "descriptors": "descriptors",
    "threads": "blocks",
    "turns": "heap",
}
HEALTHY = ("cache", "stops", "batches")


def test_growth_is_found_and_nothing_else(start, run_kwatch):
    """Nine programs are watched together for the least time that kwatch needs."""
    targets = {what: start("grows", what) for what in (*GROWING, *HEALTHY)}
    pids = ",".join(str(target.pid) for target in targets.values())
    kwatch = run_kwatch("--pid", pids, "--json", "--no-syscalls", "--interval", 60)
    kwatch.attached()
    for target in targets.values():
        target.release()
    said = {what: target.reached() for what, target in targets.items()}
    report = kwatch.stop()
    grown = {what: report.final(target.pid)["growth"] for what, target in targets.items()}
    for what in HEALTHY:
        assert [each for each in grown[what] if each["kind"] == "growing"] == []
    for what, meant in GROWING.items():
        assert {each["what"] for each in grown[what]} <= {meant, "heap"}
        found = grown[what][0]
        assert (found["what"], found["kind"]) == (meant, "growing")
        assert found["seconds"] >= 33
        per_s = found["per_s"] * UNIT.get(what, 1)
        assert per_s == pytest.approx(
            said[what]["held"] * 1000 / said[what]["milliseconds"], rel=0.1
        )


#: How many of what the program counts are in one byte of what kwatch found.
UNIT = {"list": 1 / 64, "mappings": 1 / 4096, "threads": 1 / 3000, "turns": 1 / 3000}
