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
    ["__init__", "errors", "wire"],
    ["kernel", "units", "model", "syscalls", "system", "elf"],
    ["programs", "sinks", "targets", "procfs", "aggregate", "unwind"],
    ["rings", "probes", "symbols"],
    ["processes"],
    ["tables"],
    ["stacks"],
    ["session"],
    ["report"],
    ["commands"],
    ["cli"],
    ["__main__"],
]


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
        if other in (unit, "__version__"):
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
