# SPDX-License-Identifier: Apache-2.0
"""Scans one process that is not traced, or says why it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOENT, ESRCH

from kwatch.errors import KwatchError
from kwatch.model.process import ProcessFacts
from kwatch.reach.regions import read_regions
from kwatch.reach.settle import Settled, settle, settle_stopped

_END_OF_32_BITS = 1 << 32


def scanned(facts: ProcessFacts, stop: bool) -> Settled:
    """Raises KwatchError if the process cannot be read or has ended."""
    _require_64_bits(facts)
    with reading(facts):
        try:
            return settle_stopped(facts.pid) if stop else settle(facts.pid)
        except LookupError as error:
            raise _has_ended(facts) from error


@contextmanager
def reading(facts: ProcessFacts) -> Iterator[None]:
    """Raises KwatchError where the memory of the process cannot be read."""
    try:
        yield
    except MemoryError as error:
        raise KwatchError(
            f"{_name(facts)} cannot be searched: there is too little memory for its scan",
            "free some: it takes about 100 bytes for each block of the process",
        ) from error
    except OSError as error:
        if error.errno in (ESRCH, ENOENT):
            raise _has_ended(facts) from error
        raise KwatchError(
            f"{_name(facts)} cannot be searched: {error.strerror}",
            "a policy forbids what CAP_SYS_PTRACE allows: run kwatch on the host",
        ) from error


def _name(facts: ProcessFacts) -> str:
    return f"{facts.comm}[{facts.pid}]"


def _has_ended(facts: ProcessFacts) -> KwatchError:
    return KwatchError(
        f"{_name(facts)} cannot be searched: it has ended",
        "to see what a program loses until its end, launch it: kwatch -- COMMAND",
    )


def _require_64_bits(facts: ProcessFacts) -> None:
    """A 64-bit program has its stack above 4 GiB. Raises KwatchError."""
    with suppress(OSError):  # the scan tells
        regions = read_regions(facts.pid)
        if regions and regions[-1].end <= _END_OF_32_BITS:
            raise KwatchError(
                f"{_name(facts)} cannot be searched: it is a 32-bit program, and kwatch reads the "
                "heaps of 64-bit programs only",
                "trace its mappings and descriptors instead, kwatch --pid "
                f"{facts.pid}, or run a 64-bit build of it",
            )
