# SPDX-License-Identifier: Apache-2.0
"""Imports run one way, along the flow of the data."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "kwatch"
FILES = sorted(PACKAGE.rglob("*.py"))

#: The floors, the lowest first: packages, and modules that stand alone. A unit imports itself and
#: the floors below its own. Units on one floor do not import each other.
FLOORS = [
    ["__init__", "errors", "wire"],
    ["kernel", "units", "model", "syscalls", "system", "elf"],
    ["programs", "sinks", "targets", "procfs", "aggregate", "unwind", "ownership"],
    ["rings", "probes", "symbols", "descriptors", "memory_errors"],
    ["processes", "recording"],
    ["tables"],
    ["stacks", "reach"],
    ["session"],
    ["report", "watchpoints"],
    ["commands"],
    ["cli"],
    ["__main__"],
]
FLOOR_OF = {unit: number for number, units in enumerate(FLOORS) for unit in units}

#: What would give a pure module a clock, the outside world or chance.
IMPURE_MODULES = {
    *("asyncio", "ctypes", "datetime", "io", "logging", "mmap", "os", "pathlib", "psutil"),
    *("random", "select", "shutil", "signal", "socket", "subprocess", "sys", "tempfile"),
    *("threading", "time"),
}
IMPURE_BUILTINS = {"__import__", "breakpoint", "eval", "exec", "input", "open", "print"}


def imported_modules(source, package):
    """Dotted names of what a source imports, also inside functions; `package` holds the source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parents, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imported_units(source, package=("kwatch",)):
    """The packages and modules of kwatch that a source imports, by the names in FLOORS."""
    for module in imported_modules(source, package):
        first, *rest = module.split(".")
        if first == "kwatch":
            yield rest[0] if rest and rest[0] in FLOOR_OF else "__init__"


def package_of(path):
    return ("kwatch", *path.relative_to(PACKAGE).parts[:-1])


def test_every_unit_is_on_one_floor():
    units = [
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    ]
    assert Counter(unit for floor in FLOORS for unit in floor) == Counter(units)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    unit = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    others = set(imported_units(path.read_text(), package_of(path))) - {unit}
    assert {other for other in others if FLOOR_OF[other] >= FLOOR_OF[unit]} == set()


@pytest.mark.parametrize(
    "source",
    [
        "import kwatch.report.verdict",
        "from kwatch import report",
        "from kwatch.report import verdict",
        "from ..report import verdict",
        "from .. import report",
        "def late():\n    from kwatch.report.verdict import judge",
    ],
)
def test_every_form_of_import_counts(source):
    assert list(imported_units(source, ("kwatch", "sinks"))) == ["report"]


def impurities(source):
    """Modules and builtins that a pure module may not use."""
    yield from {name.split(".")[0] for name in imported_modules(source, ())} & IMPURE_MODULES
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    yield from (
        called.id
        for called in calls
        if isinstance(called, ast.Name) and called.id in IMPURE_BUILTINS
    )


@pytest.mark.parametrize("path", sorted((PACKAGE / "aggregate").glob("*.py")), ids=lambda p: p.stem)
def test_aggregators_have_no_clock_and_no_io(path):
    assert list(impurities(path.read_text())) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from time import monotonic", "time"),
        ("import os.path", "os"),
        ("import numpy as np, sys", "sys"),
        ("def late():\n    import io", "io"),
        ("x = open('/proc/self/maps')", "open"),
        ("print(1)", "print"),
    ],
)
def test_clocks_and_io_are_found(source, found):
    assert list(impurities(source)) == [found]


def test_only_the_edge_sees_argparse():
    users = {path for path in FILES if "argparse" in path.read_text()}
    assert {path.relative_to(PACKAGE).parts[0] for path in users} <= {"cli.py", "commands"}
