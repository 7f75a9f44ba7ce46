# SPDX-License-Identifier: Apache-2.0
"""What a child inherits from its parent."""

from __future__ import annotations

from kwatch.model.process import ProcessFacts
from kwatch.processes.accounts import ACCOUNTS, Accounts
from kwatch.processes.process_table import ProcessTable
from kwatch.programs.sources import EVENT_SOURCES


def test_a_child_inherits_its_parents_epoch():
    process_table = ProcessTable()
    parent, child = (
        process_table.add(ProcessFacts(pid, 1.0, "app", ""), Accounts()) for pid in (7, 8)
    )
    parent.code.epoch, parent.code.unmaps = 5, 4
    child.inherit(parent, 1)
    assert (child.code.epoch, child.code.unmaps) == (
        5,
        0,
    )  # as inherit_space() does in bpf/lifecycle.bpf.c


def test_only_ordered_sources_feed_accounts_of_a_process():
    ordered = {source.name for source in EVENT_SOURCES if source.ordered}
    assert {row.source for row in ACCOUNTS} <= ordered
