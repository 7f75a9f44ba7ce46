# SPDX-License-Identifier: Apache-2.0
"""Imports run one way, along the flow of the data."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "kwatch"

#: Each may import itself, what stands before it, and nothing behind. One line: may not import
#: each other.
LAYERS = [
    ["__init__", "errors"],
    ["whole_file", "with_parent"],
    ["units", "cache_folder", "freed_memory", "signals", "stdio"],
    ["events", "maps", "options"],
    ["snapshot"],
    ["runtime"],
    ["kernel", "syscalls", "symbols", "aggregate", "sinks"],
    ["probes", "unwind", "stream", "targets", "output", "draft"],
    ["tracer", "registry"],
    ["unwinder"],
    ["process_code"],
    ["stacks"],
    ["tracees", "stack_queue", "same_stacks"],
    ["lifecycle", "profile", "call_list", "attached_line"],
    ["session"],
    ["report", "report_queue"],
    ["watch"],
    ["commands"],
    ["cli"],
    ["__main__"],
]

# What may cross a line all the same: the checks of `kwatch doctor` try what users will use, and the
# programs are built for the table of functions.
EXCEPTIONS = {("kernel", "symbols"), ("kernel", "targets"), ("kernel", "probes")}


def layer_of(unit):
    return next(index for index, units in enumerate(LAYERS) if unit in units)


def imported(path):
    """Units of kwatch that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kwatch"):
            parts = node.module.split(".")
            names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
            yield from names


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_imports_run_one_way(path):
    unit = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for other in imported(path):
        if other in (unit, "__version__") or (unit, other) in EXCEPTIONS:
            continue
        assert layer_of(other) < layer_of(unit), f"{unit} imports {other}"


def test_aggregators_have_no_clock_and_no_io():
    for path in (PACKAGE / "aggregate").glob("*.py"):
        modules = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert not modules & {"time", "os", "sys", "io", "subprocess"}, path
        assert "print(" not in path.read_text()


def test_only_the_edge_sees_argparse():
    users = {p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py") if "argparse" in p.read_text()}
    assert {str(user.parts[0]) for user in users} <= {"cli.py", "commands"}
