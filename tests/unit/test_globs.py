# SPDX-License-Identifier: Apache-2.0
"""The automaton that the BPF programs run matches what fnmatch matches."""

from __future__ import annotations

import struct
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kwatch.errors import UsageError
from kwatch.targets import globs


def run(automaton, name):
    """As comm_matches() in bpf/lifecycle.bpf.c."""
    loops, final, *accepts = struct.unpack("258I", automaton)
    state = 1
    for byte in name.encode():
        state = ((state & accepts[byte]) << 1 | state & loops) & 0xFFFFFFFF
    return bool(state & final)


letters = st.text(alphabet="ab-x", max_size=8)
pieces = st.sampled_from(["*", "?", "a", "b", "-", "x", "[ab]", "[!a]", "[a-b]"])


@given(st.lists(pieces, min_size=1, max_size=9).map("".join), letters)
def test_automaton_is_fnmatch(glob, name):
    assert run(globs.automaton(glob), name) == fnmatchcase(name, glob)


@pytest.mark.parametrize(
    ("glob", "name", "matches"),
    [
        ("nginx", "nginx", True),
        ("nginx", "nginx2", False),
        ("php-fpm*", "php-fpm8.2", True),
        ("*", "anything", True),
        ("kworker/*", "x", False),
        ("é*", "église", True),
        ("?glise", "église", False),  # a byte
        ("??glise", "église", True),
    ],
)
def test_examples(glob, name, matches):
    assert run(globs.automaton(glob), name) is matches
    assert globs.matches((glob,), name) is matches


def test_a_glob_too_long_for_the_kernel_is_left_to_user_space():
    assert globs.automaton("a" * 40) is None


@pytest.mark.parametrize("glob", ["", "a/b", "a\0b"])
def test_globs_that_match_nothing(glob):
    with pytest.raises(UsageError):
        globs.check(glob)
