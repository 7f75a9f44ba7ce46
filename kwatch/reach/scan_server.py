# SPDX-License-Identifier: Apache-2.0
"""What the heap scanner answers: see kwatch.reach.scan_process."""

from __future__ import annotations

import os
import socket
from contextlib import closing

from kwatch.errors import KwatchError
from kwatch.reach.block_table import ADDRESSES, KNOWN, from_file, to_file
from kwatch.reach.holder_groups import holder_sums
from kwatch.reach.left_state import LeftState
from kwatch.reach.live_scan import LiveScan, scan_left, scan_live
from kwatch.reach.memory import TargetMemory
from kwatch.reach.pages import PageMap
from kwatch.reach.rounds import Rounds
from kwatch.reach.thread_locals import ThreadLocals
from kwatch.symbols.variables import Variables
from kwatch.system.messages import Closed, Message, receive, send

_MAX_UNWALKED = 100  # parts that are named: a message has room for some hundreds
_FAILURES = (OSError, KwatchError, LookupError, MemoryError)


class Server:
    """Answers requests until the socket is closed. Keeps the rounds of one process at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._rounds = Rounds()

    def run(self) -> None:
        while True:
            try:
                request, files = receive(self._socket)
            except Closed:
                return
            try:
                self._answer(request, files)
            except Closed:
                return
            finally:
                for file in files:
                    os.close(file)

    def _answer(self, request: Message, files: list[int]) -> None:
        """Takes the files that it uses out of the list."""
        if request["asks_who"]:
            self._answer_who(request, files)
            return
        try:
            found = self._scan(request, files)
        except _FAILURES as error:
            send(self._socket, {"error": _reason(error)})
            return
        answer = {
            "scans": self._rounds.scans,
            "is_settled": self._rounds.are_settled,
            "is_over": self._rounds.are_over,
            "seconds": found.seconds,
            "blind_threads": self._rounds.blind_threads,
            "unreadable": found.unreadable,
            "is_walked": found.is_walked,
            "unwalked": list(found.unwalked[:_MAX_UNWALKED]),
        }
        if not self._rounds.are_over:
            send(self._socket, answer)
            return
        table = to_file(found.with_leaders(self._rounds.result()))
        try:
            send(self._socket, answer, [table])
        finally:
            os.close(table)

    def _answer_who(self, request: Message, files: list[int]) -> None:
        try:
            known = from_file(files.pop(0), KNOWN)
            addresses = from_file(files.pop(0), ADDRESSES)
            found = scan_live(request["pid"], known)
            with closing(Variables(request["pid"])) as variables:
                thread_at = ThreadLocals(request["pid"]).thread_at
                sums = holder_sums(found, addresses["address"], variables, thread_at)
        except _FAILURES as error:
            send(self._socket, {"error": _reason(error)})
            return
        answer = {"blocks": sums.found.blocks, "bytes": sums.found.bytes, "roots": sums.roots}
        table = to_file(sums.blocks)
        try:
            send(self._socket, answer, [table])
        finally:
            os.close(table)

    def _scan(self, request: Message, files: list[int]) -> LiveScan:
        known = from_file(files.pop(0), KNOWN) if request["knows"] else None
        if request["is_first"]:
            self._rounds = Rounds(request["has_ended"])
        if request["has_ended"]:
            left = LeftState.from_file(files.pop(0))
            with (
                closing(TargetMemory(0, files.pop(0))) as memory,
                closing(PageMap(0, files.pop(0))) as pages,
            ):
                found = scan_left(memory, pages, left, known)
        else:
            found = scan_live(request["pid"], known, self._rounds.ask_kernel)
        self._rounds.add(found.table(), found.blind_threads)
        return found


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "there is too little memory for the scan"
    if isinstance(error, OSError):
        return f"its memory cannot be read: {error.strerror}"
    return str(error)
