# SPDX-License-Identifier: Apache-2.0
"""The command line: runs the command and prints its errors."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

from kwatch import __version__
from kwatch.commands import COMMANDS, DEFAULT_COMMAND
from kwatch.commands.output_options import output_from
from kwatch.commands.watch.unrecognized import hint
from kwatch.errors import (
    CURE_OF_TOO_MANY_FILES,
    TOO_MANY_FILES,
    ExitCode,
    KwatchError,
    UsageError,
)
from kwatch.system import signals, stdio

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_CURE_OF_NO_MEMORY = "free some memory, or raise the limit (ulimit -v, or the control group's)"


def command_module(name: str) -> ModuleType:
    return import_module(COMMANDS[name])


class _Parser(argparse.ArgumentParser):
    """`make_epilog` is called only for help: it would slow every start."""

    make_epilog: Callable[[], str]

    def format_help(self) -> str:
        self.epilog = self.make_epilog()
        return super().format_help()

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        if file is sys.stdout and file is not None:
            stdio.write(message)
        else:
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        """Reports one line instead of the whole usage."""
        raise UsageError(message, _help_of(self))


def parser_for(name: str) -> argparse.ArgumentParser:
    """The parser of one command; the default command's help also lists the others."""
    module = command_module(name)
    prog = "kwatch" if name == DEFAULT_COMMAND else f"kwatch {name}"
    parser = _Parser(
        prog=prog,
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.make_epilog = partial(_epilog, name, module)
    parser.usage = getattr(module, "USAGE", None)
    module.add_arguments(parser)
    if name == DEFAULT_COMMAND:
        parser.add_argument("--version", action="version", version=f"kwatch {__version__}")
    return parser


def _epilog(name: str, module: ModuleType) -> str:
    if name != DEFAULT_COMMAND:
        return str(getattr(module, "EXAMPLES", ""))
    others = [f"  {other:11}{command_module(other).SUMMARY}" for other in COMMANDS if other != name]
    return "\n".join(["commands (kwatch COMMAND --help):", *others, "", module.EXAMPLES])


def _parse(name: str, words: list[str]) -> argparse.Namespace:
    """Everything after `--` is the command to launch."""
    parser = parser_for(name)
    end = words.index("--") if "--" in words else len(words)
    command = words[end + 1 :]
    takes_command = getattr(command_module(name), "TAKES_COMMAND", False)
    if end < len(words) and not (command and takes_command):
        parser.error("no command after --" if takes_command else "this command takes no -- COMMAND")
    parsed, unrecognized = parser.parse_known_args(words[:end])
    if unrecognized:
        message = f"unrecognized arguments: {' '.join(unrecognized)}"
        watches = name == DEFAULT_COMMAND and not command
        others = [other for other in COMMANDS if other != name]
        advice = hint(words, unrecognized, _options_of(parser), others) if watches else ""
        raise UsageError(message, advice or _help_of(parser))
    parsed.command = command
    return parsed


def _require_output(parsed: argparse.Namespace) -> None:
    """Raises KwatchError if the command is to write to standard output, which is closed."""
    if not hasattr(parsed, "output"):
        stdio.require_output()
    elif output_from(parsed) is None:
        stdio.require_output("give an --output file")


def _options_of(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings]


def _help_of(parser: argparse.ArgumentParser) -> str:
    return f"try `{parser.prog} --help`"


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    name = words.pop(0) if words and words[0] in COMMANDS else DEFAULT_COMMAND
    try:
        signals.end_at_once()
        stdio.guard()
        parsed = _parse(name, words)
        _require_output(parsed)
        return int(command_module(name).run(parsed))
    except KwatchError as error:
        stdio.say_error(error)
        return error.exit_code
    except ModuleNotFoundError as error:
        stdio.say(f"kwatch: {error}\n  install kwatch's dependencies: pip install kwatch")
        return ExitCode.FAILED
    except BrokenPipeError:
        return ExitCode.DONE  # the reader has closed the pipe
    except MemoryError:
        stdio.say(f"kwatch: out of memory\n  {_CURE_OF_NO_MEMORY}")
        return ExitCode.FAILED
    except signals.Interrupted as interrupted:
        state = getattr(command_module(name), "IF_INTERRUPTED", "")
        stdio.say(f"kwatch: {interrupted}{state}")
        return interrupted.exit_code
    except Exception as error:  # users see no traceback unless they ask for one
        if "KWATCH_DEBUG" in os.environ:
            raise
        if isinstance(error, OSError) and error.errno in TOO_MANY_FILES:
            stdio.say(f"kwatch: {error.strerror}\n  {CURE_OF_TOO_MANY_FILES}")
        else:
            stdio.say(f"kwatch: internal error: {error!r}\n  KWATCH_DEBUG=1 shows where")
        return ExitCode.FAILED
    finally:
        stdio.abandon()
