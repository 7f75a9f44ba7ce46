# SPDX-License-Identifier: Apache-2.0
"""Calls as strace prints them: a function per call, made once from the table.

    formatter = Formatter(Abi.X86_64)
    arguments, result = formatter.text(257, registers, result, pieces)
    print(f"openat({arguments}) = {result}")

`pieces` are those of kwatch.syscalls.capture_format: 12, of which each register has one before
and one after the call, and the nested argument's chunks as the 13th; None for what was not
captured.
A call whose result is None has not returned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kwatch.syscalls import calls
from kwatch.syscalls.calls import Call
from kwatch.syscalls.capture import command_numbers
from kwatch.syscalls.capture_format import PIECES
from kwatch.syscalls.decode.expressions import Namespace, expression
from kwatch.syscalls.decode.labelled import LABELLED
from kwatch.syscalls.decode.results import MAX_ERRNO, Result, error_texts, result_show
from kwatch.syscalls.decode.style import Descriptors, Pieces, Style
from kwatch.wire.events import Abi

Format = Callable[[Sequence[int], int, Pieces], tuple[str, str]]

NO_PIECES: Pieces = (None,) * (PIECES + 1)
_UNFINISHED = "?"
_NEVER_RETURN = frozenset({"exit", "exit_group"})


class Formatter:
    """Texts of the calls of one ABI."""

    def __init__(self, abi: Abi, strings: int = 32, descriptors: Descriptors | None = None) -> None:
        """`strings` is strace's -s, `descriptors` its -y."""
        self._style = Style(abi, strings, descriptors)
        self._formats: dict[int, Format] = {}
        self._errors = error_texts(abi)

    def text(
        self, nr: int, registers: Sequence[int], result: int | None, pieces: Pieces = NO_PIECES
    ) -> tuple[str, str]:
        """What stands between the parentheses, and behind the equals sign."""
        show = self._formats.get(nr) or self._add(nr)
        if result is None:
            return show(registers, 0, pieces)[0], _UNFINISHED
        return show(registers, result, pieces)

    def _add(self, nr: int) -> Format:
        call = calls.call(self._style.abi, nr)
        made = self._unknown if call is None else self._choosing(call)
        self._formats[nr] = made
        return made

    def _unknown(self, a: Sequence[int], r: int, d: Pieces) -> tuple[str, str]:
        shown = ", ".join(f"{register & 0xFFFFFFFFFFFFFFFF:#x}" for register in a)
        return shown, self._errors[r] if -MAX_ERRNO <= r < 0 else str(r)

    def _choosing(self, call: Call) -> Format:
        """A function for the call, or for each of its variants by the command."""
        base = self._compiled(call)
        command = call.command
        if command is None:
            return base
        numbers = command_numbers(self._style.abi, call)
        rows = calls.variants(call.name)
        by_number = {numbers[row]: row for row in rows if row in numbers}
        made: dict[int, Format] = {}
        key = _key(command.kind.base, command.word)

        def choose(a: Sequence[int], r: int, d: Pieces) -> tuple[str, str]:
            number = key(a)
            show = made.get(number)
            if show is None:
                row = by_number.get(number)
                if row is None:
                    return base(a, r, d)
                variant = calls.named(self._style.abi, call.name, row)
                assert variant is not None
                show = made[number] = self._compiled(variant)
            return show(a, r, d)

        return choose

    def _compiled(self, call: Call) -> Format:
        space = Namespace()
        labels = LABELLED.get(call.name)
        if labels is not None:
            arguments = f"{{{space.name(labels(call, self._style))}(a, r, d)}}"
        else:
            arguments = self._joined(call, space)
        show = self._result_show(call)
        errors = space.name(self._errors)
        good = f"{space.name(show)}(r, a, d)" if show else "str(r)"
        if call.name in _NEVER_RETURN:
            good = "'?'"
        source = (
            f"lambda a, r, d: (f'{arguments}', {errors}[r] if -{MAX_ERRNO} <= r < 0 else {good})"
        )
        made: Format = eval(compile(source, f"<{call.name}>", "eval"), space.objects)
        return made

    def _result_show(self, call: Call) -> Result | None:
        descriptors = self._style.descriptors
        if call.result == "fd" and descriptors is not None:
            return lambda r, a, d: descriptors.result(r)
        return result_show(call.result, self._style.abi)

    def _joined(self, call: Call, space: Namespace) -> str:
        text = ""
        for argument in call.arguments:
            made = expression(call, argument, self._style, space)
            if made is None:
                continue
            if made.startswith("+"):
                text += f"{{{made[1:]}}}"
            else:
                text += (", " if text else "") + f"{{{made}}}"
        return text


def _key(base: str, word: int) -> Callable[[Sequence[int]], int]:
    """The number that chooses among variants, as the capture plan has it."""
    if base == "futex_op":
        return lambda a: a[word] & 0x7F
    if base in ("shm_command", "msg_command", "sem_command"):
        return lambda a: a[word] & 0xFFFFFEFF
    if base == "sockopt":
        return lambda a: (a[word] & 0xFFFF | a[word - 1] << 16) & 0xFFFFFFFF
    return lambda a: a[word] & 0xFFFFFFFF
