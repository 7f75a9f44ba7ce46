# SPDX-License-Identifier: Apache-2.0
"""Compares kwatch's stacks of tests/programs/stacks.c with those of glibc's backtrace()."""

from __future__ import annotations

#: Options that list every stack.
EVERY_STACK = ("--top", "100", "--older", "0")
SIZE = 5000
SITES = (
    "plain",
    "alloca",
    "realigned",
    "signal",
    "deep",
    "too_deep",
    "thread",
    "sort",
    "library",
    "alternate",
)
MAX_FRAMES = 256


def expected(answers):
    """The return addresses that the program printed, by the site's name."""
    sites = {}
    for key, address in answers.items():
        if key[0].isdigit():
            site, index = map(int, key.split("_"))
            sites.setdefault(SITES[site], {})[index] = address
    return {site: [found[i] for i in sorted(found)] for site, found in sites.items()}


def seen(final):
    """The stack of each site's block."""
    return {
        SITES[stack["sizes"][0] - SIZE]: stack
        for stack in final["heap"]["stacks"]
        if 0 <= stack["sizes"][0] - SIZE < len(SITES)
    }


def addresses(stack):
    return [int(frame["address"], 16) for frame in stack["frames"] if not frame["inlined"]]


def assert_exact(final, answers, sites=SITES):
    """Every stack equals backtrace()'s.

    A stack from before the tables of a new image were there is finished from a copy of the stack's
    memory. On the alternate stack that copy ends early, and the stack is marked `unreadable`.
    """
    known, found = expected(answers), seen(final)
    assert set(sites) <= set(known)
    for site in sites:
        stack = found[site]
        if site == "too_deep":
            assert stack["ending"] == "too_deep"
            assert addresses(stack)[1:] == known[site][: MAX_FRAMES - 1]
        elif site == "alternate" and stack["ending"] == "unreadable":
            callers = addresses(stack)[1:]
            assert final["heap"]["endings"].get("finished")
            assert len(callers) > 2
            assert callers == known[site][: len(callers)]
        else:
            assert addresses(stack)[1:] == known[site], site
            assert stack["ending"] in ("complete", "finished"), site
    assert final["lost"] == {"events": 0, "by_cause": {}}
