# SPDX-License-Identifier: Apache-2.0
"""Profiles of real programs have the figures that the programs print."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from harness.browser import Browser
from harness.profile_proto import Pprof

OPTIONS = ("--folded", "--pprof", "--speedscope", "--flamegraph")


@pytest.fixture
def files(tmp_path):
    return {option: tmp_path / option.strip("-") for option in OPTIONS}


def arguments(files):
    return [word for option, path in files.items() for word in (option, path)]


def outstanding(path: Path) -> dict[str, int]:
    """Bytes of folded stacks by their innermost function."""
    found: dict[str, int] = {}
    for line in path.read_text().splitlines():
        stack, _, size = line.rpartition(" ")
        leaf = stack.split(";")[-1]
        found[leaf] = found.get(leaf, 0) + int(size)
    return found


def test_all_formats_say_what_the_program_says(program, run_kwatch, files):
    result = run_kwatch(
        "--json", "--no-syscalls", *arguments(files), "--", program("leaky"), "now"
    ).finish()
    said = result.answers
    leaks = {"leak_small": said["small_bytes"], "leak_big": said["big_bytes"]}
    assert outstanding(files["--folded"]) == leaks

    profile = Pprof(files["--pprof"].read_bytes())
    stacks = profile.stacks()
    by_function: dict[str, list[int]] = {}
    for stack, values in stacks.items():  # what came before the tables may be cut higher up
        function = stack[0][0].split()[0]
        sums = by_function.get(function, [0] * len(values))
        by_function[function] = [a + b for a, b in zip(sums, values, strict=True)]
    assert by_function["leak_small"] == [said["small_blocks"], said["small_bytes"]] * 2
    assert by_function["leak_big"] == [said["big_blocks"], said["big_bytes"]] * 2
    assert by_function["balanced"][0] == said["frees"]
    assert by_function["balanced"][2:] == [0, 0]
    totals = [sum(values) for values in zip(*stacks.values(), strict=True)]
    heap = result.final()["heap"]
    assert totals == [heap[key] for key in ("allocs", "alloc_bytes", "live_blocks", "live_bytes")]
    assert totals[0] == said["mallocs"]
    assert totals[2:] == [said["live_blocks"], said["live_bytes"]]

    document = json.loads(files["--speedscope"].read_text())
    assert [one["endValue"] for one in document["profiles"]] == totals[::-1]
    assert [sum(one["weights"]) for one in document["profiles"]] == totals[::-1]


def test_mappings_have_the_build_ids_of_their_files(program, run_kwatch, files):
    binary = program("leaky", "-Wl,--build-id=0x0123456789abcdef")
    run_kwatch("--no-syscalls", "--pprof", files["--pprof"], "--", binary, "now").finish()
    profile = Pprof(files["--pprof"].read_bytes())
    ids = {
        profile.strings[m.filename]: profile.strings[m.build_id] for m in profile.mappings.values()
    }
    assert ids[str(binary)] == "0123456789abcdef"


@pytest.mark.needs("chromium")
def test_the_flame_graph_of_a_program(program, run_kwatch, files):
    path = files["--flamegraph"].with_suffix(".html")
    result = run_kwatch(
        "--no-syscalls", "--flamegraph", path, "--", program("leaky"), "now"
    ).finish()
    browser = Browser(path)
    try:
        browser.click("document.querySelector('#search')")
        browser.type("leak_")
        matched = browser.evaluate("document.querySelector('#matched').textContent")
        live = result.answers["live_bytes"]
        assert matched == f"2 frames: {live / 1024:.1f} KiB (100.0%)"
        assert browser.requests == [path.as_uri()]
        assert browser.errors == []
    finally:
        browser.close()


def test_a_killed_kwatch_leaves_the_files_of_the_last_snapshot(start, run_kwatch, files):
    target = start("leaky")
    kwatch = run_kwatch(
        "--json", "--no-syscalls", "--interval", "0.2", *arguments(files), "--pid", target.pid
    )
    kwatch.attached()
    said = target.go()
    # When the files are written, they are written before the report; not every report writes them.
    kwatch.document(lambda _: sum(outstanding(files["--folded"]).values()) == said["live_bytes"])
    kwatch.stop(signal.SIGKILL)
    assert sum(outstanding(files["--folded"]).values()) == said["live_bytes"]
    totals = map(sum, zip(*Pprof(files["--pprof"].read_bytes()).stacks().values(), strict=True))
    assert list(totals)[2:] == [said["live_blocks"], said["live_bytes"]]


def test_processes_are_told_apart(program, run_kwatch, files):
    result = run_kwatch(
        "--json", "--no-syscalls", "--follow", *arguments(files), "--", program("forks"), "now"
    ).finish()
    finals = [document for document in result.documents if document["kind"] == "final"]
    live = {
        f"{final['process']['comm']}[{final['process']['pid']}]": final["heap"]["live_bytes"]
        for final in finals
    }
    assert len(live) > 1
    found = dict.fromkeys(live, 0)
    for line in files["--folded"].read_text().splitlines():
        found[line.partition(";")[0]] += int(line.rpartition(" ")[2])
    assert found == live


def test_a_place_that_cannot_be_written_is_told_before_anything_is_attached(start, run_kwatch):
    result = run_kwatch("--pid", start("leaky").pid, "--pprof", "/nonexistent/profile").finish()
    assert result.status == 1
    assert not any(line.startswith("attached") for line in result.stderr)
    assert "/nonexistent/profile cannot be written: No such file or directory" in result.stderr[0]
