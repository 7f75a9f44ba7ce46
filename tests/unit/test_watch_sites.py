# SPDX-License-Identifier: Apache-2.0
"""What users write as a site, and what a watchpoint then covers."""

from __future__ import annotations

import pytest

from kwatch.errors import UsageError
from kwatch.kernel.breakpoints import CODE_LENGTH, Access, Breakpoint
from kwatch.watchpoints.fixed import breakpoint_at
from kwatch.watchpoints.site import Part, Site, parse_site


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0x7f00:4", Site("0x7f00:4", address=0x7F00, length=4)),
        ("0x7f00+8", Site("0x7f00+8", address=0x7F00, offset=8)),
        ("total", Site("total", "total")),
        ("table+0x18:8", Site("table+0x18:8", "table", offset=24, length=8)),
        ("ns::count:4", Site("ns::count:4", "ns::count", length=4)),
        ("count.0:4", Site("count.0:4", "count.0", length=4)),
        ("freed:f+8:4", Site("freed:f+8:4", "f", offset=8, length=4, part=Part.FREED)),
        ("end:list.c:42", Site("end:list.c:42", "list.c", line=42, part=Part.END)),
        ("end:8", Site("end:8", "end", length=8)),
        ("list.c:42", Site("list.c:42", "list.c", line=42)),
        ("src/list.cpp:42+16:2", Site("src/list.cpp:42+16:2", "src/list.cpp", None, 42, 16, 2)),
    ],
)
def test_sites(text, expected):
    assert parse_site(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "12:4",
        "0xzz",
        "total:3",
        "total:16",
        "list.c:42:3",
        "freed:0x1000",
        "end:f+8",
        "0x1ffffffffffffffff",
    ],
)
def test_what_is_none(text):
    with pytest.raises(UsageError):
        parse_site(text)


@pytest.mark.parametrize(
    ("site", "start", "size", "expected"),
    [
        ("v", 0x1000, 8, (0x1000, 8)),
        ("v", 0x1000, 400, (0x1000, 8)),
        ("v", 0x1004, 400, (0x1004, 4)),
        ("v", 0x1000, 3, (0x1000, 2)),
        ("v+1", 0x1000, 8, (0x1001, 1)),
        ("v+4:2", 0x1000, 8, (0x1004, 2)),
        ("0x1006", 0x1006, None, (0x1006, 2)),
    ],
)
def test_the_default_is_as_much_as_fits(site, start, size, expected):
    found = breakpoint_at(parse_site(site), start, size, Access.WRITE)
    assert found == Breakpoint(*expected, Access.WRITE)


@pytest.mark.parametrize("site", ["v+1:8", "v+8:8", "v+6:4"])
def test_what_does_not_fit(site):
    with pytest.raises(UsageError):
        breakpoint_at(parse_site(site), 0x1000, 8, Access.WRITE)


def test_code_may_be_anywhere():
    found = breakpoint_at(parse_site("f"), 0x1003, 40, Access.EXECUTE)
    assert found == Breakpoint(0x1003, CODE_LENGTH, Access.EXECUTE)
