# SPDX-License-Identifier: Apache-2.0
"""Stories of calls, and what their descriptors refer to."""

from __future__ import annotations

import os
import struct

import pytest

from kwatch.descriptors import socket_names
from kwatch.descriptors.descriptors import FOLLOWED, Descriptors, Open
from kwatch.descriptors.file import AT_FDCWD
from kwatch.descriptors.live import LiveSource
from kwatch.descriptors.source import Endpoints, NoSource, joined
from kwatch.model.traced_call import Moment, TracedCall
from kwatch.syscalls import names
from kwatch.syscalls.decode.formatter import NO_PIECES, Formatter
from kwatch.wire.events import Abi

CLOEXEC = 0o2000000
EBADF, ENOENT = 9, 2
CLONE_FILES, CLONE_THREAD = 0x400, 0x10000


class Source(NoSource):
    """Knows what the test says of (pid, descriptor), of inodes and of parents."""

    def __init__(self, found=(), sockets=(), parents=()):
        self.found, self.sockets, self.parents = dict(found), dict(sockets), dict(parents)
        self.asked = []

    def descriptor(self, pid, fd, at_ns):
        self.asked.append((pid, fd))
        return self.found.get((pid, fd))

    def endpoints(self, inode):
        return self.sockets.get(inode)

    def protocol(self, pid, fd):
        return "TCP"

    def device(self, pid, path):
        return {"/dev/null": "char 1:3"}.get(path)

    def parent(self, pid):
        return self.parents.get(pid)


class Story:
    """Each call is a line, as `kwatch trace -y` shows it."""

    def __init__(self, source=None, details=False):
        self.descriptors = Descriptors(source or Source(), details)
        self._formatter = Formatter(Abi.X86_64, descriptors=self.descriptors)
        opened = {0: "/dev/null", 1: "pipe:[11]", AT_FDCWD: "/home"}
        self.descriptors.seed(100, {fd: Open(text, True) for fd, text in opened.items()})
        self._now = 0

    def call(self, name, *words, result=0, pid=100, moment=Moment.RETURNED, **pieces):
        """`in1=`, `out1=`: what a register points to, before and after."""
        known = list(NO_PIECES)
        for place, data in pieces.items():
            known[int(place[-1]) + 6 * place.startswith("out")] = data
        self._now += 10
        nr = names.number(Abi.X86_64, name)
        registers = [*(word & (1 << 64) - 1 for word in words), *[0] * (6 - len(words))]
        call = TracedCall(
            moment, pid, pid, b"x", Abi.X86_64, nr, name, self._now, 5, result, registers, known
        )
        for each in self.descriptors.follow([call]):
            arguments, end = self._formatter.text(each.nr, registers, result, known)
        return f"{name}({arguments}) = {end}"

    def open(self, path, fd, flags=0, directory=AT_FDCWD, **more):
        data = path.encode(errors="surrogateescape") + b"\0"
        return self.call("openat", directory, 8, flags, result=fd, in1=data, **more)

    def read(self, fd, **more):
        return self.call("read", fd, 0, 0, **more).partition(", NULL")[0].removeprefix("read(")

    def socket(self, fd, family=2, kind=1):
        return self.call("socket", family, kind, 0, result=fd)


def inet(port, host=b"\x7f\0\0\1"):
    return struct.pack("<H", 2) + struct.pack(">H", port) + host + bytes(8)


def test_an_open_file_has_its_path_until_it_is_closed():
    story = Story()
    assert story.open("/etc/passwd", 3) == (
        'openat(AT_FDCWD</home>, "/etc/passwd", O_RDONLY) = 3</etc/passwd>'
    )
    assert story.read(3) == "3</etc/passwd>"
    assert story.call("close", 3) == "close(3</etc/passwd>) = 0"
    assert story.call("close", 3, result=-EBADF).startswith("close(3) = -1 EBADF")
    assert story.open("/etc/hosts", 3).endswith("3</etc/hosts>")


def test_what_the_calls_say_wins_over_what_is_found_now():
    story = Story(Source({(100, 3): "/now"}))
    story.open("/then", 3)
    assert story.read(3) == "3</then>"
    story.call("close", 3, result=-5)  # EIO, but it is closed
    assert story.read(3, result=-EBADF) == "3"


def test_a_call_that_fails_opens_nothing():
    story = Story()
    story.open("/etc/passwd", -ENOENT)
    assert story.read(5) == "5"


def test_paths_are_relative_to_the_directory_of_the_process_or_of_a_descriptor():
    story = Story()
    assert story.open("x/../y", 3).endswith("3</home/y>")
    story.open("/usr", 4)
    assert story.open("lib/./z", 5, directory=4) == (
        'openat(4</usr>, "lib/./z", O_RDONLY) = 5</usr/lib/z>'
    )
    assert story.call("chdir", 8, in0=b"sub\0") == 'chdir("sub") = 0'
    assert story.open("..", 6).startswith("openat(AT_FDCWD</home/sub>")
    assert story.read(6) == "6</home>"
    story.call("fchdir", 4)
    assert story.open("a", 7).endswith("7</usr/a>")


def test_a_path_that_was_not_captured_is_asked_for():
    story = Story(Source({(100, 3): "/asked"}))
    assert story.call("openat", AT_FDCWD, 8, 0, result=3).endswith("= 3</asked>")
    assert story.call("openat", AT_FDCWD, 8, 0, result=4).endswith("= 4")


def test_copies_refer_to_the_same_and_the_target_is_shown_as_it_was():
    story = Story()
    story.open("/a", 3)
    story.open("/b", 4)
    assert story.call("dup2", 3, 9, result=9) == "dup2(3</a>, 9) = 9</a>"
    assert story.call("dup2", 3, 4, result=4) == "dup2(3</a>, 4</b>) = 4</a>"
    assert story.call("dup2", 3, 3, result=3) == "dup2(3</a>, 3</a>) = 3</a>"
    assert story.call("dup", 3, result=5) == "dup(3</a>) = 5</a>"
    assert (
        story.call("fcntl", 3, 1030, 10, result=10) == "fcntl(3</a>, F_DUPFD_CLOEXEC, 10) = 10</a>"
    )
    story.call("close", 3)
    assert story.read(4) == "4</a>"


def test_an_exec_closes_what_has_the_flag():
    story = Story()
    story.open("/kept", 3)
    story.open("/closed", 4, CLOEXEC)
    story.open("/unset", 5, CLOEXEC)
    story.call("fcntl", 5, 2, 0)  # F_SETFD
    story.open("/set", 6)
    story.call("ioctl", 6, 0x5451)  # FIOCLEX
    story.call("dup3", 3, 7, CLOEXEC, result=7)
    story.call("dup", 4, result=8)
    story.call("execve", 8, 8, 8, in0=b"/bin/x\0")
    assert [story.read(fd) for fd in range(3, 9)] == [
        "3</kept>",
        "4",
        "5</unset>",
        "6",
        "7",
        "8</closed>",
    ]
    assert story.open("y", 4).endswith("4</home/y>")


def test_an_exec_that_fails_closes_nothing():
    story = Story()
    story.open("/x", 3, CLOEXEC)
    story.call("execve", 8, 8, 8, result=-ENOENT)
    assert story.read(3) == "3</x>"


def test_a_range_is_closed_or_marked():
    story = Story()
    for fd in (3, 4, 5, 6):
        story.open(f"/{fd}", fd)
    assert story.call("close_range", 4, 5, 0) == "close_range(4, 5, 0) = 0"
    assert [story.read(fd) for fd in (3, 4, 5, 6)] == ["3</3>", "4", "5", "6</6>"]
    story.call("close_range", 6, 0xFFFFFFFF, 4)  # CLOSE_RANGE_CLOEXEC
    assert story.read(6) == "6</6>"
    story.call("execve", 8, 8, 8)
    assert [story.read(fd) for fd in (3, 6)] == ["3</3>", "6"]


def test_a_child_has_copies():
    story = Story()
    story.open("/a", 3)
    story.call("clone", 17, result=200)
    story.call("close", 3)
    assert story.read(3, pid=200) == "3</a>"
    story.open("/b", 4, pid=200)
    assert story.read(4) == "4"
    assert story.open("x", 5, pid=200).endswith("5</home/x>")


def test_a_child_that_shares_descriptors():
    story = Story()
    story.call("clone", CLONE_FILES, result=200)
    story.open("/a", 3, pid=200)
    assert story.read(3) == "3</a>"
    story.call("unshare", CLONE_FILES, pid=200)
    story.call("close", 3, pid=200)
    assert story.read(3) == "3</a>"
    assert story.read(3, pid=200) == "3"


def test_clone3_has_its_flags_in_memory():
    story = Story()
    story.call("clone3", 8, 88, result=200, in0=struct.pack("<Q80x", CLONE_FILES))
    story.open("/a", 3, pid=200)
    assert story.read(3) == "3</a>"


def test_a_thread_is_no_child():
    story = Story()
    story.open("/a", 3)
    story.call("clone", CLONE_FILES | CLONE_THREAD, result=101)
    story.call("close", 3)
    assert story.read(3) == "3"


def test_a_child_whose_calls_come_before_the_return_of_the_fork():
    """vfork returns after the child's exec."""
    story = Story(Source(parents={200: 100}))
    story.open("/a", 3, CLOEXEC)
    assert story.call("dup2", 3, 1, result=1, pid=200) == "dup2(3</a>, 1<pipe:[11]>) = 1</a>"
    story.call("execve", 8, 8, 8, pid=200)
    story.call("vfork", result=200)
    assert story.read(1, pid=200) == "1</a>"
    assert story.read(3, pid=200) == "3"
    assert story.read(1) == "1<pipe:[11]>"


def test_a_pid_that_is_used_again():
    story = Story()
    story.open("/a", 3)
    story.call("fork", result=200)
    story.call("exit_group", pid=200, moment=Moment.ENDED)
    story.call("close", 3)
    story.call("fork", result=200)
    assert story.read(3, pid=200) == "3"


def test_removed_and_renamed_files():
    story = Story()
    story.open("/tmp/a", 3)
    story.call("rename", 8, 8, in0=b"/tmp/a\0", in1=b"/tmp/b\0")
    assert story.read(3) == "3</tmp/b>"
    story.call("unlink", 8, in0=b"/tmp/b\0", result=-ENOENT)
    assert story.read(3) == "3</tmp/b>"
    story.call("unlink", 8, in0=b"/tmp/b\0")
    assert story.read(3) == "3</tmp/b>(deleted)"
    story.open("/tmp/b", 4)
    assert (story.read(3), story.read(4)) == ("3</tmp/b>(deleted)", "4</tmp/b>")


def test_a_renamed_directory_and_what_it_replaces():
    story = Story()
    story.open("/d", 3)
    story.open("/d/x", 4)
    story.open("/dx", 5)
    story.open("/e", 6)
    story.call("renameat", AT_FDCWD, 8, AT_FDCWD, 8, in1=b"/d\0", in3=b"/e\0")
    assert [story.read(fd) for fd in (3, 4, 5, 6)] == [
        "3</e>",
        "4</e/x>",
        "5</dx>",
        "6</e>(deleted)",
    ]


def test_files_that_change_places():
    story = Story()
    story.open("/d", 3)
    story.open("/d/x", 4)
    story.open("/e", 5)
    paths = {"in1": b"/d\0", "in3": b"/e\0"}
    story.call("renameat2", AT_FDCWD, 8, AT_FDCWD, 8, 2, **paths)
    assert [story.read(fd) for fd in (3, 4, 5)] == ["3</e>", "4</e/x>", "5</d>"]


def test_a_path_is_escaped():
    story = Story()
    assert story.open("/a<b>\n\udcff", 3).endswith(r"3</a\74b\76\n\377>")


def test_descriptors_without_paths():
    story = Story()
    assert story.call("epoll_create1", 0, result=3).endswith("3<anon_inode:[eventpoll]>")
    assert story.call("eventfd2", 0, 0, result=4).endswith("4<anon_inode:[eventfd]>")
    assert story.call("memfd_create", 8, 0, result=5, in0=b"m\0") == (
        'memfd_create("m", 0) = 5</memfd:m>(deleted)'
    )
    assert story.call("pidfd_open", 7, 0, result=6).endswith("6<anon_inode:[pidfd]>")


def test_both_ends_of_a_pipe_have_one_number_which_is_asked_for():
    story = Story(Source({(100, 4): "pipe:[77]"}))
    ends = struct.pack("<ii", 3, 4)
    assert story.call("pipe2", 8, 0, out0=ends) == "pipe2([3, 4<pipe:[77]>], 0) = 0"
    assert story.read(3) == "3<pipe:[77]>"


def test_another_kind_of_file_that_is_found_now_is_not_the_pipe():
    story = Story(Source({(100, 3): "/later", (100, 4): "socket:[1]"}))
    assert story.call("pipe2", 8, 0, out0=struct.pack("<ii", 3, 4)) == "pipe2([3, 4], 0) = 0"


def test_a_descriptor_that_was_open_before_is_asked_for_once():
    source = Source({(300, 5): "/old"})
    story = Story(source)
    assert [story.read(5, pid=300), story.read(5, pid=300)] == ["5</old>"] * 2
    assert source.asked.count((300, 5)) == 1


def test_a_descriptor_of_a_call_that_is_not_followed_is_asked_for():
    source = Source({(100, 3): "anon_inode:bpf-map"})
    story = Story(source)
    story.open("/a", 3)
    story.call("close", 3)
    assert "io_uring_setup" not in FOLLOWED
    assert story.call("io_uring_setup", 1, 0, result=3).endswith("3<anon_inode:bpf-map>")
    assert story.read(3) == "3<anon_inode:bpf-map>"


def test_details_of_devices_and_pidfds():
    story = Story(details=True)
    assert story.read(0) == "0</dev/null<char 1:3>>"
    assert story.open("/dev/other", 3).endswith("3</dev/other>")
    assert story.call("pidfd_open", 7, 0, result=6).endswith("6<pid:7>")


def test_a_socket_has_its_inode_until_it_has_an_address():
    story = Story(Source({(100, 3): "socket:[77]"}), details=True)
    assert story.socket(3).endswith("3<TCP:[77]>")
    assert story.call("bind", 3, 8, 16, in1=inet(80)).startswith("bind(3<TCP:[77]>, ")
    assert story.call("listen", 3, 1) == "listen(3<TCP:[127.0.0.1:80]>, 1) = 0"


def test_addresses_that_no_call_has_are_asked_for():
    source = Source({(100, 3): "socket:[77]"})
    story = Story(source, details=True)
    story.socket(3)
    source.sockets[77] = Endpoints("TCP", "127.0.0.1:5123", "127.0.0.1:80")
    assert story.call("connect", 3, 8, 16, in1=inet(80)).startswith("connect(3<TCP:[77]>, ")
    assert story.read(3) == "3<TCP:[127.0.0.1:5123->127.0.0.1:80]>"
    source.sockets.clear()
    assert story.read(3) == "3<TCP:[127.0.0.1:5123->127.0.0.1:80]>"


def test_an_accepted_socket_of_which_nothing_can_be_asked():
    story = Story(details=True)
    story.socket(3)
    story.call("bind", 3, 8, 16, in1=inet(80))
    line = story.call("accept", 3, 8, 8, result=4, out1=inet(5123))
    assert line.endswith("4<TCP:[127.0.0.1:80->127.0.0.1:5123]>")


def test_a_socket_of_which_nothing_is_known_is_a_number():
    story = Story(details=True)
    assert story.socket(3).endswith(" = 3")
    story.call("connect", 3, 8, 16, in1=inet(80))
    assert story.read(3) == "3"


def test_the_ends_of_a_pair_name_each_other():
    source = Source({(100, 3): "socket:[5]", (100, 4): "socket:[6]"})
    story = Story(source, details=True)
    line = story.call("socketpair", 1, 1, 0, 8, out3=struct.pack("<ii", 3, 4))
    assert line.endswith("[3<UNIX-STREAM:[5->6]>, 4<UNIX-STREAM:[6->5]>]) = 0")


def test_a_unix_socket_with_a_path():
    story = Story(Source({(100, 3): "socket:[5]"}), details=True)
    story.socket(3, family=1)
    story.call("bind", 3, 8, 9, in1=b"\1\0/run/x\0")
    assert story.read(3) == '3<UNIX-STREAM:[5,"/run/x"]>'


def test_a_socket_that_was_open_before():
    source = Source({(300, 3): "socket:[5]", (300, 4): "socket:[6]"})
    source.sockets[5] = Endpoints("UDP", "127.0.0.1:9")
    story = Story(source, details=True)
    assert story.read(3, pid=300) == "3<UDP:[127.0.0.1:9]>"
    assert story.read(4, pid=300) == "4<TCP:[6]>"
    assert Story(source).read(3, pid=300) == "3<socket:[5]>"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((2, 1 | CLOEXEC, 0), "TCP"),
        ((10, 2, 17), "UDPv6"),
        ((2, 3, 1), "RAW"),
        ((1, 5, 0), "UNIX"),
        ((16, 3, 0), "NETLINK"),
        ((17, 3, 0), ""),
    ],
)
def test_protocols(arguments, expected):
    assert socket_names.protocol(*arguments) == expected


def test_addresses():
    assert socket_names.address(inet(80)) == "127.0.0.1:80"
    six = struct.pack("<H", 10) + struct.pack(">HI", 80, 0) + bytes(15) + b"\1" + bytes(4)
    assert socket_names.address(six) == "[::1]:80"
    assert socket_names.address(inet(0)) == ""
    assert socket_names.address(b"\2\0") == ""
    assert socket_names.unix_path(b"\1\0\0abc") == '@"abc"'


@pytest.mark.parametrize(
    ("directory", "path", "expected"),
    [
        ("/a", "b/../c", "/a/c"),
        ("", "/../x//y/.", "/x/y"),
        ("", "x", None),
        ("/", "x", "/x"),
    ],
)
def test_joined_paths(directory, path, expected):
    assert joined(directory, path) == expected


def test_a_descriptor_that_was_opened_again_since_is_not_looked_at():
    """The test's own descriptor, as it is now, and calls that were before."""
    pid, source = os.getpid(), LiveSource(lambda pid: 0)
    with open("/dev/null") as file:
        fd = file.fileno()
        assert source.descriptor(pid, fd, 100) == "/dev/null"
        again = TracedCall(
            Moment.RETURNED, pid, pid, b"", Abi.X86_64, 2, "open", 150, 5, fd, [0] * 6, NO_PIECES
        )
        source.foresee([again])
        assert source.descriptor(pid, fd, 100) is None
        assert source.descriptor(pid, fd, 155) == "/dev/null"
        source.foresee([])
        assert source.descriptor(pid, fd, 100) == "/dev/null"


def test_links_are_resolved_and_what_is_gone_has_the_path_of_its_directory(tmp_path):
    pid, source = os.getpid(), LiveSource(lambda pid: 0)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").touch()
    (tmp_path / "link").symlink_to("below")
    real = os.path.realpath(tmp_path)
    assert source.resolved(pid, str(tmp_path), "link/file", True) == f"{real}/below/file"
    assert source.resolved(pid, str(tmp_path), "link/gone", True) == f"{real}/below/gone"
    assert source.resolved(pid, str(tmp_path), "link", False) == f"{real}/link"
    assert source.resolved(pid, "/", "proc/self/maps", True) == f"/proc/{pid}/maps"
    assert source.resolved(2**30, str(tmp_path), "link/file", True) == f"{real}/below/file"
