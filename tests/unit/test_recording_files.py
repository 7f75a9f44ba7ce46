# SPDX-License-Identifier: Apache-2.0
"""The files of a recording: whose they are, when they begin anew, and which of them go."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from harness.recordings import joined, opened, record, recorder

from kwatch.errors import KwatchError
from kwatch.recording.manifest import open_recording
from kwatch.recording.store import Store
from kwatch.recording.verified_calls import verified_calls

BATCH = [opened(b"/a")] * 3


def paths(folder):
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def read_paths(folder):
    return [call.pieces[1].decode() for call in verified_calls(open_recording(str(folder)))]


def segments(folder, number, **limits):
    """A recording whose segments hold one call each."""
    made = recorder(folder, **{"segment_s": 0} | limits)
    for which in range(number):
        made.add(joined([opened(b"%d" % which)]))
    made.close()
    return made


def test_only_the_user_can_read_it(tmp_path):
    record(tmp_path / "run", BATCH)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in paths(tmp_path)}
    folders = [path for path in (tmp_path / "run").rglob("*") if path.is_dir()]
    assert modes == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in [*folders, tmp_path / "run"]} == {0o700}


@pytest.mark.needs("root")
def test_it_belongs_to_the_user_who_ran_sudo(tmp_path, monkeypatch):
    monkeypatch.setenv("SUDO_UID", "1234")
    monkeypatch.setenv("SUDO_GID", "567")
    record(tmp_path / "run", BATCH)
    whole = [tmp_path / "run", *(tmp_path / "run").rglob("*")]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in whole} == {(1234, 567)}


@pytest.mark.parametrize("where", ["run", "run/syscalls", "run/segments"])
def test_a_link_leads_nowhere(tmp_path, where):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / where).parent.mkdir(mode=0o700, exist_ok=True)
    if where != "run":
        (tmp_path / "run" / "segments").mkdir(mode=0o700)
    if where == "run/segments":
        (tmp_path / where).rmdir()
    (tmp_path / where).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KwatchError):
        record(tmp_path / "run", BATCH)
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_directory_that_others_can_change(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o777)
    with pytest.raises(KwatchError, match="can be changed by others"):
        Store(str(tmp_path / "run"))


def test_a_directory_with_other_files(tmp_path):
    (tmp_path / "letter").write_text("dear")
    tmp_path.chmod(0o700)
    with pytest.raises(KwatchError, match="is no recording"):
        Store(str(tmp_path))


def test_segments_follow_one_another(tmp_path):
    made = segments(tmp_path / "run", 5)
    recording = open_recording(str(tmp_path / "run"))
    assert made.segments == len(recording.segments) >= 5
    assert made.calls == sum(segment.calls for segment in recording.segments) == 5
    assert made.bytes == sum(f.bytes for each in recording.segments for f in each.files.values())
    assert read_paths(tmp_path / "run") == ["0\0", "1\0", "2\0", "3\0", "4\0"]


def test_the_oldest_segments_go_when_all_are_too_large(tmp_path):
    once = segments(tmp_path / "one", 1)
    size = once.bytes // once.segments * 4
    segments(tmp_path / "run", 12, size=size)
    left = read_paths(tmp_path / "run")
    assert 1 <= len(left) < 12
    assert left == [f"{number}\0" for number in range(12 - len(left), 12)]
    tables = [path for path in paths(tmp_path / "run") if path.suffix == ".parquet"]
    assert sum(path.stat().st_size for path in tables) <= size
    listed = [
        f.path for s in open_recording(str(tmp_path / "run")).segments for f in s.files.values()
    ]
    assert sorted(map(Path, listed)) == tables, "nothing is left of the segments that went"


def test_old_segments_go_also_those_of_an_earlier_run(tmp_path):
    segments(tmp_path / "run", 3)
    segments(tmp_path / "run", 2, age_s=3600)
    assert len(read_paths(tmp_path / "run")) == 5
    segments(tmp_path / "run", 1, age_s=0)
    assert len(open_recording(str(tmp_path / "run")).segments) == 1


def test_those_of_another_host_stay(tmp_path, monkeypatch):
    monkeypatch.setattr("kwatch.recording.recorder.host_name", lambda: "other")
    segments(tmp_path / "run", 2)
    monkeypatch.undo()
    segments(tmp_path / "run", 2, age_s=0)
    recording = open_recording(str(tmp_path / "run"))
    assert [segment.host for segment in recording.segments].count("other") >= 2
    assert len(recording.hosts) == 2


def test_a_recorder_that_is_killed_loses_its_last_segment(tmp_path):
    made = recorder(tmp_path / "run", segment_s=0)
    made.add(joined([opened(b"kept")]))
    made.add(joined([opened(b"kept too")]))
    made.close()
    killed = recorder(tmp_path / "run")
    killed.add(joined([opened(b"lost")]))
    killed.abandon()
    recording = open_recording(str(tmp_path / "run"))
    assert recording.unfinished
    assert all(os.path.basename(name).startswith(".") for name in recording.unfinished)
    assert read_paths(tmp_path / "run") == ["kept\0", "kept too\0"]


def test_calls_that_wait_in_memory_are_missing_too(tmp_path):
    """Nothing of them is in a file, but the manifest has been begun."""
    made = recorder(tmp_path / "run", segment_s=0)
    made.add(joined([opened(b"kept")]))
    made._limits = replace(made._limits, segment_s=3600)
    made.add(joined([opened(b"lost")]))
    made.abandon()
    recording = open_recording(str(tmp_path / "run"))
    (name,) = recording.unfinished
    assert name.startswith("segments/")
    assert name.endswith("-000002.json.tmp")
    assert read_paths(tmp_path / "run") == ["kept\0"]


def test_losses_are_told_once_for_each_segment(tmp_path):
    lost = {"call_ring": 7}
    made = recorder(tmp_path / "run", lost, segment_s=0)
    made.add(joined([opened(b"a")]))
    lost["call_ring"] = 12
    made.close()
    assert open_recording(str(tmp_path / "run")).lost == {"call_ring": 12}
