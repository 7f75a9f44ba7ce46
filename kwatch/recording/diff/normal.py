# SPDX-License-Identifier: Apache-2.0
"""Texts of calls without what differs between any two runs: addresses, pids and times."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NUMBER = re.compile(r"\b\d+\b")
_VARYING = (
    (re.compile(r"0x[0-9a-f]{5,16}\b"), "ADDRESS"),
    (re.compile(r"tv_(sec|nsec|usec)=-?\d+"), r"tv_\1=N"),
    (re.compile(r"/\* \d{4}-\d\d-[^*]*\*/"), "/* date */"),
    (re.compile(r"(ru_[us]time|tms_c?[us]time)=(\{[^}]*\}|\d+)"), r"\1=N"),
    (re.compile(r'^getrandom\("(?:[^"\\]|\\.)*"'), 'getrandom("RANDOM"'),
    (re.compile(r"(uptime|freeram|bufferram|sharedram|procs)=\d+|loads=\[[^]]*\]"), r"\1=N"),
    (re.compile(r"^(times?\(.*) = \d+"), r"\1 = N"),
    # Which of several children ends first.
    (re.compile(r"^(wait(?:4|pid)\(-1, .* = )[1-9]\d*$"), r"\1PID"),
    (re.compile(r"^(waitid\(P_ALL, .*\bsi_pid=)\d+"), r"\1PID"),
)
_PROC = re.compile(r"(?<=/proc/)\d+|(?<=/task/)\d+")
#: Of processes that were not recorded.
_OTHER_PID = re.compile(r"^(get(?:p?pid|pgid|pgrp|sid)\(.* = )[1-9]\d*$")
_PID_IN_TEXT = re.compile(r"\b(?:parent_tid|child_tid|nl_pid|l_pid|si_pid|pid)=\[?\d+")


def normal_path(path: str) -> str:
    """For the comparison of the files that calls name."""
    return _PROC.sub("PID", path) if "/proc/" in path else path


def normal_text(text: str, pids: Mapping[int, str], takes_pids: bool) -> str:
    """`pids`: a name for each pid and tid. `takes_pids`: any of the call's numbers may be one."""
    for pattern, replaced in _VARYING:
        text = pattern.sub(replaced, text)
    text = _PROC.sub("PID", text) if "/proc/" in text else text

    def named(match: re.Match[str]) -> str:
        return _NUMBER.sub(lambda n: pids.get(int(n[0]), n[0]), match[0])

    text = _NUMBER.sub(named, text) if takes_pids else _PID_IN_TEXT.sub(named, text)
    return _OTHER_PID.sub(r"\1PID", text)
