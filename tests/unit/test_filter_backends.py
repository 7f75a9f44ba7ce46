# SPDX-License-Identifier: Apache-2.0
"""A filter means the same to a Python function, to columns, and to the C for the kernel."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from harness.filter_code import MEMBERS, CompiledFilters, FilterCall, in_kernel
from harness.filters import EXPRESSIONS, every_comparison, every_value, recorded_calls
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kwatch.syscalls.filter.call import Call
from kwatch.syscalls.filter.columns import Column, select
from kwatch.syscalls.filter.fields import Stage
from kwatch.syscalls.filter.in_kernel import stage_of
from kwatch.syscalls.filter.parser import MAX_DEPTH, parse
from kwatch.syscalls.filter.predicate import predicate
from kwatch.syscalls.filter.split import Split, split

OPENED = Call(
    pid=7,
    tid=8,
    comm=b"nginx",
    uid=33,
    cgroup_id=99,
    syscall="openat",
    args=(-100, 0x7F00, 0o2000000, 0, 0, 0),
    ret=-2,
    duration_ns=1500,
    cgroup=b"/system.slice/nginx.service",
    fd=-100,
    path=b"/etc/nginx/mime.types",
)
UNFINISHED = replace(OPENED, syscall="getpid", ret=None, duration_ns=None, fd=None, path=None)


@pytest.mark.parametrize(
    ("expression", "opened", "unfinished"),
    [
        ("pid = 7 and tid != 7 and uid in (0, 33) and cgroup_id > 98", True, True),
        (
            "comm = nginx and comm contains gin and comm glob n*[x] and comm endswith inx",
            True,
            True,
        ),
        ("comm startswith ginx or comm contains nginxx or comm glob ?", False, False),
        ("syscall = openat and syscall in (open, openat) and syscall glob open*", True, False),
        ("class = file and class != network and class in (net, %desc)", True, False),
        ("class = %%stat or syscall endswith pid", False, True),
        ("ret = -2 and ret < 0 and ret >= -2", True, False),
        ("error = ENOENT and error != EPERM and error in (EIO, ENOENT) and error = 2", True, False),
        ("not error = EPERM", True, True),
        ("error != EPERM", True, False),  # a call without an error has no error that differs
        ("error exists and duration exists and fd exists", True, False),
        (
            "duration = 1.5us and duration > 1000ns and duration < 0.1ms and duration > 0",
            True,
            False,
        ),
        (
            "fd = -100 and arg0 = -100 and arg0 = 0xffffffffffffff9c and arg2 = 02000000",
            True,
            False,
        ),
        ("path = /etc/nginx/mime.types and cgroup contains nginx", True, False),
        ("path != /etc/passwd", True, False),
        ("not path = /etc/passwd", True, True),
        ("pid = 1 and pid = 2 or pid = 7", True, True),  # and before or
        ("pid = 7 or pid = 1 and pid = 2", True, True),
        ("not pid = 1 and pid = 2", False, False),  # not before and
        ("not (pid = 1 and pid = 2)", True, True),
        ("pid = 7 and (pid = 1 or not not tid = 8)", True, True),
    ],
)
def test_what_a_filter_accepts(expression: str, opened: bool, unfinished: bool) -> None:
    accepts = predicate(parse(expression))

    assert (accepts(OPENED), accepts(UNFINISHED)) == (opened, unfinished)


def numbers_of(values: list[int | None]) -> Column:
    present = np.array([value is not None for value in values])
    return Column(np.array([value or 0 for value in values], np.int64), present)


def texts_of(values: list) -> Column:
    dictionary = sorted({value for value in values if value is not None})
    indices = [-1 if value is None else dictionary.index(value) for value in values]
    return Column(np.array(indices, np.int32), dictionary=dictionary)


def columns_of(calls: list[Call]) -> dict[str, Column]:
    columns = {
        name: texts_of([getattr(call, name) for call in calls])
        for name in ("comm", "cgroup", "syscall", "path")
    }
    for name in ("pid", "tid", "uid", "cgroup_id", "ret", "fd"):
        columns[name] = numbers_of([getattr(call, name) for call in calls])
    for n in range(6):
        columns[f"arg{n}"] = numbers_of([call.args[n] for call in calls])
    return columns | {"duration": numbers_of([call.duration_ns for call in calls])}


def test_columns_are_compared_like_calls() -> None:
    calls = [each.call for each in every_value()]
    columns = columns_of(calls)
    for comparison in every_comparison():
        rows = [*map(predicate(comparison), calls)]
        assert (comparison, select(comparison, columns).tolist()) == (comparison, rows)


@given(EXPRESSIONS, st.lists(recorded_calls(), min_size=1, max_size=20))
def test_columns_are_filtered_like_calls(expression, recorded) -> None:
    calls = [each.call for each in recorded]

    assert select(expression, columns_of(calls)).tolist() == [*map(predicate(expression), calls)]


def test_the_kernel_compares_like_user_space(tmp_path) -> None:
    comparisons = [each for each in every_comparison() if stage_of(each) is not Stage.USER]
    splits = [Split(None, comparison, None) for comparison in comparisons]
    compiled = CompiledFilters(tmp_path, splits)
    recorded = [each for each in every_value() if each.call.ret is not None]
    for index, comparison in enumerate(comparisons):
        said = [compiled.accepts(index, "filter_at_exit", in_kernel(each)) for each in recorded]
        rows = [*map(predicate(comparison), (each.call for each in recorded))]
        assert (comparison, said) == (comparison, rows)


def accepts(part, call: Call) -> bool:
    return part is None or predicate(part)(call)


@settings(max_examples=300)
@given(EXPRESSIONS, recorded_calls())
def test_the_parts_are_the_whole(expression, recorded) -> None:
    call, parts = recorded.call, split(expression)
    whole = predicate(expression)(call)

    if call.ret is None:
        assert accepts(parts.entry, call) or not whole
    else:
        assert all(accepts(part, call) for part in (parts.entry, parts.exit, parts.user)) == whole


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(EXPRESSIONS, min_size=20, max_size=20),
    st.lists(recorded_calls(), min_size=20, max_size=20),
)
def test_the_kernel_decides_like_user_space(tmp_path_factory, expressions, recorded) -> None:
    splits = [split(expression) for expression in expressions]
    compiled = CompiledFilters(tmp_path_factory.mktemp("c"), splits)
    for (index, parts), each in itertools.product(enumerate(splits), recorded):
        at_entry = compiled.accepts(index, "filter_at_entry", in_kernel(each))
        assert at_entry == accepts(parts.entry, each.call)
        if each.call.ret is None:
            continue
        at_exit = compiled.accepts(index, "filter_at_exit", in_kernel(each))
        assert at_exit == accepts(parts.exit, each.call)
        assert (at_entry and at_exit) or not predicate(expressions[index])(each.call)


def test_the_structure_is_that_of_the_header(tmp_path) -> None:
    compiled = CompiledFilters(tmp_path, [Split(None, None, None)])

    assert compiled.offsets() == [getattr(FilterCall, name).offset for name in MEMBERS]


def test_the_deepest_filter_compiles(tmp_path) -> None:
    text = "pid = 3"
    for level in range(MAX_DEPTH):
        text = f"pid = {level} {'and' if level % 2 else 'or'} ({text})"
    expression = parse(text)
    compiled = CompiledFilters(tmp_path, [split(expression)])

    for pid in (1, 3, MAX_DEPTH - 1, MAX_DEPTH):
        at_entry = compiled.accepts(0, "filter_at_entry", FilterCall(pid=pid))
        assert at_entry == predicate(expression)(replace(OPENED, pid=pid))
