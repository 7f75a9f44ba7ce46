# SPDX-License-Identifier: Apache-2.0
"""Recordings of calls that no kernel has made."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from unittest.mock import patch

import numpy as np

from harness.records import call_record
from kwatch.aggregate.call_join import CallJoiner
from kwatch.commands.trace.calls import CallStream
from kwatch.model.process import ProcessFacts
from kwatch.model.traced_call import Moment
from kwatch.recording.recorder import Limits, Recorder, State
from kwatch.recording.store import Store
from kwatch.syscalls import calls, names
from kwatch.wire.events import CALL, Abi, EventType, RecordedFlag

AT_FDCWD = 0xFFFFFF9C
_SECOND = 1_000_000_000
_PIDS = itertools.count(1)


def call(name, *arguments, result=0, pieces=(), entry=None, **fields):
    """A record and what was captured: `pieces` at the return, `entry` at the entry, by number."""
    abi = fields.setdefault("abi", Abi.X86_64)
    known = {"type": EventType.SYSCALL, "tgid": 100, "tid": 100, "comm": b"cat"}
    known |= {"nr": names.number(abi, name), "result": result, "duration_ns": 1000}
    known["arguments"] = (*arguments, *[0] * (6 - len(arguments)))
    return known | fields, dict(pieces), entry


def opened(path, fd=3, **fields):
    return call("openat", AT_FDCWD, 4096, 0, result=fd, pieces={1: path + b"\0"}, **fields)


def ended(status=0, **fields):
    known = {"type": EventType.THREAD_END, "tgid": 100, "tid": 100, "comm": b"cat"}
    return known | {"result": status} | fields, {}, None


def requested(opcode, result, words=(), **fields):
    """A completed request of io_uring."""
    known = {"type": EventType.IO_REQUEST, "tgid": 100, "tid": 100, "comm": b"cat", "nr": opcode}
    known |= {"result": result, "duration_ns": 1000}
    return known | {"arguments": (*words, *[0] * (6 - len(words)))} | fields, {}, None


def signalled(number, words=(), **fields):
    known = {"type": EventType.SIGNAL, "tgid": 100, "tid": 100, "comm": b"cat", "result": number}
    return known | {"arguments": (*words, *[0] * (6 - len(words)))} | fields, {}, None


def joined(given, begin_ns=_SECOND):
    """The calls as a session has them: a microsecond lies between two records."""
    events, starts, data = [], [], b""
    for seq, (fields, pieces, entry) in enumerate(given):
        flags = RecordedFlag.ENTRY if entry is not None else 0
        both = {**fields, "seq": seq, "entry_tid": fields["tid"]}
        records = [{**both, "flags": fields.get("flags", 0) | flags}, pieces]
        if entry is not None:
            at_entry = {**both, "type": EventType.CALL_ENTRY}
            records = [at_entry, entry, *records]
        for known, captured in zip(records[::2], records[1::2], strict=True):
            known["time_ns"] = begin_ns + 2000 * seq + (known["type"] != EventType.CALL_ENTRY)
            events.append(call_record({n: len(p) for n, p in captured.items()}, **known))
            starts.append(len(data))
            data += b"".join(captured[number] for number in sorted(captured))
    batch = np.array(events, CALL)
    return CallJoiner().join(batch, np.array(starts, np.int64), data)


def recorder(path, lost=None, **limits):
    """Of the directory `path`; the caller adds and closes."""
    process = ProcessFacts(pid=100, comm="cat", exe="/usr/bin/cat", start_time=1.0)
    state = State((process,), {} if lost is None else lost)
    given = Limits(**{"segment_s": 3600} | limits)
    with patch("os.getpid", lambda: next(_PIDS)):  # another run may have begun in this second
        return Recorder(Store(str(path)), given, "boot", lambda: state)


def record(path, *batches, lost=None):
    """A recording with these batches of calls, in one segment."""
    made = recorder(path, lost)
    for number, batch in enumerate(batches):
        made.add(joined(batch, (number + 1) * _SECOND))
    made.close()
    return str(path)


def as_recorded(batch, begin_ns=_SECOND):
    """The traced calls that a recording of a batch has, with times of its clock."""
    found = []
    for each in CallStream(None).calls(joined(batch, begin_ns)):
        if each.moment in (Moment.SIGNAL, Moment.ENDED):
            found.append(each._replace(name="", nr=0, duration_ns=None, entry_tid=0, seq=0))
            continue
        if each.moment is Moment.IO_REQUEST:
            found.append(each._replace(entry_tid=0, seq=0))
            continue
        if each.moment is Moment.IO_IN_PROGRESS:
            found.append(each._replace(entry_tid=0, seq=0, duration_ns=None, result=0))
            continue
        known = calls.call(Abi(each.abi), each.nr)
        words = known.words if known is not None else 6
        arguments = [*each.arguments[:words], *[0] * (6 - words)]
        is_over = each.moment is Moment.RETURNED and each.duration_ns is not None
        result, took = (each.result, each.duration_ns) if is_over else (0, None)
        found.append(each._replace(arguments=arguments, result=result, duration_ns=took, seq=0))
    return found


def reseal(path):
    """Gives the manifest of a recording's only segment the digests that its files have now."""
    (manifest,) = Path(path, "segments").rglob("*.json")
    found = json.loads(manifest.read_text())
    for file in found["files"].values():
        data = Path(path, file["path"]).read_bytes()
        file |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    manifest.write_text(json.dumps(found))
