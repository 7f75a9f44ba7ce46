# SPDX-License-Identifier: Apache-2.0
"""Which threads of two runs are the same one, and which pids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kwatch.recording.diff.regions import AlignedThreads
from kwatch.recording.diff.run import Places, Run, Thread

Pids = Mapping[int, str]


class Pairing(NamedTuple):
    """`alone`: threads without one of the other run, of the first run and of the second.

    `pids`: a name for each pid and tid of both runs, which is the same for the same thread.
    """

    pairs: Sequence[AlignedThreads]
    alone: tuple[Sequence[Thread], Sequence[Thread]]
    pids: tuple[Pids, Pids]


def paired(first: Run, second: Run, numbers: tuple[Places, Places]) -> Pairing:
    """`numbers`: of the rows of both runs; the same for calls that may be the same."""
    pairs = _Pairs(first, second, numbers)
    pairs.add(*(_roots(run) for run in (first, second)))
    pairs.add(first.threads, second.threads)
    return Pairing(pairs.pairs, pairs.alone(), pairs.pids())


def _roots(run: Run) -> list[Thread]:
    """The threads that no recorded call has created."""
    results = run.results[run.creations]
    return [thread for thread in run.threads if thread.tid not in results]


class _Pairs:
    """Threads that the same call created, and have the same name, are the same ones; the others are
    those of one name in the order of their first calls."""

    def __init__(self, first: Run, second: Run, numbers: tuple[Places, Places]) -> None:
        self.pairs: list[AlignedThreads] = []
        self._runs = first, second
        self._numbers = numbers
        self._created: list[tuple[int, int]] = []  # pids of both runs
        self._left: tuple[dict[int, Thread], ...] = tuple(
            {int(thread.rows[0]): thread for thread in run.threads} for run in self._runs
        )
        self._of_tid: tuple[dict[int, list[Thread]], ...] = tuple(map(_by_tid, self._runs))

    def add(self, first: Sequence[Thread], second: Sequence[Thread]) -> None:
        """Pairs those of one name in their order, and all that they have created."""
        waiting: dict[str, list[Thread]] = defaultdict(list)
        for thread in reversed(second):
            waiting[thread.comm].append(thread)
        for thread in first:
            if not self._is_left(0, thread):
                continue
            others = waiting[thread.comm]
            while others and not self._is_left(1, others[-1]):
                others.pop()
            if others:
                self._pair(thread, others.pop())

    def alone(self) -> tuple[list[Thread], list[Thread]]:
        first, second = (list(left.values()) for left in self._left)
        return first, second

    def pids(self) -> tuple[Pids, Pids]:
        """Threads that are alone have names of their own, unless the same call created them."""
        found: tuple[dict[int, str], dict[int, str]] = {}, {}
        for number, pair in enumerate(self.pairs):
            for names, thread in zip(found, pair.threads, strict=True):
                names.setdefault(thread.pid, f"PID{number}")
                names.setdefault(thread.tid, f"PID{number}")
        for number, created in enumerate(self._created, len(self.pairs)):
            if not any(pid in names for names, pid in zip(found, created, strict=True)):
                for names, pid in zip(found, created, strict=True):
                    names[pid] = f"PID{number}"
        for side, names, threads in zip("-+", found, self.alone(), strict=True):
            for number, thread in enumerate(threads):
                names.setdefault(thread.pid, f"PID{side}{number}")
                names.setdefault(thread.tid, f"PID{side}{number}")
        return found

    def _is_left(self, side: int, thread: Thread) -> bool:
        return int(thread.rows[0]) in self._left[side]

    def _pair(self, ours: Thread, theirs: Thread) -> None:
        waiting = [(ours, theirs)]
        while waiting:
            threads = waiting.pop()
            for left, thread in zip(self._left, threads, strict=True):
                del left[int(thread.rows[0])]
            pair = AlignedThreads(threads, self._numbers)
            self.pairs.append(pair)
            waiting += reversed(list(self._children(pair)))

    def _children(self, pair: AlignedThreads) -> Iterator[tuple[Thread, Thread]]:
        """The threads that the same call of both has created."""
        for created in self._creations(pair):
            self._created.append(created)
            ours, theirs = (self._lives(side, pid) for side, pid in enumerate(created))
            if ours and theirs and ours[-1].comm == theirs[-1].comm:
                yield ours.pop(), theirs.pop()

    def _lives(self, side: int, tid: int) -> list[Thread]:
        """The threads with this tid that are left."""
        lives = self._of_tid[side].get(tid, [])
        while lives and not self._is_left(side, lives[-1]):
            lives.pop()
        return lives

    def _creations(self, pair: AlignedThreads) -> Iterator[tuple[int, int]]:
        first, second = self._runs
        ours, theirs = pair.both
        a, b = first.results[ours], second.results[theirs]
        are_made = first.creations[ours] & second.creations[theirs]
        yield from zip(a[are_made].tolist(), b[are_made].tolist(), strict=True)


def _by_tid(run: Run) -> dict[int, list[Thread]]:
    """The latest one first: a tid may be that of several, one after the other."""
    found: dict[int, list[Thread]] = defaultdict(list)
    for thread in reversed(run.threads):
        found[thread.tid].append(thread)
    return found
