# SPDX-License-Identifier: Apache-2.0
"""Perf maps as runtimes write them, and damaged ones."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest
from harness.naming import frames_of
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.model.frame import Frame
from kwatch.procfs.address_space import AddressSpace, ReturnAddress
from kwatch.procfs.mappings import Mapping, read_mappings
from kwatch.symbols import perf_map
from kwatch.symbols.jit import JitCode
from kwatch.symbols.perf_map import PerfMap, open_perf_map, without_overlaps
from kwatch.symbols.stack import Stack
from kwatch.symbols.symbolizer import Symbolizer


def a_map(path: Path, text: bytes) -> PerfMap:
    path.write_bytes(text)
    return PerfMap(os.open(path, os.O_RDONLY))


def test_the_newest_function_at_an_address_is_found(tmp_path: Path) -> None:
    known = a_map(tmp_path / "map", b"1000 20 first\n0x1010 10 second one\n2000 8 third\n")
    assert known.find(0x1008) is None  # the second function overlaps the first, which is gone
    assert known.find(0x1010) == ("second one", 0)
    assert known.find(0x101F) == ("second one", 15)
    assert known.find(0x1020) is None
    assert known.find(0x2007) == ("third", 7)
    known.close()


def test_new_lines_of_a_map_are_read(tmp_path: Path) -> None:
    known = a_map(tmp_path / "map", b"1000 10 first\n2000 10 sec")
    assert known.find(0x2000) is None
    with (tmp_path / "map").open("ab") as file:
        file.write(b"ond\n3000 10 third\n1000 10 again\n")
    assert [known.find(at) for at in (0x1000, 0x2000, 0x3000)] == [
        ("again", 0),
        ("second", 0),
        ("third", 0),
    ]
    (tmp_path / "map").write_bytes(b"3000 10 anew\n")
    assert [known.find(at) for at in (0x1000, 0x3000)] == [None, ("anew", 0)]
    known.close()


def test_the_newest_of_very_many_functions_are_kept(tmp_path: Path) -> None:
    """Code that replaced older code never has the old name."""
    lines = b"".join(b"%x 1 f\n" % at for at in range(150_000))
    known = a_map(tmp_path / "map", lines)
    assert known.find(149_999) == ("f", 0)
    assert known.find(49_999) is None
    assert known.full
    with (tmp_path / "map").open("ab") as file:
        file.write(b"%x 10 again\n%x 10 below\n" % (149_990, 5))
    assert [known.find(at) for at in (149_999, 14)] == [("again", 9), ("below", 9)]
    with (tmp_path / "map").open("ab") as file:
        file.write(b"".join(b"%x 1 g\n" % at for at in range(200_000, 200_100)))
    found = [known.find(at) for at in (50_000, 50_099, 150_000, 200_099)]
    assert found == [None, ("f", 0), ("again", 10), ("g", 0)]
    known.close()


def test_only_the_end_of_a_very_large_map_is_read(tmp_path: Path) -> None:
    with (tmp_path / "map").open("wb") as file:
        file.write(b"1000 10 first\n")
        file.truncate(1 << 40)
        file.seek(0, os.SEEK_END)
        file.write(b"\n2000 10 last\n")
    known = PerfMap(os.open(tmp_path / "map", os.O_RDONLY))
    assert [known.find(at) for at in (0x1000, 0x2000)] == [None, ("last", 0)]
    assert known.full
    known.close()


def test_an_incomplete_first_line_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perf_map, "_MAX_READ", 24)
    known = a_map(tmp_path / "map", b"1000 10 first\n71000 10 second\n2000 10 last\n")
    assert [known.find(at) for at in (0x1000, 0x71000, 0x2000)] == [None, None, ("last", 0)]
    known.close()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1))
def test_a_function_is_dropped_if_a_newer_one_overlaps_it(pairs: list[tuple[int, int]]) -> None:
    known: dict[int, tuple[int, int]] = {}
    for index, (start, size) in enumerate(pairs):
        inside = (start, start + size)
        known = {i: f for i, f in known.items() if f[1] <= inside[0] or f[0] >= inside[1]}
        known[index] = inside
    starts = np.array([start for start, _ in pairs], dtype=np.uint64)
    ends = starts + np.array([size for _, size in pairs], dtype=np.uint64)
    expected = sorted(known, key=lambda index: known[index])
    assert without_overlaps(starts, ends).tolist() == expected


LINES = st.builds(
    lambda start, size, name: b"%s %s %s\n" % (start, size, name),
    *[st.from_regex(rb"[0-9a-fx]{0,20}", fullmatch=True)] * 2,
    st.binary(max_size=20),
)


@settings(max_examples=500, deadline=None)
@given(text=st.binary(max_size=300) | st.lists(LINES).map(b"".join))
def test_a_damaged_map_raises_nothing(
    tmp_path_factory: pytest.TempPathFactory, text: bytes
) -> None:
    known = a_map(tmp_path_factory.getbasetemp() / "damaged.map", text)
    for address in (0, 1, 0xFF, 1 << 63):
        found = known.find(address)
        assert found is None or len(found[0]) <= 512
    known.close()


@pytest.mark.parametrize(
    ("mode", "owner", "trusted"), [(0o644, 0, True), (0o666, 0, False), (0o644, 12345, False)]
)
@pytest.mark.needs("root")
def test_only_a_map_of_the_process_or_root_is_trusted(mode: int, owner: int, trusted: bool) -> None:
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    path.write_text("1000 10 f\n")
    path.chmod(mode)
    os.chown(path, owner, -1)
    try:
        found = open_perf_map(os.getpid())
    finally:
        path.unlink()
    assert (found is not None) == trusted
    if found is not None:
        found.close()


def name_at_4(jit: JitCode) -> Frame | None:
    """The frame of the return address 0x1004 in this process."""
    memory = Mapping(0, 1 << 20, 0, "", 0, 0, executable=True)
    return_address = ReturnAddress(0x1004, 0x1003, memory)
    stack = Stack(os.getpid(), (return_address,))
    jit.name(stack)
    return stack.generated.get(return_address)


@pytest.fixture
def _looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kwatch.symbols.jit._LOOK_S", 0.0)


@pytest.mark.usefixtures("_looks_at_once")
def test_the_map_of_an_earlier_process_of_this_pid_is_refused() -> None:
    """A restarted container has the same pids and the same /tmp."""
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    path.write_text("1000 10 f\n")
    began = psutil.Process().create_time()
    warnings: list[str] = []
    jit = JitCode(lambda module, line: warnings.append(line))
    try:
        os.utime(path, (began - 0.5, began - 0.5))
        assert name_at_4(jit) is None
        path.write_text("1000 10 g\n")  # the same file, written by this process
        assert name_at_4(jit) == Frame(0x1004, "g", 4, path.name)
        os.utime(path, (began + 0.01, began + 0.01))
        assert name_at_4(jit) is not None
    finally:
        path.unlink()
        jit.close()
    assert not warnings


@pytest.mark.usefixtures("_looks_at_once")
def test_a_map_is_forgotten_with_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    path.write_text("1000 10 f\n")
    jit = JitCode(lambda module, line: None)
    try:
        assert name_at_4(jit) is not None
        path.unlink()
        assert name_at_4(jit) is not None
        monkeypatch.setattr("kwatch.symbols.jit.start_ticks", lambda pid: 1 << 40)
        assert name_at_4(jit) is None  # another process has the pid
    finally:
        path.unlink(missing_ok=True)
        jit.close()


def test_missing_functions_cause_one_warning(tmp_path: Path) -> None:
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    path.write_bytes(b"".join(b"%x 1 f\n" % at for at in range(1, 100_002)))
    warnings: list[str] = []
    symbolizer = Symbolizer(warn=warnings.append)
    space = AddressSpace([Mapping(0, 1 << 20, 0, "", 0, 0, executable=True)])
    try:
        symbols = [
            frames_of(symbolizer, os.getpid(), space, [at])[0].symbol for at in (3, 2, 100_002)
        ]
    finally:
        path.unlink()
        symbolizer.close()
    assert symbols == ["f", "", "f"]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"perf-{os.getpid()}.map has more functions than are kept")


def test_a_missing_map_is_not_searched_for_each_stack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A JVM has thousands of stacks through JIT code, and no map."""
    looks: list[int] = []
    monkeypatch.setattr("kwatch.symbols.jit.open_perf_map", looks.append)
    monkeypatch.setattr("kwatch.symbols.jit._LOOK_S", 60.0)
    jit = JitCode(lambda module, line: None)
    assert [name_at_4(jit) for _ in range(100)] == [None] * 100
    assert len(looks) == 1
    jit.close()


def test_links_are_not_followed(tmp_path: Path) -> None:
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    path.symlink_to("/etc/passwd")
    try:
        assert open_perf_map(os.getpid()) is None
    finally:
        path.unlink()


NODE = """
function spam(n) { let sum = 0; for (let i = 0; i < n; i++) sum += i % 7; return sum; }
for (let i = 0; i < 2000; i++) spam(1000);
console.log("0"); process.stdin.resume();
"""


@pytest.mark.parametrize("prefix", [[], ["unshare", "--pid", "--fork", "--mount"]])
@pytest.mark.needs("root", "node")
def test_functions_of_a_runtime_are_named(prefix: list[str], tmp_path: Path) -> None:
    name, command = r".*spam .*", ["node", "--perf-basic-prof", "-e", NODE]
    pipe = subprocess.PIPE
    with subprocess.Popen([*prefix, *command], stdin=pipe, stdout=pipe, cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        pid = child_of(process.pid) if prefix else process.pid
        own = Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].split("\n")[0].split()
        path = Path(f"/proc/{pid}/root/tmp/perf-{own[-1]}.map")
        lines = [line.split(" ", 2) for line in path.read_text().splitlines()]
        start = next(int(line[0], 16) for line in reversed(lines) if re.match(name, line[2]))
        symbolizer = Symbolizer()
        # no event has reported the memory that the runtime has mapped
        file_code = [m for m in read_mappings(pid) if m.inode]
        [frame] = frames_of(symbolizer, pid, AddressSpace(file_code), [start + 5])
        symbolizer.close()
        if prefix:
            os.kill(pid, 9)
        process.kill()
    path_seen = Path(f"/tmp/perf-{own[-1]}.map")
    path_seen.unlink(missing_ok=True)
    assert re.match(name, frame.symbol)
    assert frame.offset == 5
    assert frame.address == start + 5


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
