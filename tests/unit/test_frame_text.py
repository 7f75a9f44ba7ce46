# SPDX-License-Identifier: Apache-2.0
"""The lines of a call stack."""

from __future__ import annotations

import pytest

from kwatch.model.frame import Ending, Frame
from kwatch.sinks.frame_text import frame_text, stack_texts


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (Frame(9, "main", 28, "/usr/bin/app", "/src/app.c", 12), "main+0x1c (app) app.c:12"),
        (Frame(9, "main", 28, "/usr/bin/app"), "main+0x1c (app)"),
        (Frame(9, offset=0x1234, module="/usr/bin/app"), "0x1234 (app)"),
        (Frame(9, offset=0x7F00), "0x7f00"),
    ],
)
def test_as_much_as_is_known(frame, text):
    assert frame_text(frame) == text


@pytest.mark.parametrize(
    ("frames", "ending", "last"),
    [
        (["read+0x7 (libc.so.6)"], Ending.COMPLETE, "read+0x7 (libc.so.6)"),
        (["read+0x7 (libc.so.6)"], Ending.NO_ROW, "[cut: no_row]"),
        (["_start+0x21 (app)"], Ending.NO_ROW, "_start+0x21 (app)"),
        ([], Ending.LOST, "[no stack: lost]"),
    ],
)
def test_what_is_missing(frames, ending, last):
    assert stack_texts(frames, ending)[-1] == last
