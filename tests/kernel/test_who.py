# SPDX-License-Identifier: Apache-2.0
"""`--who`: what holds the blocks of a function, in a process that runs."""

from __future__ import annotations

import pytest

OPTIONS = ("--no-syscalls", "--interval", 1000, "--who", "new_entry")


def holders_of(result):
    [report] = [document for document in result.documents if document["kind"] == "who"]
    return report


@pytest.fixture
def watched(start, run_kwatch):
    """Starts kwatch before the blocks are allocated."""

    def watch(*options):
        target = start("holders", "hold_entries")
        kwatch = run_kwatch("--pid", target.pid, *OPTIONS, *options)
        kwatch.attached()
        target.go()
        return target, kwatch

    return watch


def test_holders_are_summed(watched):
    _, kwatch = watched("--json")
    report = holders_of(kwatch.stop())
    assert (report["found"], report["error"]) == ({"blocks": 47, "bytes": 9400}, "")
    first, second = report["held_by"]
    assert first == {"kind": "root", "name": "cache (holders)", "blocks": 30, "bytes": 6000}
    assert (second["kind"], second["blocks"], second["bytes"]) == ("block", 12, 2400)
    assert second["name"].startswith("hold_entries (holders.c:")
    assert report["unheld"] == {"blocks": 5, "bytes": 1000}


def test_the_text_names_them(watched):
    _, kwatch = watched()
    shown = kwatch.stop().stdout
    at = next(n for n, line in enumerate(shown) if "with new_entry are held by" in line)
    assert [line.split("  ")[-1] for line in shown[at + 1 : at + 4]][::2] == [
        "cache (holders)",
        "nothing that was found",
    ]


def test_nobody_is_left_to_look_at(program, run_kwatch):
    result = run_kwatch(
        *OPTIONS, "--json", "--", program("holders"), "hold_entries", "now"
    ).finish()
    assert not [document for document in result.documents if document["kind"] == "who"]
    said = "kwatch: what holds the blocks of new_entry is not known: every process has ended"
    assert any(line.startswith(said) for line in result.stderr)
