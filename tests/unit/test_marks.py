# SPDX-License-Identifier: Apache-2.0
"""Marks keep their own times, wait for what they need, and answer the one who set them."""

from __future__ import annotations

import os
import pty
import signal
import socket
import threading
from contextlib import closing
from types import SimpleNamespace

import pytest

from kwatch.commands.watch.mark_requests import MarkRequests, Request
from kwatch.commands.watch.marks import Marks
from kwatch.errors import KwatchError
from kwatch.model.mark import Mark, SinceMark
from kwatch.system import mark_socket, terminal_lines

PID = 7


class Asked(Request):
    """Keeps its answers."""

    def __init__(self, pid=0):
        super().__init__(pid)
        self.said = []

    def answer(self, **said):
        self.said.append(said)

    def end(self):
        self.said.append("end")


class World:
    """A kwatch that traces PID. `written`: the marks that are reported."""

    def __init__(self, monkeypatch):
        self.now = 0
        self.requests, self.written, self.said, self.begun = [], [], [], []
        self.stream = SimpleNamespace(delivered_ns=0)
        process = SimpleNamespace(heap=object())
        table = type("Table", (dict,), {"__iter__": lambda self: iter(self.values())})
        session = SimpleNamespace(
            process_table=table({PID: process}),
            options=SimpleNamespace(system_wide=False),
            losses=SimpleNamespace(refresh=lambda: None),
            has_unread_stacks=False,
        )
        self.scans = SimpleNamespace(
            are_done=True, next_step=0.0, begin=self.begin, drop=lambda reason: None
        )
        reporter = SimpleNamespace(has_blocks_since=lambda process, mark: True, marked=self.marked)
        monkeypatch.setattr("kwatch.commands.watch.marks.now_ns", lambda: self.now)
        live = SimpleNamespace(
            session=session,
            options=session.options,
            tracer=SimpleNamespace(stream=self.stream),
            watch=lambda fd: None,
        )
        requests = SimpleNamespace(read=self.read, fileno=lambda: 0, has_key=False)
        writer = SimpleNamespace(add=lambda snapshots, written: written())
        self.marks = Marks(live, self.scans, reporter, requests, writer, self.said.append)

    def read(self):
        requests, self.requests = self.requests, []
        return requests

    def begin(self, processes, may_skip):
        self.begun.append(len(list(processes)))
        self.scans.are_done = False

    def marked(self, process, mark):
        self.written.append(mark)
        return SimpleNamespace(snapshot=SimpleNamespace(since_mark=SinceMark(1.0, 3, 100)))

    def request(self, now, pid=0):
        """A request that arrives at a moment, when earlier events have been delivered."""
        self.now = self.stream.delivered_ns = now
        asked = Asked(pid)
        self.requests = [asked]
        self.marks.step(may_scan=True)
        return asked


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def test_the_first_mark_only_begins(world):
    assert world.request(100).said == [{"mark": 1}, "end"]
    assert (world.said, world.written) == (["kwatch: mark 1 set"], [])


def test_a_report_comes_when_the_heap_is_scanned(world):
    world.request(100)
    asked = world.request(200, PID)
    assert (asked.said, world.begun, world.written) == ([{"mark": 2}], [1], [])
    world.scans.are_done = True
    world.marks.step(may_scan=True)
    assert world.written == [Mark(2, 200, 100)]
    assert asked.said[1:] == [{"blocks": 3, "bytes": 100, "processes": 1}, "end"]


def test_it_waits_for_its_events_and_for_the_scans_of_others(world):
    world.request(100)
    world.now, world.requests = 200, [Asked()]
    world.marks.step(may_scan=True)  # the events until 200 have not been delivered
    assert world.begun == []
    world.stream.delivered_ns = 200
    world.marks.step(may_scan=False)
    assert (world.begun, world.marks.are_scanning) == ([], False)
    world.marks.step(may_scan=True)
    assert (world.begun, world.marks.are_scanning) == ([1], True)


def test_a_mark_meanwhile_keeps_its_time_and_the_end_writes_all(world):
    for now in (100, 200, 300):
        world.request(now)
    world.now = 400
    world.marks.finish()
    assert world.written == [Mark(2, 200, 100), Mark(3, 300, 200)]


def test_who_names_another_process_sets_nothing(world):
    assert world.request(100, PID + 1).said == [{"mark": 0}, "end"]
    assert world.said == []


@pytest.fixture
def requests():
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with closing(MarkRequests(has_command=True)) as made:
        yield made
        signal.sigtimedwait([signal.SIGUSR1], 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def connected():
    (name,) = (one for one in mark_socket.listening() if f"-{os.getpid()}-" in one)
    return mark_socket.connected(name, 5)


def test_the_signal_asks_once(requests):
    for _ in range(2):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
    assert [request.pid for request in requests.read()] == [0]
    assert list(requests.read()) == []


def test_a_client_asks_and_is_answered(requests):
    with connected() as client:
        assert mark_socket.peer(client) == (os.getpid(), os.geteuid())
        mark_socket.request(client, PID)
        assert list(requests.read()) == []  # it accepts first
        (request,) = requests.read()
        assert request.pid == PID
        request.answer(mark=2)
        request.end()
        assert mark_socket.answer(client) == {"mark": 2}
        assert mark_socket.answer(client) == {}


def test_another_user_sets_no_mark(requests, monkeypatch):
    monkeypatch.setattr(mark_socket, "is_trusted", lambda user: False)
    with connected() as client:
        mark_socket.request(client, PID)
        assert list(requests.read()) + list(requests.read()) == []
        assert mark_socket.answer(client) == {"error": "it takes marks only from its own user"}


@pytest.mark.parametrize("text", [b"", b"no pid", b"-1", b"9" * 4096], ids=len)
def test_what_is_no_request_is_ignored(requests, text):
    with connected() as client:
        client.send(text) if text else client.shutdown(socket.SHUT_WR)
        assert list(requests.read()) + list(requests.read()) == []


def test_only_root_and_the_same_user_are_trusted():
    assert [mark_socket.is_trusted(user) for user in (0, os.geteuid(), 65_533)] == [
        *(True, True, False)
    ]


@pytest.fixture
def typed(monkeypatch):
    """The end of a terminal whose lines TerminalLines reads."""
    ours, theirs = pty.openpty()
    monkeypatch.setattr(terminal_lines, "_STDIN", theirs)
    monkeypatch.setattr(terminal_lines, "_STDOUT", theirs)
    yield ours
    os.close(ours)
    os.close(theirs)


def test_only_whole_lines_are_read(typed):
    with closing(terminal_lines.TerminalLines()) as lines:
        os.write(typed, b"m")
        assert lines.read() == []
        os.write(typed, b"\n")
        assert lines.read() == [b"m"]


def test_beside_a_pager_no_line_is_read(typed, monkeypatch):
    read, write = os.pipe()
    monkeypatch.setattr(terminal_lines, "_STDOUT", write)
    with pytest.raises(OSError, match="ioctl"):
        terminal_lines.TerminalLines()
    os.close(read)
    os.close(write)


def test_without_a_socket_kwatch_says_what_to_do(monkeypatch):
    def refuse():
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(mark_socket, "listener", refuse)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(KwatchError, match="cannot listen for marks: Permission denied"):
        MarkRequests(has_command=True)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
