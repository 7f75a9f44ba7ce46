# SPDX-License-Identifier: Apache-2.0
"""The system calls of tests/programs/callsites.c by place, and kwatch's report of them."""

from __future__ import annotations

from collections import Counter

#: Options that list every stack.
EVERY_CALL = ("--stacks", "--top", "10000")
WHOLE = {"complete", "finished"}

OFTEN, DEPTH = 10007, 20
MAIN = ("all_places", "main")
RECURSION = ("deep",) * (DEPTH + 1)

#: Calls by name and by stack, innermost function first.
EXPECTED = {
    ("getppid", ("parent", "shallow", *MAIN)): OFTEN,
    ("dup", ("descriptor", "shallow", *MAIN)): OFTEN + 2,
    ("getppid", ("parent", "shallow", *RECURSION, *MAIN)): 101,
    ("dup", ("descriptor", "shallow", *RECURSION, *MAIN)): 103,
    ("getppid", ("left", "turns", *MAIN)): 997,
    ("getppid", ("right", "turns", *MAIN)): 997,
    ("getppid", ("parent", "handler", "signalled", *MAIN)): 13,
    ("getppid", ("parent", "thread")): 17,
}


def own_frames(stack):
    """The program's own functions in a stack."""
    return tuple(
        frame["symbol"]
        for frame in stack["frames"]
        if frame["module"].endswith("/callsites") and frame["symbol"] != "_start"
    )


def counted(final):
    calls = Counter()
    for stack in final["syscalls"]["stacks"]:
        if stack["name"] in ("getppid", "dup"):
            calls[stack["name"], own_frames(stack)] += stack["calls"]
            assert stack["ending"] in WHOLE, stack
            assert stack["errors"] == (stack["calls"] if stack["name"] == "dup" else 0)
    return calls


def assert_adds_up(final):
    """The figures of the stacks add up to those of the names."""
    syscalls = final["syscalls"]
    for figure in ("calls", "errors", "total_ns"):
        by_name, by_stack = Counter(), Counter()
        for row in syscalls["by_name"]:
            by_name[row["name"]] += row[figure]
        for stack in syscalls["stacks"]:
            by_stack[stack["name"]] += stack[figure]
        assert +by_stack == +by_name
    assert syscalls["other_calls"] == 0
    assert final["lost"] == {"events": 0, "by_cause": {}}
