# SPDX-License-Identifier: Apache-2.0
"""Recordings that are not as they were written: one clear error each, whoever wrote them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness.recordings import call, ended, opened, record, reseal, signalled
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.errors import KwatchError
from kwatch.recording.manifest import open_recording
from kwatch.recording.query import Database
from kwatch.recording.verified_calls import verified_calls

BATCH = [
    opened(b"/etc/passwd", comm=b"cat"),
    call("read", 3, 4096, 100, result=5, pieces={7: b"hello"}),
    call("execve", 1, 2, 3, entry={0: b"/bin/sh\0"}),
    signalled(17),
    ended(256),
]


@pytest.fixture
def run(tmp_path):
    return Path(record(tmp_path / "run", BATCH))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return Path(record(tmp_path_factory.mktemp("copy") / "run", BATCH))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return Path(record(tmp_path_factory.mktemp("whole") / "run", BATCH))


def show(path):
    return list(verified_calls(open_recording(str(path))))


def attempt(path):
    """An error, or the calls."""
    try:
        return "", show(path)
    except KwatchError as error:
        return str(error), None


def query(path, sql="select count(name) from syscalls"):
    database = Database(open_recording(str(path)), 32, lambda: None)
    try:
        return list(database.answer(sql).rows)
    finally:
        database.close()


def file_of(run, table):
    (found,) = (run / table).rglob("*.*")
    return found


def error_of(action, path):
    with pytest.raises(KwatchError) as caught:
        action(path)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return str(caught.value)


READERS = pytest.mark.parametrize("reader", [show, query])


@READERS
def test_a_whole_one(run, reader):
    assert len(reader(run)) in (1, 5)


@READERS
def test_no_recording(tmp_path, reader):
    assert "is no recording" in error_of(reader, tmp_path)
    assert "is no directory" in error_of(reader, tmp_path / "nothing")


@READERS
def test_a_file_that_ends_too_early(run, reader):
    path = file_of(run, "syscalls")
    os.truncate(path, path.stat().st_size // 2)
    assert "is damaged" in error_of(reader, run)


@READERS
def test_a_bit_that_has_flipped(run, reader):
    path = file_of(run, "syscalls")
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    assert "it is not what was written" in error_of(reader, run)


@READERS
def test_a_file_that_is_gone(run, reader):
    file_of(run, "syscalls").unlink()
    assert "is damaged" in error_of(reader, run)


def test_a_pipe_instead_of_a_file(run):
    """Nobody waits for one who writes to it."""
    path = file_of(run, "exits")
    path.unlink()
    os.mkfifo(path)
    assert "it is not what was written" in error_of(show, run)


@READERS
def test_a_later_format(run, reader):
    manifest = json.loads(file_of(run, "segments").read_text())
    file_of(run, "segments").write_text(json.dumps(manifest | {"format": 2}))
    assert "has the format 2; this kwatch knows 1" in error_of(reader, run)


@READERS
@pytest.mark.parametrize("place", ["/etc/passwd", "../../secret.parquet", "syscalls/x.parquet"])
def test_a_file_elsewhere(run, reader, place):
    manifest = json.loads(file_of(run, "segments").read_text())
    manifest["files"]["syscalls"]["path"] = place
    file_of(run, "segments").write_text(json.dumps(manifest))
    assert "is damaged" in error_of(reader, run)


@READERS
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x"}', '{"format": 1}', "\xff", "9"])
def test_a_manifest_of_nonsense(run, reader, text):
    file_of(run, "segments").write_text(text, encoding="latin-1")
    assert "is damaged" in error_of(reader, run)


MANIFEST_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_manifests_of_others(whole, tmp_path_factory, data):
    """Any value in any place: an error, or a recording that can be read."""
    copy = tmp_path_factory.mktemp("copy") / "run"
    shutil.copytree(whole, copy)
    manifest = json.loads(file_of(copy, "segments").read_text())
    at = manifest
    while True:
        key = data.draw(st.sampled_from(sorted(at)))
        if not isinstance(at[key], dict) or not at[key] or data.draw(st.booleans()):
            break
        at = at[key]
    at[key] = data.draw(MANIFEST_VALUES)
    file_of(copy, "segments").write_text(json.dumps(manifest))
    error, calls = attempt(copy)
    assert error or len(calls) <= len(BATCH)
    shutil.rmtree(copy)


@settings(max_examples=150, deadline=None)
@given(
    table=st.sampled_from(["syscalls", "signals", "exits"]),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 7)), min_size=1, max_size=3),
)
def test_flipped_bits_with_the_right_digest(copy, table, flips):
    """An error, or calls that are not quite the same."""
    path = file_of(copy, table)
    before = path.read_bytes()
    data = bytearray(before)
    for place, bit in flips:
        data[min(int(place * len(data)), len(data) - 1)] ^= 1 << bit
    path.write_bytes(data)
    reseal(copy)
    error, calls = attempt(copy)
    path.write_bytes(before)
    assert "is damaged" in error or calls is not None


HOSTILE = [
    ("kind", "nothing"),
    ("abi", "z80"),
    ("name", "x\ny"),
    ("nr", -1),
    ("nr", 32767),
    ("comm", "\\xzz\\"),
    ("entry_pieces", bytes(26)),
    ("exit_pieces", b"\xfe" * 26),
    ("exit_pieces", b"\x01\x00" * 13),
    ("data", b""),
    ("ret", -(2**63)),
    ("path", "\x1b[2J"),
]


def replaced(path, column, value):
    """Another value in all rows of a file, whose digest its manifest has then."""
    table = pq.read_table(path, partitioning=None)
    at = table.schema.get_field_index(column)
    kind = table.schema.field(column)
    values = pa.array([value] * len(table), getattr(kind.type, "value_type", kind.type))
    pq.write_table(table.set_column(at, kind, values.cast(kind.type)), path)


@pytest.mark.parametrize(("column", "value"), HOSTILE)
def test_what_no_recorder_writes(run, column, value):
    """Digests do not keep others from writing files. The text of such a call may be null."""
    replaced(file_of(run, "syscalls"), column, value)
    reseal(run)
    assert [len(row) for row in query(run, "select text, fd from syscalls")] == [2, 2, 2]
    error, calls = attempt(run)
    assert "is damaged" in error or len(calls) == len(BATCH)
