# SPDX-License-Identifier: Apache-2.0
"""The man page, docs/kwatch.1, in man(7)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from docs import prose
from docs.parsers import Command, Group
from kwatch import __version__

_LITERAL = re.compile(r"`([^`]*)`")


def page(commands: Sequence[Command]) -> str:
    watch, *others = commands
    lines = ['.\\" Made by `make docs`; do not edit.']
    lines += [f'.TH KWATCH 1 "" "kwatch {__version__}" "User Commands"']
    lines += [".SH NAME", roff(f"kwatch - {watch.summary}"), *_synopsis(commands)]
    lines += [".SH DESCRIPTION", *_paragraphs([*prose.DESCRIPTION, prose.TARGETS])]
    lines += [".SH OPTIONS", *_groups(watch)]
    lines += [".SH COMMANDS", *(line for command in others for line in _command(command))]
    lines += [*_ending(), *_examples(watch)]
    lines += [".SH SEE ALSO", ".BR strace (1),", ".BR valgrind (1),", ".BR perf_event_open (2),"]
    return "\n".join([*lines, ".BR bpf (2)"]) + "\n"


def roff(text: str) -> str:
    """Text with `literals` in bold, and nothing that troff would take for its own."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    bold = _LITERAL.sub(r"\\fB\1\\fR", escaped)
    return f"\\&{bold}" if bold[:1] in (".", "'") else bold


def _synopsis(commands: Iterable[Command]) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    for command in commands:
        program, _, rest = command.usage.partition(" ")
        yield from (f".B {program}", roff(rest), ".br")


def _groups(command: Command) -> Iterator[str]:
    for group in command.groups:
        yield from (
            f".SS {roff(group.title.capitalize())}",
            *_paragraphs(filter(None, [_text(group)])),
        )
        for option in group.options:
            yield from _item(", ".join(f"`{one}`" for one in option.spellings), option.text)


def _text(group: Group) -> str:
    return f"{group.text[:1].upper()}{group.text[1:]}." if group.text else ""


def _command(command: Command) -> Iterator[str]:
    yield from _item(f"`kwatch {command.name}`", f"{command.summary}.")
    for group in command.groups:
        yield ".RS"
        for option in group.options:
            yield from _item(", ".join(f"`{one}`" for one in option.spellings), option.text)
        yield ".RE"


def _ending() -> Iterator[str]:
    yield ".SH VALUES"
    for name, text in prose.VALUES:
        yield from _item(f"`{name}`", text)
    classes = ", ".join(f"`{name}`" for name in prose.CLASS_NAMES)
    yield from _paragraphs([f"{prose.CLASSES_NOTE} All of them: {classes}."])
    yield ".SH EXIT STATUS"
    statuses = [(str(int(code)), text) for code, text in prose.STATUSES.items()]
    for name, text in (*statuses, *prose.OTHER_STATUSES):
        yield from _item(f"`{name}`", text)
    yield from (".SH SIGNALS", *_paragraphs([prose.SIGNALS]))
    yield from (".SH OUTPUT THAT FAILS", *_paragraphs(prose.UNREAD), ".SH ENVIRONMENT")
    for name, text in prose.ENVIRONMENT:
        yield from _item(f"`{name}`", text)


def _examples(command: Command) -> Iterator[str]:
    yield ".SH EXAMPLES"
    for line, purpose in command.examples:
        yield from _item(f"`{line}`", purpose)


def _item(term: str, text: str) -> Iterator[str]:
    yield from (".TP", roff(term), roff(text))


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from (".PP", roff(text))
