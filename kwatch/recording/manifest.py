# SPDX-License-Identifier: Apache-2.0
"""The manifests of a recording, checked."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from kwatch.errors import KwatchError
from kwatch.recording.schema import FORMAT, TABLES
from kwatch.recording.store import SEGMENTS, manifests, unfinished

#: What reading a file may raise that kwatch has not written.
NONSENSE = (
    *(AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError),
    struct.error,
)

_BLOCK = 1 << 20
_TO_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO would wait for a writer


@dataclass(frozen=True, slots=True)
class TableFile:
    """`path`: of the whole file name."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """One segment. `lost`: events by cause. Times are nanoseconds since 1970."""

    name: str
    host: str
    arch: str
    run: str
    began_ns: int
    ended_ns: int
    calls: int
    lost: Mapping[str, int]
    files: Mapping[str, TableFile]

    def verify(self, tables: Iterable[str] = TABLES) -> None:
        """Raises KwatchError if a file of these tables is not what was written."""
        for file in (self.files[table] for table in tables if table in self.files):
            try:
                is_whole = _digest(file.path, file.bytes) == file.sha256
            except OSError as error:
                raise damaged(file.path, error.strerror or "it cannot be read") from error
            except ValueError as error:  # a null byte in the path
                raise damaged(file.path, str(error)) from error
            if not is_whole:
                raise damaged(file.path, "it is not what was written")


@dataclass(frozen=True, slots=True)
class Recording:
    """The segments by host, run and time. `unfinished`: files that a recorder has not finished."""

    path: str
    segments: tuple[Manifest, ...]
    unfinished: tuple[str, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(each.host for each in self.segments))

    @property
    def lost(self) -> dict[str, int]:
        """Events by cause."""
        total: dict[str, int] = {}
        for each in self.segments:
            for cause, events in each.lost.items():
                total[cause] = total.get(cause, 0) + events
        return total

    def files(self, table: str) -> list[str]:
        return [each.files[table].path for each in self.segments if table in each.files]

    def verify(self, tables: Iterable[str]) -> None:
        """Raises KwatchError if a file of these tables is not what was written."""
        chosen = tuple(tables)
        with ThreadPoolExecutor() as threads:
            for _ in threads.map(lambda segment: segment.verify(chosen), self.segments):
                pass


def open_recording(path: str) -> Recording:
    """Raises KwatchError."""
    if not os.path.isdir(os.path.join(path, SEGMENTS)):
        state = "has no segments" if os.path.isdir(path) else "is no directory"
        raise KwatchError(
            f"{path} is no recording: it {state}", "name a directory that `kwatch record` wrote"
        )
    segments = tuple(_read(path, name) for name in manifests(path))
    left = tuple(unfinished(path))
    if not segments:
        why = "it was not finished" if left else "it has no segment"
        raise KwatchError(f"{path} cannot be read: {why}", "record again")
    return Recording(path, segments, left)


def _read(path: str, name: str) -> Manifest:
    whole = os.path.join(path, name)
    try:
        with open(whole, "rb") as file:
            found = json.load(file)
        if not isinstance(found, dict) or not isinstance(found.get("format"), int):
            raise ValueError("it has no format")
    except OSError as error:
        raise damaged(whole, error.strerror or "cannot be read") from error
    except (ValueError, RecursionError) as error:
        raise damaged(whole, str(error)) from error
    if found["format"] > FORMAT:
        raise KwatchError(
            f"{whole} has the format {found['format']}; this kwatch knows {FORMAT}",
            "read it with a later kwatch",
        )
    try:
        return _manifest(path, name, found)
    except NONSENSE as error:
        raise damaged(
            whole, f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        ) from error


def _manifest(path: str, name: str, found: Mapping[str, Any]) -> Manifest:
    files = {
        table: TableFile(
            _inside(path, str(each["path"])),
            int(each["rows"]),
            int(each["bytes"]),
            str(each["sha256"]),
        )
        for table, each in found["files"].items()
        if table in TABLES
    }
    return Manifest(
        os.path.basename(name).removesuffix(".json"),
        str(found["host"]),
        str(found["arch"]),
        str(found["run"]),
        int(found["began_ns"]),
        int(found["ended_ns"]),
        int(found["calls"]),
        {str(cause): int(events) for cause, events in found["lost"].items()},
        files,
    )


def _inside(path: str, name: str) -> str:
    """Manifests name no files outside their recording."""
    if os.path.isabs(name) or ".." in name.split("/"):
        raise ValueError(f"a file of its own: {name}")
    return os.path.join(path, name)


def _digest(path: str, size: int) -> str:
    """Empty if it is not a file of this size. Raises OSError."""
    found = hashlib.sha256()
    with open(os.open(path, _TO_READ), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            return ""
        while block := file.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def damaged(path: str, why: str) -> KwatchError:
    return KwatchError(
        f"{path} is damaged: {why}",
        "remove its segment's manifest and tables, and the rest can be read",
    )
