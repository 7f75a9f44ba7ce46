# SPDX-License-Identifier: Apache-2.0
"""Stories of calls, and what their descriptors refer to."""

from __future__ import annotations

import os
import struct

import pytest
from harness.descriptor_story import Source, Story

from kwatch.descriptors.changes import Changes
from kwatch.descriptors.descriptors import FOLLOWED
from kwatch.descriptors.file import AT_FDCWD
from kwatch.descriptors.live import LiveSource
from kwatch.descriptors.readings import Readings
from kwatch.descriptors.source import joined
from kwatch.model.traced_call import Moment, TracedCall
from kwatch.syscalls.decode.formatter import NO_PIECES
from kwatch.wire.events import Abi

CLOEXEC = 0o2000000
EBADF, ENOENT = 9, 2
CLONE_FILES, CLONE_THREAD = 0x400, 0x10000


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


def returned(name, *words, at, result=0, pid=None, moment=Moment.RETURNED):
    registers = [*words, *[0] * (6 - len(words))]
    pid = pid or os.getpid()
    return TracedCall(
        moment, pid, pid, b"", Abi.X86_64, 2, name, at, 5, result, registers, NO_PIECES
    )


def test_a_descriptor_that_was_opened_again_since_is_not_looked_at():
    """The test's own descriptor, as it is now, and calls that were before."""
    pid, source = os.getpid(), LiveSource(lambda pid: 0)
    with open("/dev/null") as file:
        fd = file.fileno()
        readings = Readings([(pid, fd)])
    source.use(readings, Changes([returned("open", at=150, result=fd)]))
    assert source.descriptor(pid, fd, 100) is None
    assert source.descriptor(pid, fd, 155) == "/dev/null"
    source.use(readings, Changes([returned("open", at=readings.at_ns, result=fd)]))
    assert source.descriptor(pid, fd, 100) == "/dev/null"
    assert source.descriptor(pid, fd + 1, 100) is None


@pytest.mark.parametrize(
    "change",
    [
        returned("close", 3, at=150),
        returned("close_range", 2, 9, at=150),
        returned("dup2", 7, 3, at=150, result=3),
        returned("pidfd_getfd", 8, 9, at=150, result=3),
        returned("io_uring:close", at=150, moment=Moment.IO_REQUEST),
    ],
    ids=lambda call: call.name,
)
def test_what_ends_or_replaces_a_descriptor_ends_what_is_known_of_it(change):
    changes, pid = Changes([change]), os.getpid()
    assert changes.lies_between(pid, 3, 100, 200)
    assert changes.lies_between(pid, 3, 152, 200)  # while the call is made
    assert not changes.lies_between(pid, 3, 155, 200)
    assert not changes.lies_between(pid, 3, 100, 150)
    assert not changes.lies_between(pid + 1, 3, 100, 200)


def test_an_exec_ends_what_is_known_when_it_returns():
    changes, pid = Changes([returned("execve", at=150)]), os.getpid()
    assert changes.lies_between(pid, 3, 100, 200)
    assert not changes.lies_between(pid, 3, 100, 152)


def message(*fds):
    """The chunks of a received message's header and control data."""
    control = struct.pack(f"<QII{len(fds)}i", 16 + 4 * len(fds), 1, 1, *fds)
    chunks = [bytes(56), None, control + bytes(-len(control) % 8), bytes(16), b"x"]
    return b"".join(
        struct.pack("<i", -1 if each is None else len(each)) + (each or b"") for each in chunks
    )


@pytest.mark.parametrize(("name", "result"), [("recvmsg", 1), ("recvmmsg", 1)])
def test_a_descriptor_from_a_message_is_no_longer_what_it_was(name, result):
    """It is asked for, and what is found is not told of the socket that had its number."""
    source = Source()
    story = Story(source, details=True)
    story.socket(3)
    source.found[100, 3] = "/received"
    story.call(name, 1, 8, 0, result=result, nested=message(3, 4))
    assert story.read(3) == "3</received>"
    assert story.read(4) == "4"


def test_a_call_that_began_before_its_descriptor_was_replaced_has_the_number():
    story = Story()
    story.open("/old", 3)
    story.call("close", 3)
    story.open("/new", 3)
    assert story.read(3, back=25) == "3"
    assert story.read(3) == "3</new>"


def test_a_request_of_io_uring_that_closes_ends_what_is_known():
    story = Story(Source({(100, 3): "/found"}))
    story.open("/known", 3)
    story.request("io_uring:close")
    assert story.read(3) == "3</found>"


def test_a_table_that_processes_share_is_not_asked_for():
    story = Story(Source({(100, 3): "/other"}))
    story.call("clone", CLONE_FILES, result=200)
    assert story.read(3) == "3"


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
