# SPDX-License-Identifier: Apache-2.0
"""A segment has the stacks that its rows refer to, also those that earlier segments have had."""

from __future__ import annotations

import pyarrow as pa

from kwatch.recording.stack_rows import StackRows


def rows_with(*stacks):
    return pa.RecordBatch.from_pydict(
        {"pid": [pid for pid, _ in stacks], "stack": pa.array([n for _, n in stacks], pa.int64())}
    )


def row(pid, stack):
    return {"pid": pid, "stack": stack, "ending": "complete", "frames": [f"f{stack}"]}


def test_each_segment_has_what_it_uses():
    rows = StackRows()
    rows.add([row(1, 300), row(1, 400)])
    rows.note(rows_with((1, 300), (1, None), (1, 300)))
    assert rows.take() == [row(1, 300)]
    assert rows.take() == []
    rows.note(rows_with((1, 300), (1, 400)))
    assert sorted(each["stack"] for each in rows.take()) == [300, 400]


def test_a_stack_that_gets_its_names_after_the_segment():
    rows = StackRows()
    rows.note(rows_with((1, 300)))
    assert rows.take() == []
    rows.add([row(1, 300)])
    assert rows.take() == [row(1, 300)]


def test_a_child_has_the_stacks_of_its_parent():
    rows = StackRows()
    rows.add([row(1, 300)])
    rows.note(rows_with((2, 300)))
    assert rows.take() == [{**row(1, 300), "pid": 2}]
