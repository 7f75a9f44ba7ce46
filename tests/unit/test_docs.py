# SPDX-License-Identifier: Apache-2.0
"""The documents say what the program does: they are compared with its own tables."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

from growth.kinds import KINDS

from kwatch.cli import parser_for
from kwatch.commands import COMMANDS, DEFAULT_COMMAND
from kwatch.commands.doctor import features
from kwatch.commands.watch.command import options_from
from kwatch.errors import ExitCode, KwatchError
from kwatch.model import snapshot
from kwatch.model.growth import GrowthEvidence, GrowthKind
from kwatch.model.mark import SinceMark
from kwatch.ownership import stack_growth
from kwatch.programs.source import AttachMethods
from kwatch.programs.sources import TRACEPOINTS
from kwatch.report import growth
from kwatch.wire.allocators import ALLOCATOR_FUNCTIONS
from kwatch.wire.events import Loss

ROOT = Path(__file__).resolve().parent.parent.parent
GENERATOR = ROOT / "tools" / "docs"
WRITTEN = (
    "architecture",
    "json",
    "kernels",
    "overhead",
    "profiles",
    "semantics",
    "stacks",
    "symbols",
    "troubleshooting",
    "verdicts",
)
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("LICENSES/*.md")])

_FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^    (.*)$", re.MULTILINE)
_CODE = re.compile(r"`[^`]*`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_OPTION = re.compile(r"`(--[a-z][a-z-]+)")
_COMMAND_LINE = re.compile(r"(?:\$ )?(?:sudo )?(?:\.venv/bin/)?kwatch(?: +([^=\s].*))?")


def text(name: str) -> str:
    """A page of docs/, its lines joined, so that a phrase may be broken over two."""
    return " ".join((ROOT / "docs" / name).read_text(encoding="utf-8").split())


def options() -> Iterator[str]:
    for name in COMMANDS:
        for action in parser_for(name)._actions:
            yield from action.option_strings


def test_generated_documents_are_current() -> None:
    command = [sys.executable, str(GENERATOR), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", ["cli.md", "kwatch.1"])
def test_every_option_is_named(page: str) -> None:
    said = re.sub(r"\\f[BR]|\\", "", text(page))
    assert [option for option in options() if not re.search(rf"{option}(?![\w-])", said)] == []


@pytest.mark.parametrize("page", ["cli.md", "kwatch.1"])
def test_every_command_is_named(page: str) -> None:
    assert all(f"kwatch {name}" in text(page) for name in COMMANDS if name != DEFAULT_COMMAND)


@pytest.mark.parametrize("page", ["cli.md", "semantics.md"])
def test_every_exit_status_is_named(page: str) -> None:
    statuses = text(page).partition("## Exit status")[2]
    assert all(f"| {int(code)} |" in statuses for code in ExitCode)


def test_every_cause_of_loss_is_named() -> None:
    assert all(f"| `{loss.name.lower()}` |" in text("semantics.md") for loss in Loss)


def test_every_verdict_is_named() -> None:
    assert all(f"**{verdict}**" in text("semantics.md") for verdict in snapshot.Verdict)


def test_the_thresholds_of_stacks_that_grow() -> None:
    section = text("semantics.md").partition("### Growth ")[2].partition(" ### ")[0]
    assert f"kwatch follows {stack_growth.MAX_STACKS}:" in section
    assert f"From {stack_growth._MIN_BLOCKS} live blocks on" in section
    assert f"gains {growth._MIN_NET} blocks or fewer" in section


def test_every_kind_of_growth_is_named() -> None:
    words, _, table = text("verdicts.md").partition("## How often")
    assert all(f"| {kind} |" in words for kind in GrowthKind)
    assert all(f"| {kind.name} |" in table for kind in KINDS)


def test_every_probe_is_named() -> None:
    names = [function.name for function in ALLOCATOR_FUNCTIONS]
    names += [each.name.rpartition("/")[2] for each in TRACEPOINTS.values()]
    assert all(f"| `{name}` |" in text("probes.md") for name in names)


def test_every_folder_is_in_the_architecture() -> None:
    folders = {path.parent.name for path in ROOT.glob("kwatch/*/__init__.py")}
    said = text("architecture.md")
    assert sorted(name for name in folders if f"| `{name}/` |" not in said) == []


def test_the_picture_shows_the_leak() -> None:
    picture = ElementTree.parse(ROOT / "docs" / "images" / "kwatch.svg")
    shown = " ".join(picture.getroot().itertext())
    assert "LEAK" in shown
    assert "remember_session" in shown


def test_quoted_messages_are_in_the_code() -> None:
    """How a stack is cut, and why a verdict is unsure."""
    said = text("troubleshooting.md")
    quoted = re.findall(r"`\[(?:cut: )?([^\]`]+)\]`", said)
    quoted += re.findall(r"`UNSURE: app\[7\]: ([^`:]+):?`", said)
    assert len(quoted) > 7
    code = " ".join(path.read_text() for path in ROOT.glob("kwatch/**/*.py"))
    assert [each for each in quoted if each not in code] == []


_NO_FILE = 1 << 24  # a descriptor that is not open


class _NothingLoads:
    """Replaces the Loader: its programs compile, but cannot be attached."""

    def __init__(self, config: object, methods: object = None) -> None:
        self.programs = dict.fromkeys([*TRACEPOINTS, "heap_entry", "heap_malloc"], _NO_FILE)
        self.attach_methods = methods or AttachMethods(False, False)

    def result(self) -> _NothingLoads:
        return self

    def close(self) -> None:
        pass


def test_every_check_of_doctor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    unchecked = [(*row, lambda: None) for *row, _ in features._STANDALONE]
    monkeypatch.setattr(features, "_STANDALONE", unchecked)
    monkeypatch.setattr(features, "Loader", _NothingLoads)
    names = [feature.name for feature in features.features()]
    assert "perf uprobes" in names
    assert [name for name in names if f"| {name} |" not in text("troubleshooting.md")] == []


def test_every_kernel_of_the_list_is_in_the_table() -> None:
    lines = (ROOT / "tests" / "kernels.txt").read_text().splitlines()
    listed = [line.split()[:4] for line in lines if line and not line.startswith("#")]
    rows = re.findall(r"^\| (\S+) \| (\w+) \| (\w+) \| (\w+) \|$", text_of("kernels"), re.MULTILINE)
    assert [list(row) for row in rows] == listed


def text_of(page: str) -> str:
    return (ROOT / "docs" / f"{page}.md").read_text()


def test_every_field_of_the_output_is_named() -> None:
    classes = (
        snapshot.Snapshot,
        snapshot.EndedSummary,
        snapshot.EndedStats,
        snapshot.ProcessFacts,
        snapshot.HeapStats,
        snapshot.Frame,
        snapshot.MemoryStats,
        snapshot.Descriptors,
        SinceMark,
        snapshot.SyscallSummary,
        snapshot.SyscallStats,
        snapshot.Lost,
        snapshot.Footprint,
        features.Feature,
    )
    names = {field.name for one in classes for field in fields(one)}
    for one in (snapshot.StackStats, snapshot.CallStackStats, GrowthEvidence):
        names |= {field.name for field in fields(one)} - {"stack"} | {"id"}
    names -= {"profile"}  # goes to files of its own
    assert sorted(name for name in names if f"| `{name}` |" not in text("json.md")) == []


def test_options_that_are_named_exist() -> None:
    known = {*options(), "--its-option", "--check", "--markdown", "--quick", "--symbols"}
    known |= {"--system-site-packages", "--pid=host", "--network", "--perf-basic-prof"}
    pages = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in WRITTEN)]
    named = {option for page in pages for option in _OPTION.findall(page.read_text())}
    assert named - known == set()


def command_lines() -> Iterator[str]:
    """What follows `kwatch` on the lines of the pages' code that run it."""
    for page in PAGES:
        said = page.read_text(encoding="utf-8")
        code = "\n".join([*_FENCED.findall(said), *_INDENTED.findall(said)])
        for line in code.splitlines():
            match = _COMMAND_LINE.fullmatch(line.partition("|")[0].strip())
            if match is not None and "[" not in line:
                yield (match[1] or "").partition("#")[0].strip()


@pytest.mark.parametrize("line", sorted(set(command_lines())))
def test_examples_can_be_run(line: str) -> None:
    words = shlex.split(line)
    name = words.pop(0) if words[:1] and words[0] in COMMANDS else DEFAULT_COMMAND
    end = words.index("--") if "--" in words else len(words)
    parsed = parser_for(name).parse_args(words[:end])
    parsed.command = words[end + 1 :]
    if name == DEFAULT_COMMAND:
        try:
            options_from(parsed)
        except KwatchError as error:
            pytest.fail(str(error))


def slug(heading: str) -> str:
    """The anchor that Markdown viewers make of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    said = _CODE.sub("`code`", _FENCED.sub("", page.read_text(encoding="utf-8")))
    for link in _LINK.findall(said):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), link
        headings = map(slug, _HEADING.findall(file.read_text(encoding="utf-8")) if anchor else ())
        assert not anchor or anchor in headings, link
