# SPDX-License-Identifier: Apache-2.0
"""The CLI reference, docs/cli.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from docs import prose
from docs.parsers import Command, Group

MADE = "<!-- Made by `make docs`; do not edit. -->"
_WIDTH = 100


def page(commands: Sequence[Command]) -> str:
    lines = [MADE, "", "# Command line", "", *_paragraphs(prose.DESCRIPTION)]
    for command in commands:
        lines += _command(command)
    return "\n".join([*lines, *_values(), *_ending()]).rstrip() + "\n"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table; bars inside cells are escaped."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [list(headers), ["---"] * len(headers), *cells]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def _command(command: Command) -> Iterator[str]:
    yield from (f"## kwatch {command.name}".rstrip(), "", f"{_sentence(command.summary)}", "")
    yield from ("```", command.usage, "```", "")
    if not command.name:
        yield from _paragraphs([prose.TARGETS])
    for group in command.groups:
        yield from _group(group)
    yield from _examples(command)


def _group(group: Group) -> Iterator[str]:
    title = group.title.capitalize()
    yield from (f"### {title}{f' ({group.text})' if group.text else ''}", "")
    rows = [(_flags(option.spellings), option.text) for option in group.options]
    yield from table(("option", "meaning"), rows)


def _flags(spellings: Iterable[str]) -> str:
    return ", ".join(f"`{spelling}`" for spelling in spellings)


def _examples(command: Command) -> Iterator[str]:
    if not command.examples:
        return
    yield from ("### Examples", "", "```")
    for line, purpose in command.examples:
        yield from (f"# {purpose}", line)
    yield from ("```", "")


def _values() -> Iterator[str]:
    yield from ("## Values", "")
    yield from table(("value", "how it is written"), ((f"`{n}`", t) for n, t in prose.VALUES))
    classes = ", ".join(f"`{name}`" for name in prose.CLASS_NAMES)
    yield from _paragraphs([f"{prose.CLASSES_NOTE} All of them: {classes}."])


def _ending() -> Iterator[str]:
    yield from ("## Exit status", "")
    statuses = [(str(int(code)), text) for code, text in prose.STATUSES.items()]
    yield from table(("status", "meaning"), [*statuses, *prose.OTHER_STATUSES])
    yield from ("## Signals", "", *_paragraphs([prose.SIGNALS]))
    yield from ("## Output that fails", "", *_paragraphs(prose.UNREAD))
    yield from ("## Environment", "")
    yield from table(("variable", "meaning"), ((f"`{n}`", t) for n, t in prose.ENVIRONMENT))


def _paragraphs(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from (*wrapped(text), "")


def wrapped(text: str) -> list[str]:
    """Lines of at most 100 columns, broken at spaces outside code."""
    lines = [""]
    for word in _words(text):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > _WIDTH:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{word}"
    return lines


def _words(text: str) -> Iterator[str]:
    word = ""
    for part in text.split(" "):
        word += f"{' ' if word else ''}{part}"
        if word.count("`") % 2 == 0:
            yield word
            word = ""


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
