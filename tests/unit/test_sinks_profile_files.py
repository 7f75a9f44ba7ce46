# SPDX-License-Identifier: Apache-2.0
"""Profile files are complete at any moment, and every error is reported."""

from __future__ import annotations

import os
import re
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from kwatch.errors import KwatchError, UsageError
from kwatch.model.frame import Frame
from kwatch.model.options import ReportOptions
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import HeapProfile, Lost, Snapshot, StackTotals
from kwatch.sinks.output import Output
from kwatch.sinks.profiles import files
from kwatch.sinks.profiles.files import Profiles
from kwatch.sinks.profiles.unit import INUSE_SPACE, ProcessProfile
from kwatch.system import atomic_file


def snapshot(pid: int, size: int, exited: bool = False) -> Snapshot:
    stack = StackTotals(1, 1, size, 1, size, (Frame(1, "main"),))
    return Snapshot(
        kind="snapshot",
        time="2026-01-31T12:00:05.000Z",
        elapsed_s=5.0,
        process=ProcessFacts(pid, 1.0, "app", "/bin/app", exited),
        heap=None,
        memory=None,
        syscalls=None,
        lost=Lost(),
        verdict=None,
        profile=HeapProfile((stack,)),
    )


def sizes(units: Sequence[ProcessProfile]) -> bytes:
    """A format with one word for each process."""
    totals = {unit.name: sum(map(INUSE_SPACE.of, unit.profile.stacks)) for unit in units}
    return " ".join(f"{name}={total}" for name, total in totals.items()).encode()


def test_the_file_has_the_last_profile_of_each_process(tmp_path: Path) -> None:
    path = tmp_path / "profile"
    profiles = Profiles({str(path): sizes})
    assert not path.exists()
    for one in (snapshot(1, 10), snapshot(2, 20), snapshot(1, 11)):
        profiles.write(one)
    profiles.flush()
    assert path.read_text() == "app[1]=11 app[2]=20"
    profiles.write(snapshot(2, 0, exited=True))
    profiles.close()
    assert path.read_text() == "app[1]=11 app[2]=0"
    assert os.listdir(tmp_path) == ["profile"]


def test_a_file_is_replaced_only_when_the_new_one_is_complete(tmp_path: Path) -> None:
    def fails(units: Sequence[ProcessProfile]) -> bytes:
        raise MemoryError

    path = tmp_path / "profile"
    path.write_text("old")
    with pytest.raises(MemoryError):
        Profiles({str(path): fails}).close()
    assert path.read_text() == "old"
    reader = path.open()
    Profiles({str(path): sizes}).close()
    assert (reader.read(), path.read_text()) == ("old", "")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    profiles = Profiles({str(link): sizes})
    profiles.write(snapshot(1, 10))
    profiles.close()
    assert link.is_symlink()
    assert target.read_text() == "app[1]=10"


def test_links_that_others_plant_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder that everyone may write to, knowing the name must not help an attacker."""
    path, precious = tmp_path / "profile.pb.gz", tmp_path / "precious"
    precious.write_text("precious")
    names: list[str] = []
    monkeypatch.setattr(atomic_file.secrets, "token_hex", lambda size: names.pop(0))
    names.append("first")
    profiles = Profiles({str(path): sizes})
    profiles.write(snapshot(1, 10))
    for planted in (f"{path}.{os.getpid()}.tmp", tmp_path / "profile.pb-known.gz.new"):
        Path(planted).symlink_to(precious)
    names.append("known")
    with pytest.raises(FileExistsError) as caught:
        profiles.flush()
    assert caught.value.filename == str(path)
    names.append("unknown")
    profiles.close()
    assert (precious.read_text(), path.read_text()) == ("precious", "app[1]=10")
    assert not path.is_symlink()


def test_what_is_open_already_is_written_once_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "profile"
    with path.open("w") as stream:
        stream.write("before ")
        stream.flush()
        profiles = Profiles({f"/dev/fd/{stream.fileno()}": sizes})
        profiles.write(snapshot(1, 10))
        profiles.flush()
        assert path.read_text() == "before "
        profiles.close()
    assert path.read_text() == "before app[1]=10"


def test_a_fast_interval_does_not_spend_its_time_on_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    written = []

    def takes_two_seconds(units: Sequence[ProcessProfile]) -> bytes:
        written.append(now[0])
        now[0] += 2
        return b""

    monkeypatch.setattr(files.time, "monotonic", lambda: now[0])
    profiles = Profiles({str(tmp_path / "profile"): takes_two_seconds})
    while now[0] < 150:
        profiles.write(snapshot(1, 10))
        profiles.flush()
        now[0] += 1
    assert written == [100.0, 122.0, 144.0]
    profiles.close()
    assert len(written) == 4


def test_of_many_processes_that_have_ended_the_totals_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_MAX_ENDED", 2)
    path = tmp_path / "profile"
    profiles = Profiles({str(path): sizes})
    for pid in range(1, 6):
        profiles.write(snapshot(pid, 10**pid, exited=True))
    profiles.close()
    words = re.findall(r"(\S[^=]*)=(\d+)", path.read_text())
    assert dict(words) == {
        "[earlier processes]": "1110",
        "app[4]": "10000",
        "app[5]": "100000",
    }


def with_stacks(pid: int, count: int, depth: int = 18) -> Snapshot:
    """An ended process whose stacks have mostly equal frames, each a separate object."""
    stacks = tuple(
        StackTotals(n, 1, 10, 1, 10, tuple(Frame(at, f"f{at}") for at in (n, *range(depth - 1))))
        for n in range(count)
    )
    return replace(snapshot(pid, 0, exited=True), profile=HeapProfile(stacks))


def test_of_many_stacks_of_ended_processes_the_totals_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_MAX_FRAMES", 1000)
    path = tmp_path / "profile"
    profiles = Profiles({str(path): sizes})
    profiles.write(snapshot(9, 7))  # lives, and stays
    for pid in (1, 2, 3, 4):
        profiles.write(with_stacks(pid, 20))
    profiles.flush()
    words = dict(re.findall(r"(\S[^=]*)=(\d+)", path.read_text()))
    ended = {"app[3]": "200", "app[4]": "200", "[earlier processes]": "400"}
    assert words == {"app[9]": "7", **ended}
    profiles.write(with_stacks(5, 1000))  # alone more than there is room for
    profiles.close()
    words = dict(re.findall(r"(\S[^=]*)=(\d+)", path.read_text()))
    assert words == {"app[9]": "7", "[earlier processes]": "800", "app[5]": "10000"}


def test_a_build_of_many_processes_fits_into_memory() -> None:
    """Hundreds of compilers, each with ten thousand stacks."""
    profiles = Profiles({})
    tracemalloc.start()
    try:
        for pid in range(3):
            profiles.write(with_stacks(pid, 2000))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    frames = 3 * 2000 * 18
    assert held < 50 * frames


@pytest.mark.parametrize("name", ["missing/profile", "."])
def test_what_cannot_be_written_is_found_at_once(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    with pytest.raises(KwatchError, match=f"{path} cannot be written: (No such file|Is a dir)"):
        Output(ReportOptions(profiles={"pprof": path}))


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output(ReportOptions(json=True, profiles={"folded": "/dev/full"}))
    output.profile([snapshot(1, 10)])
    with pytest.raises(KwatchError, match="/dev/full cannot be written: No space left on device"):
        output.close()


def test_two_options_do_not_share_a_file(tmp_path: Path) -> None:
    path, same = str(tmp_path / "profile"), f"{tmp_path}/./profile"
    with pytest.raises(UsageError, match="written twice"):
        Output(ReportOptions(output=path, profiles={"pprof": same}))


def test_snapshots_without_a_profile_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "profile"
    profiles = Profiles({str(path): sizes})
    profiles.write(snapshot(1, 10))
    profiles.write(replace(snapshot(1, 99), profile=None))
    profiles.close()
    assert path.read_text() == "app[1]=10"
