# SPDX-License-Identifier: Apache-2.0
"""What descriptors of sockets refer to."""

from __future__ import annotations

import struct

import pytest
from harness.descriptor_story import Source, Story

from kwatch.descriptors import socket_names
from kwatch.descriptors.source import Endpoints

CLOEXEC = 0o2000000


def inet(port, host=b"\x7f\0\0\1"):
    return struct.pack("<H", 2) + struct.pack(">H", port) + host + bytes(8)


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
