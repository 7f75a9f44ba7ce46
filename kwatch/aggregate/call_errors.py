# SPDX-License-Identifier: Apache-2.0
"""Counts failed system calls by call, error and path, and by thread.

All counts are exact. The number of paths and threads that are kept is bounded: those that come
when there is no more room are counted together.
"""

from __future__ import annotations

from collections import Counter

from kwatch.model.call_errors import CallFailures, ErrorSummary, PathFailures, ThreadFailures
from kwatch.model.traced_call import Moment, TracedCall
from kwatch.syscalls.first_arguments import first_path

MAX_PATHS = 100_000
MAX_THREADS = 10_000
_MAX_ERRNO = 4095

_Failure = tuple[str, int]


class CallErrors:
    """`max_paths` counts a path once for each call and error that it failed with."""

    def __init__(self, max_paths: int = MAX_PATHS, max_threads: int = MAX_THREADS) -> None:
        self._max_paths, self._max_threads = max_paths, max_threads
        self._calls: Counter[_Failure] = Counter()
        self._paths: dict[_Failure, Counter[bytes]] = {}
        self._other_paths: Counter[_Failure] = Counter()
        self._threads: Counter[tuple[int, int]] = Counter()
        self._comms: dict[tuple[int, int], bytes] = {}
        self._other_threads = 0
        self._kept_paths = 0

    def add(self, call: TracedCall) -> None:
        """Counts the call if it has failed."""
        if not -_MAX_ERRNO <= call.result < 0 or call.moment is not Moment.RETURNED:
            return
        if call.duration_ns is None:
            return
        failure = call.name, -call.result
        self._calls[failure] += 1
        path = first_path(call.abi, call.nr, call.pieces)
        if path is not None:
            self._add_path(failure, path)
        self._add_thread((call.pid, call.tid), call.comm)

    def _add_path(self, failure: _Failure, path: bytes) -> None:
        known = self._paths.setdefault(failure, Counter())
        if path in known:
            known[path] += 1
        elif self._kept_paths < self._max_paths:
            known[path] = 1
            self._kept_paths += 1
        else:
            self._other_paths[failure] += 1

    def _add_thread(self, thread: tuple[int, int], comm: bytes) -> None:
        if thread in self._threads or len(self._threads) < self._max_threads:
            self._threads[thread] += 1
            self._comms[thread] = comm
        else:
            self._other_threads += 1

    def summary(self) -> ErrorSummary:
        calls = (self._of(failure, count) for failure, count in self._calls.items())
        threads = (
            ThreadFailures(pid, tid, self._comms[pid, tid], count)
            for (pid, tid), count in self._threads.items()
        )
        return ErrorSummary(
            self._calls.total(),
            tuple(sorted(calls, key=lambda each: (-each.failures, each.name, each.error))),
            tuple(sorted(threads, key=lambda each: (-each.failures, each.pid, each.tid))),
            self._other_threads,
        )

    def _of(self, failure: _Failure, count: int) -> CallFailures:
        known = self._paths.get(failure, Counter[bytes]()).items()
        paths = sorted(known, key=lambda each: (-each[1], each[0]))
        return CallFailures(
            *failure,
            count,
            tuple(PathFailures(*each) for each in paths),
            self._other_paths[failure],
        )
