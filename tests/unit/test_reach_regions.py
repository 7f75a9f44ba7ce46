# SPDX-License-Identifier: Apache-2.0
"""Mappings from the lines of /proc/PID/maps, and which of them may hold pointers."""

from __future__ import annotations

import os

import pytest

from kwatch.reach.regions import Region, parse_regions, read_regions


def region(line):
    (found,) = parse_regions([line + b"\n"])
    return found


def test_a_line():
    found = region(b"7f00a000-7f00c000 rw-p 00002000 08:01 1234                       /lib/a b.so")
    assert found == Region(0x7F00A000, 0x7F00C000, "rw-p", 1234, "/lib/a b.so")
    assert found.size == 0x2000
    assert found.is_writable
    assert not found.is_shared


@pytest.mark.parametrize(
    ("written", "path"),
    [
        (b"", ""),
        (b"[heap]", "[heap]"),
        (b"[anon: a b]", "[anon: a b]"),
        (b"/a\\012b (deleted)", "/a\nb (deleted)"),
        (b"/\xff\\040", "/\udcff\\040"),
    ],
)
def test_paths(written, path):
    assert region(b"1000-2000 r--p 00000000 00:00 0 " + written).path == path


def test_a_line_that_is_none():
    with pytest.raises(ValueError, match="not a line"):
        list(parse_regions([b"1000-2000 r--p\n"]))


@pytest.mark.parametrize(
    ("permissions", "inode", "path", "expected"),
    [
        ("rw-p", 0, "", True),
        ("rw-p", 0, "[stack]", True),
        ("rw-p", 7, "/lib/libc.so.6", True),
        ("rwxp", 0, "", True),
        ("r--p", 7, "/lib/libc.so.6", True),  # RELRO
        ("---p", 0, "", True),  # written, then protected
        ("r-xp", 7, "/lib/libc.so.6", False),
        ("rw-s", 7, "/dev/shm/pool", True),
        ("rw-s", 7, "/memfd:pool (deleted)", True),
        ("rw-s", 7, "/dev/zero (deleted)", True),
        ("r--s", 7, "/usr/share/cache", False),
        ("rw-s", 7, "/dev/dri/card0", False),
        ("rw-p", 7, "/dev/mem", False),
        ("r--p", 0, "[vvar]", False),
        ("r--p", 0, "[vvar_vclock]", False),
        ("r-xp", 0, "[vdso]", False),
        ("--xp", 0, "[vsyscall]", False),
        ("--xp", 0, "[uprobes]", False),
    ],
)
def test_which_may_hold_pointers(permissions, inode, path, expected):
    assert Region(0, 4096, permissions, inode, path).may_hold_pointers == expected


def test_own_mappings():
    regions = read_regions(os.getpid())
    assert [each.start for each in regions] == sorted(each.start for each in regions)
    here = id(regions)
    assert sum(each.start <= here < each.end and each.may_hold_pointers for each in regions) == 1
    assert {"[stack]", "[heap]"} <= {each.path for each in regions}


def test_a_process_that_has_ended_has_none():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert read_regions(child) == []
    os.waitpid(child, 0)
    assert read_regions(child) == []
