# SPDX-License-Identifier: Apache-2.0
"""Processes that must not be probed, known by their files and mappings."""

from __future__ import annotations

import os

import pytest

from kwatch.probes.hazards import breakpoint_hazard, copied_code
from kwatch.procfs.mappings import parse_mapping


@pytest.mark.parametrize(
    ("path", "translator"),
    [
        ("/usr/libexec/valgrind/vgpreload_core-amd64-linux.so", "valgrind"),
        ("/usr/libexec/valgrind/callgrind-amd64-linux", "valgrind"),
        ("/usr/bin/qemu-x86_64-static", "qemu"),
        ("/usr/bin/qemu-mipsn32el", "qemu"),
        ("/usr/lib/rr/librrpreload.so", "rr"),
        ("/opt/dr/lib64/release/libdynamorio.so", "DynamoRIO"),
        ("/opt/pin/intel64/bin/pinbin", "Pin"),
        ("/tmp/frida-agent-64.so", "Frida"),
    ],
)
def test_translators_are_known_by_their_files(path, translator):
    assert breakpoint_hazard(os.getpid(), [path]).startswith(f"{translator} runs it")


@pytest.mark.parametrize(
    "name", ["qemu-system-x86_64", "qemu-img", "qemu-nbd", "cargo-linux", "libc.so.6", "rrdtool"]
)
def test_other_programs_are_not(name):
    assert breakpoint_hazard(os.getpid(), [f"/usr/bin/{name}"]) == ""


def mappings(*lines):
    return [parse_mapping(line.encode()) for line in lines]


START = "1000-2000 r--p 00000000 08:01 7 /app"
CODE = "2000-6000 r-xp 00001000 08:01 7 /app"


@pytest.mark.parametrize(
    ("others", "copied"),
    [
        ([CODE], []),
        (["2000-3000 r-xp 00001000 08:01 7 /app", "3000-6000 r-xp 00000000 00:00 0"], ["/app"]),
        ([CODE, "9000-a000 r-xp 00000000 00:00 0"], []),  # a just-in-time compiler elsewhere
        (["3000-4000 r-xp 00000000 00:00 0", "5000-6000 r--p 00001000 08:01 7 /app"], []),
        (["2000-6000 rw-p 00001000 08:01 7 /app"], []),
    ],
)
def test_a_copy_of_code_lies_among_the_mappings_of_its_file(others, copied):
    data = "6000-7000 rw-p 00005000 08:01 7 /app"
    assert copied_code(mappings(START, *others, data)) == copied
