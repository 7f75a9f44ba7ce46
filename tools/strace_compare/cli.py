# SPDX-License-Identifier: Apache-2.0
"""The command line of tools/strace_compare."""

from __future__ import annotations

import argparse
import sys

from strace_compare.compare import compare


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="strace_compare", description="Print lines of strace and kwatch that differ."
    )
    parser.add_argument("--show", type=int, default=40, help="differing lines to print (40)")
    parser.add_argument(
        "--live", action="store_true", help="compare `kwatch trace`, not the reference"
    )
    parser.add_argument(
        "-y",
        dest="descriptors",
        action="count",
        default=0,
        help="with what descriptors refer to, which needs --live; -yy with addresses too",
    )
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if options.descriptors and not options.live:
        parser.error("-y needs --live")
    more = [f"-{'y' * options.descriptors}"] if options.descriptors else []
    result = compare(options.command, options.live, more)
    for ours, theirs in result.different[: options.show]:
        print(f"- {theirs}\n+ {ours}")
    print(f"{result.equal} of {result.lines} lines equal ({result.share:.2%})", file=sys.stderr)
    return 0 if not result.different else 1
