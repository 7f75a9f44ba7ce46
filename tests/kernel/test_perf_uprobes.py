# SPDX-License-Identifier: Apache-2.0
"""Kernels without uprobe links: the same heap through one perf event per probe."""

from __future__ import annotations

import subprocess
import sys

import pytest
from harness.session import documents
from harness.target import answers

SCRIPT = """
import sys
from kwatch.cli import _parse
from kwatch.commands.watch import options_from, program_config
from kwatch.kernel.loader import Loader
from kwatch.signals import Signals
from kwatch.watch import Watch

options = options_from(_parse("watch", sys.argv[1:]))
loader = Loader(program_config(options), uprobe_links=False)
sys.exit(Watch(options, loader, Signals()).run())
"""


@pytest.mark.parametrize("name", ["leaky", "reallocs", "cxx"])
def test_heap_without_uprobe_links(program, name):
    command = [program(name), "now"]
    arguments = ["--json", "--no-syscalls", "--", *command]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    said = answers(lines)
    (final,) = [d for d in documents(lines) if d["kind"] == "final"]
    # libstdc++ keeps one block for its own exceptions, from before main().
    runtime = 1 if name == "cxx" else 0
    assert final["lost"]["events"] == 0
    assert final["heap"]["live_blocks"] == said["live_blocks"] + runtime
    assert final["heap"]["frees"] == said["frees"]
