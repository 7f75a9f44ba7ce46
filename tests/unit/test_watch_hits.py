# SPDX-License-Identifier: Apache-2.0
"""Hits of a watchpoint are summed up by place."""

from __future__ import annotations

import numpy as np
import pytest

from kwatch.kernel.breakpoints import Access, Breakpoint
from kwatch.model.frame import Ending, Frame
from kwatch.procfs.address_space import AddressSpace, ReturnAddress
from kwatch.procfs.mappings import Mapping
from kwatch.symbols.stack import Stack
from kwatch.watchpoints.hits import Hits
from kwatch.watchpoints.site import parse_site
from kwatch.watchpoints.watched import Watched
from kwatch.wire.events import HIT, NO_CALL, HitFlag

WATCHED = Watched(Breakpoint(0x5000, 8, Access.WRITE), 0x5000)
CODE = Mapping(0x1000, 0x2000, 0, "/opt/app", 1, 1, True)


class Names:
    """Each address has the name that `symbols` gives it; as a thread, it does each job at once."""

    def __init__(self, **symbols):
        self.symbols = {int(address[1:]): symbol for address, symbol in symbols.items()}

    def submit(self, job, urgent):
        job(self)

    def check(self):
        """It has not failed."""

    def frames(self, stacks):
        return [
            tuple(Frame(each.address, self.symbols[each.address]) for each in stack.addresses)
            for stack in stacks
        ]


def hit(hits, stack, tid=1, time_ns=0):
    batch = np.zeros(1, HIT)
    batch["tgid"], batch["tid"], batch["stack"], batch["address"] = 1, tid, stack, 0x5000
    batch["flags"], batch["nr"], batch["time_ns"] = HitFlag.IN_KERNEL, NO_CALL, time_ns
    hits.add(batch)


def arrived(hits, stack, *addresses):
    found = tuple(ReturnAddress(each, each, CODE) for each in addresses)
    hits.add_stack(1, stack, Stack(1, found, Ending.COMPLETE))


def completed(hits, names):
    return hits.complete(names, lambda pid: AddressSpace(), lambda: None)


def test_one_stack_with_several_ids_is_one_place():
    hits, names = Hits(parse_site("total"), lambda time_ns: WATCHED), Names(_4096="main", _4097="f")
    for stack, addresses in ((1, [4097, 4096]), (2, [4097, 4096]), (3, [4096])):
        hit(hits, stack, tid=stack)
        arrived(hits, stack, *addresses)
    assert [place.frames[0].symbol for place in completed(hits, names)] == ["f", "main"]
    hit(hits, 2, tid=2)
    assert completed(hits, names) == []
    assert [dict(place.threads) for place in hits.places] == [{1: 1, 2: 2}, {3: 1}]


def test_a_place_is_unsure_until_a_hit_is_sure():
    unsure = WATCHED._replace(size=16, is_unsure=True)
    watched = [unsure, unsure, unsure._replace(is_unsure=False), unsure]
    hits = Hits(parse_site("freed:make"), watched.__getitem__)
    found = []
    for time_ns in range(len(watched)):
        hit(hits, 1, time_ns=time_ns)
        found.append(hits.places[0].unsure)
    assert found == [True, True, False, False]


def test_the_allocators_own_accesses_to_freed_memory_are_expected():
    of_block = WATCHED._replace(size=16)
    hits, names = Hits(parse_site("freed:make"), lambda time_ns: of_block), Names(_1="free", _2="f")
    counts = []
    for stack in (1, 1, 2, 2):
        hit(hits, stack)
        counts.append(hits.unexpected)
        arrived(hits, stack, stack)
        completed(hits, names)
        counts.append(hits.unexpected)
    assert counts == [0, 0, 0, 0, 0, 1, 2, 2]


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [("malloc", True), ("__libc_malloc", True), ("__GI___libc_free", True), ("mallocate", False)],
)
def test_the_allocator(symbol, expected):
    hits = Hits(parse_site("total"), lambda time_ns: WATCHED)
    hit(hits, 1)
    arrived(hits, 1, 4096)
    (place,) = completed(hits, Names(_4096=symbol))
    assert place.by_allocator is expected
