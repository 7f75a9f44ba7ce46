# SPDX-License-Identifier: Apache-2.0
"""The commands and their options as plain data, read from kwatch's own parsers."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from kwatch.cli import command_module, parser_for
from kwatch.commands import COMMANDS, DEFAULT_COMMAND


@dataclass(frozen=True, slots=True)
class Option:
    """`spellings`: each flag with its argument, such as `--pid PID[,PID]`, or what to give."""

    spellings: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    text: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Command:
    """`name` is empty for the default command; `examples`: (command line, what it is for)."""

    name: str
    summary: str
    usage: str
    groups: tuple[Group, ...]
    examples: tuple[tuple[str, str], ...]


def commands() -> list[Command]:
    return [_command(name) for name in COMMANDS]


def _command(name: str) -> Command:
    parser, module = parser_for(name), command_module(name)
    groups = [_group(parser, group) for group in parser._action_groups]
    return Command(
        name="" if name == DEFAULT_COMMAND else name,
        summary=str(module.SUMMARY).removesuffix(" (the default command)"),
        usage=parser.usage or " ".join(parser.format_usage().removeprefix("usage:").split()),
        groups=tuple(group for group in groups if group.options),
        examples=tuple(_examples(str(getattr(module, "EXAMPLES", "")))),
    )


def _group(parser: argparse.ArgumentParser, group: argparse._ArgumentGroup) -> Group:
    options = [_option(parser, action) for action in group._group_actions]
    title = "general" if group.title == "options" else group.title or ""
    return Group(title, group.description or "", tuple(options))


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> Option:
    argument = f" {action.metavar}" if action.nargs != 0 and action.metavar else ""
    text = (action.help or "") % {"default": action.default, "prog": parser.prog}
    flags = tuple(flag + argument for flag in action.option_strings)
    return Option(flags or (str(action.metavar),), text)


def _examples(text: str) -> list[tuple[str, str]]:
    """From the help's two columns: a command, and what it is for, on its line or on the next."""
    lines = [line for line in text.splitlines() if line.startswith("  ")]
    column = lines[0].rindex("  ") + 2 if lines else 0
    found: list[tuple[str, str]] = []
    for line in lines:
        if line.strip().startswith("kwatch "):
            beside = line[column - 1 : column] == " "
            command, purpose = (line[:column], line[column:]) if beside else (line, "")
        else:
            (command, _), purpose = found.pop(), line
        found.append((command.strip(), purpose.strip()))
    return found
