# SPDX-License-Identifier: Apache-2.0
"""The arguments of `python tools/growth`."""

from __future__ import annotations

import argparse

from growth.table import table


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="growth", description="Judge the growth of simulated programs with a known truth."
    )
    parser.add_argument("--seeds", type=int, default=100, help="runs of each (%(default)s)")
    for line in table(parser.parse_args().seeds):
        print(line, flush=True)
    return 0
