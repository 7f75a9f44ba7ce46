# SPDX-License-Identifier: Apache-2.0
"""Perf maps: as runtimes write them, and as nobody should."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.symbols.mappings import AddressSpace, read_mappings
from kwatch.symbols.perf_map import PerfMap, open_perf_map, without_overlaps
from kwatch.symbols.symbolizer import Symbolizer


def a_map(path: Path, text: bytes) -> PerfMap:
    path.write_bytes(text)
    return PerfMap(os.open(path, os.O_RDONLY))


def test_the_newest_function_at_an_address_is_found(tmp_path: Path) -> None:
    known = a_map(tmp_path / "map", b"1000 20 first\n0x1010 10 second one\n2000 8 third\n")
    assert known.find(0x1008) is None  # where the second lies over the first, that is gone
    assert known.find(0x1010) == ("second one", 0)
    assert known.find(0x101F) == ("second one", 15)
    assert known.find(0x1020) is None
    assert known.find(0x2007) == ("third", 7)
    known.close()


def test_a_map_is_read_on_when_it_has_grown(tmp_path: Path) -> None:
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


def test_memory_is_bounded(tmp_path: Path) -> None:
    lines = b"".join(b"%x 1 f\n" % at for at in range(150_000))
    known = a_map(tmp_path / "map", lines)
    assert known.find(90_000) == ("f", 0)
    assert known.find(149_999) is None
    assert known.full
    known.close()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1))
def test_functions_are_those_that_no_newer_one_lies_over(pairs: list[tuple[int, int]]) -> None:
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
def test_only_the_process_and_root_are_believed(mode: int, owner: int, trusted: bool) -> None:
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
        # the code may have become executable after its mapping was announced
        file_code = [m for m in read_mappings(pid) if m.inode]
        [frame] = symbolizer.frames(pid, AddressSpace(file_code), [start + 5])
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
