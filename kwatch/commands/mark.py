# SPDX-License-Identifier: Apache-2.0
"""Sets a mark in every running `kwatch --mark` that traces a process.

The first mark begins. Each later one makes that kwatch report the blocks that were allocated since
the mark before and are still outstanding. The command ends when the report has been written."""

from __future__ import annotations

import argparse
import socket

from kwatch.commands.target_options import pids_from
from kwatch.errors import ExitCode, KwatchError, UsageError
from kwatch.system import mark_socket, stdio
from kwatch.targets import processes
from kwatch.units import counted, format_size

SUMMARY = "set a mark in a running `kwatch --mark`"

EXAMPLES = """\
examples:
  kwatch mark --pid 1234            set a mark in the kwatch that traces process 1234

exit status: 0 a mark was set, 1 none was
"""

_ANSWER_S = 10.0  # a kwatch that reads its events says at once whether it traces a process


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p",
        "--pid",
        action="append",
        default=[],
        metavar="PID",
        help="the process that is traced",
    )


def run(arguments: argparse.Namespace) -> int:
    pids = pids_from(arguments.pid)
    if len(pids) != 1:
        raise UsageError("kwatch mark needs one process", "give one --pid PID")
    (pid,) = pids
    processes.require(pid)
    waiting, refused = [], []
    for name in mark_socket.listening():
        try:
            asked = _asked(name, pid)
        except KwatchError as error:
            refused.append(error)
            continue
        if asked is not None:
            waiting.append(asked)
    for connection, number in waiting:
        _tell(connection, number)
    for refusal in refused if waiting else ():
        stdio.say_error(refusal)
    if not waiting:
        raise _nothing(pid, refused)
    return ExitCode.DONE


def _asked(name: str, pid: int) -> tuple[socket.socket, int] | None:
    """The connection to a kwatch that has set a mark, and the number of the mark.

    None if it does not trace the process. Raises KwatchError if it does not say.
    """
    try:
        connection = mark_socket.connected(name, _ANSWER_S)
    except OSError:
        return None  # it has ended
    kwatch, user = mark_socket.peer(connection)
    if not mark_socket.is_trusted(user):
        connection.close()
        return None
    try:
        mark_socket.request(connection, pid)
        answer = mark_socket.answer(connection)
    except TimeoutError as error:
        connection.close()
        raise KwatchError(
            f"kwatch[{kwatch}] did not answer within {_ANSWER_S:g} s",
            "it may be starting or stopped: try again",
        ) from error
    if not answer:
        connection.close()
        raise KwatchError(f"kwatch[{kwatch}] ended before it could set a mark")
    if "error" in answer:
        connection.close()
        raise KwatchError(f"kwatch[{kwatch}] refused: {answer['error']}", "run kwatch mark as root")
    if not answer.get("mark"):
        connection.close()
        return None
    return connection, int(answer["mark"])


def _tell(connection: socket.socket, number: int) -> None:
    """Waits for the report, and says what is in it."""
    with connection:
        connection.settimeout(None)
        start = f"mark {number} set in kwatch[{mark_socket.peer(connection)[0]}]"
        if number == 1:
            stdio.write(f"{start}; the next one reports what is allocated from now on\n")
            return
        answer = mark_socket.answer(connection)
    if not answer:
        raise KwatchError(f"{start}, but kwatch was killed before it could report")
    blocks, processes = int(answer["blocks"]), int(answer["processes"])
    size = f" ({format_size(int(answer['bytes']))})" if blocks else ""
    where = f" in {processes} processes" if processes > 1 else ""
    be = "is" if blocks == 1 else "are"
    stdio.write(
        f"{start}: {counted(blocks, 'block')}{size} allocated since mark {number - 1} "
        f"{be} outstanding{where}\n"
    )


def _nothing(pid: int, refused: list[KwatchError]) -> KwatchError:
    """Why no mark was set."""
    if refused:
        return refused[0]
    return KwatchError(
        f"no kwatch that was started with --mark traces process {pid}",
        f"start one: kwatch --mark --pid {pid}",
    )
