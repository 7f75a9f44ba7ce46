# SPDX-License-Identifier: Apache-2.0
"""System calls that failed, by call and error, with paths and threads."""

from __future__ import annotations

from typing import NamedTuple


class PathFailures(NamedTuple):
    path: bytes
    failures: int


class CallFailures(NamedTuple):
    """Of one call with one error. `error`: its number.

    `paths`: the most frequent first. `other_paths`: failures with paths that were not kept.
    The rest of `failures` has no path.
    """

    name: str
    error: int
    failures: int
    paths: tuple[PathFailures, ...]
    other_paths: int


class ThreadFailures(NamedTuple):
    """`comm`: the name of the thread at its last failure."""

    pid: int
    tid: int
    comm: bytes
    failures: int


class ErrorSummary(NamedTuple):
    """The most frequent first. `other_threads`: failures of threads that were not kept."""

    failures: int
    calls: tuple[CallFailures, ...]
    threads: tuple[ThreadFailures, ...]
    other_threads: int
