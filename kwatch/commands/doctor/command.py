# SPDX-License-Identifier: Apache-2.0
"""`kwatch doctor`: check what works on this machine and how to fix what does not."""

from __future__ import annotations

import argparse
import json
import textwrap
from dataclasses import asdict

from kwatch.commands.doctor.features import Feature, features
from kwatch.errors import ExitCode
from kwatch.system import stdio

SUMMARY = "check what works on this machine and how to fix what does not"

EXAMPLES = """\
exit status: 0 everything needed works, 1 something that is needed does not
"""

_WIDTH = 78


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="one JSON object per line instead of a table"
    )


def run(arguments: argparse.Namespace) -> int:
    found = list(features())
    for feature in found:
        stdio.write((json.dumps(asdict(feature)) if arguments.json else _row(feature)) + "\n")
    broken = [feature for feature in found if feature.needed and not feature.works]
    if not arguments.json:
        stdio.write(_verdict(broken) + "\n")
    return ExitCode.FAILED if broken else ExitCode.DONE


def _row(feature: Feature) -> str:
    lines = [f"{'yes' if feature.works else 'no ':4}{feature.name:22}{feature.purpose}"]
    why = "has:  " if feature.works else "why:  "
    for label, text in ((why, feature.reason), ("cure: ", feature.cure)):
        if text:
            indent = " " * 6 + label
            lines += textwrap.wrap(
                text, _WIDTH, initial_indent=indent, subsequent_indent=" " * len(indent)
            )
    return "\n".join(lines)


def _verdict(broken: list[Feature]) -> str:
    if not broken:
        return "kwatch works here."
    return "kwatch does not work here: " + ", ".join(feature.name for feature in broken)
