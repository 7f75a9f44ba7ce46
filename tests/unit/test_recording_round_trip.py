# SPDX-License-Identifier: Apache-2.0
"""What is recorded is read again as it was: `kwatch show` prints what `kwatch trace` would have."""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.recordings import as_recorded, call, ended, opened, record, requested, signalled
from hypothesis import given, settings
from hypothesis import strategies as st

from kwatch.recording.escapes import escaped, unescaped
from kwatch.recording.manifest import open_recording
from kwatch.recording.verified_calls import verified_calls
from kwatch.syscalls.io_uring import UNKNOWN_OPCODE
from kwatch.wire.events import PIECES, Abi, EventType
from kwatch.wire.maps import CALL_NUMBERS

CALLS = (EventType.SYSCALL, EventType.SYSCALL_UNFINISHED, EventType.CALL_IN_PROGRESS)
WORDS = st.integers(0, 2**64 - 1)
COMMS = st.binary(max_size=16).map(lambda comm: comm.partition(b"\0")[0])
CONTENTS = st.dictionaries(st.integers(0, PIECES - 1), st.binary(max_size=12), max_size=4)
PATHS = st.binary(min_size=1, max_size=30).filter(lambda path: 0 not in path)


@st.composite
def any_call(draw):
    fields = {
        "type": draw(st.sampled_from(CALLS)),
        "abi": draw(st.sampled_from(Abi)),
        "nr": draw(st.integers(0, CALL_NUMBERS - 1)),
        "tgid": draw(st.integers(1, 2**22)),
        "tid": draw(st.integers(1, 2**22)),
        "comm": draw(COMMS),
        "result": draw(st.integers(-(2**63), 2**63 - 1)),
        "duration_ns": draw(st.integers(0, 2000)),
        "arguments": tuple(draw(WORDS) for _ in range(6)),
        "ip": draw(WORDS),
        "uid": draw(st.integers(0, 2**32 - 1)),
        "cgroup_id": draw(st.integers(0, 2**63 - 1)),
    }
    return fields, draw(CONTENTS), draw(st.none() | CONTENTS)


RESULTS = st.integers(-(2**31), 2**31 - 1)
OPCODES = st.integers(0, 255) | st.just(UNKNOWN_OPCODE)
REQUESTS = st.sampled_from((EventType.IO_REQUEST, EventType.IO_IN_PROGRESS))
ANY = st.one_of(
    any_call(),
    st.builds(
        requested, OPCODES, RESULTS, st.tuples(WORDS, WORDS, WORDS), comm=COMMS, type=REQUESTS
    ),
    st.builds(opened, PATHS, st.integers(3, 1000), comm=COMMS),
    st.builds(ended, st.integers(0, 2**16 - 1), comm=COMMS),
    st.builds(signalled, st.integers(1, 64), st.tuples(WORDS, WORDS), comm=COMMS),
)


def read(path):
    """The calls; their pieces as a list."""
    return [
        each._replace(pieces=list(each.pieces)) for each in verified_calls(open_recording(path))
    ]


def check(path, batch):
    expected = [each._replace(pieces=list(each.pieces)) for each in as_recorded(batch)]
    found = read(path)
    clock = expected[0].time_ns - found[0].time_ns if found and expected else 0
    assert [each._replace(time_ns=each.time_ns + clock) for each in found] == expected


@settings(max_examples=25, deadline=None)
@given(st.lists(ANY, min_size=1, max_size=12))
def test_any_calls(batch):
    with tempfile.TemporaryDirectory() as folder:
        check(record(Path(folder, "run"), batch), batch)


def test_an_entry_and_a_return_that_have_pieces(tmp_path):
    """Of a piece that both have, that of the return counts."""
    batch = [
        call("execve", 1, 2, 3, entry={0: b"/bin/sh\0", 12: b"args"}, pieces={0: b"/bin/bash\0"}),
        call("read", 3, 4096, 100, result=5, pieces={7: b"hello"}),
        call("close", 3),
    ]
    check(record(tmp_path / "run", batch), batch)


def test_several_batches_in_their_order(tmp_path):
    batches = [[opened(b"/a"), ended(9)], [], [signalled(17), opened(b"/b"), call("pause")]]
    names = [each.name for each in read(record(tmp_path / "run", *batches))]
    assert names == ["openat", "", "", "openat", "pause"]


def test_more_rows_than_a_row_group_has(tmp_path, monkeypatch):
    monkeypatch.setattr("kwatch.recording.segment.ROWS_AT_ONCE", 7)
    batches = [[opened(b"/%d" % number)] * 5 for number in range(5)]
    found = read(record(tmp_path / "run", *batches))
    assert [each.pieces[1] for each in found] == [
        b"/%d\0" % number for number in range(5) for _ in range(5)
    ]


def test_nothing(tmp_path):
    assert read(record(tmp_path / "run")) == []


@given(st.binary(max_size=40))
def test_names_of_any_bytes_are_text_that_prints(name):
    text = escaped(name)
    assert text.isprintable()
    assert unescaped(text) == name
