# SPDX-License-Identifier: Apache-2.0
"""The classes of a live process's blocks, against what the program knows of them."""

from __future__ import annotations

from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from harness.waiting import wait_until

from kwatch.model.reach import Reach
from kwatch.reach.holders import who, why
from kwatch.reach.layout import layout
from kwatch.reach.memory import TargetMemory
from kwatch.reach.pages import PageMap
from kwatch.reach.regions import read_regions
from kwatch.reach.scan import scan


def threads_of(pid: int) -> list[SimpleNamespace]:
    """With the stack pointer and the arguments of the system call in which each thread waits."""
    threads = []
    for path in Path(f"/proc/{pid}/task").iterdir():
        call = (path / "syscall").read_text().split()
        values = [int(word, 16) for word in call[1:]]  # "running", or nr, arguments, sp, pc
        registers, top = (values[:6], values[6]) if values else ([], None)
        names = tuple(f"argument {number}" for number in range(len(registers)))
        registers = np.array(registers, np.uint64)
        threads.append(
            SimpleNamespace(tid=int(path.name), registers=registers, names=names, stack_pointer=top)
        )
    return threads


@pytest.fixture
def target(start):
    found = start("reach")
    wait_until(lambda: all(thread.stack_pointer for thread in threads_of(found.pid)))
    return found


def by_name(target, part):
    suffix = f".{part}"
    return {
        key.removesuffix(suffix): value
        for key, value in target.answers.items()
        if key.endswith(suffix)
    }


def blocks_of(target):
    addresses, sizes = by_name(target, "address"), by_name(target, "size")
    columns = sorted((address, sizes[name]) for name, address in addresses.items())
    starts, sizes = np.array(columns, np.uint64).T
    return starts, sizes


@contextmanager
def opened(target, of):
    """The target's memory, and a scan of it."""
    with closing(TargetMemory(target.pid)) as memory, closing(PageMap(target.pid)) as pages:
        regions = read_regions(target.pid)
        yield memory, scan(memory, pages, regions, of, threads_of(target.pid))


def found_by_name(target, of, column):
    at = {start: number for number, start in enumerate(of.starts.tolist())}
    return {name: column[at[address]] for name, address in by_name(target, "address").items()}


def names_of(values):
    return {name: Reach(value).name for name, value in values.items()}


def test_each_block_has_the_class_that_the_program_knows(target):
    of = layout(None, blocks_of(target))
    with opened(target, of) as (_, found):
        classes = found_by_name(target, of, found.classes)
        assert names_of(classes) == names_of(by_name(target, "class"))
        only_stack = found_by_name(target, of, found.stack_only)
    assert only_stack == by_name(target, "stack")


def test_what_holds_a_block(target):
    of = layout(None, blocks_of(target))
    at = by_name(target, "address")
    with opened(target, of) as (memory, found):
        path = why(found, memory, at["after_interior"])
        assert path.root.region.path == ""  # .bss
        assert [step[:1] + step[2:] for step in path.steps] == [
            (at["interior"], 47, 5 * 8),
            (at["after_interior"], 0, None),
        ]
        assert why(found, memory, at["main_local"]).root.region.path == "[stack]"
        assert why(found, memory, at["lost_next"]) is None
        held = who(found, np.isin(of.starts, [at["lost_next"], at["ring_next"], at["chain_next"]]))
    holders = {int(of.starts[holder.block]): holder[2:] for holder in held}
    assert holders == dict.fromkeys((at["lost"], at["ring"], at["chain"]), (1, 48))
