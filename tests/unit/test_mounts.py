# SPDX-License-Identifier: Apache-2.0
"""Which files may hang is told from the mounts of their process, and never by touching them."""

from __future__ import annotations

import os

import pytest

from kwatch.procfs import mounts
from kwatch.procfs.mounts import Mount

LINES = rb"""22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:20 / /tmp rw - tmpfs tmpfs rw
24 22 0:41 / /home/a\040b rw,nosuid shared:3 master:1 - fuse.sshfs host: rw,user_id=0,allow_other
25 22 0:42 / /data rw - nfs4 server:/data rw
26 22 0:43 / /merged rw - overlay overlay rw,lowerdir=/l
27 22 7:0 / /snap ro - squashfs /dev/loop0 ro
"""


@pytest.fixture(autouse=True)
def known(monkeypatch):
    parsed = [mounts._parsed(line) for line in LINES.splitlines()]
    monkeypatch.setattr(mounts, "mounts_of", lambda pid: parsed)
    monkeypatch.setattr(mounts, "_kinds", {})
    return parsed


def test_lines_of_mountinfo(known):
    assert known[0] == Mount(os.makedev(254, 1), "/", "ext4")
    assert known[2] == Mount(os.makedev(0, 41), "/home/a b", "fuse.sshfs")


@pytest.mark.parametrize(
    ("major", "minor", "path", "hangs"),
    [
        (254, 1, "/usr/bin/env", False),
        (0, 20, "/tmp/program", False),
        (0, 41, "/home/a b/program", True),
        (0, 42, "/data/program", True),
        (0, 43, "/merged/program", False),
        (7, 0, "/snap/program", False),
        (0, 99, "/elsewhere", True),  # no mount of the process: nobody knows
        (0, 1, "/memfd:jit", False),
        (0, 1, "/SYSV00000000", False),
    ],
)
def test_by_device(major, minor, path, hangs):
    assert mounts.may_hang(os.getpid(), os.makedev(major, minor), path) is hangs


def test_an_overlay_of_another_user_namespace(monkeypatch):
    """Its layers may be file systems that the user serves."""
    monkeypatch.setattr(mounts, "_is_in_own_user_namespace", lambda pid: False)
    assert mounts.may_hang(os.getpid(), os.makedev(0, 43), "/merged/program")


@pytest.mark.parametrize(
    ("path", "hangs"), [("/tmp/perf-1.map", False), ("/data/x", True), ("/database", False)]
)
def test_by_path(path, hangs):
    assert mounts.may_path_hang(os.getpid(), path) is hangs
