# SPDX-License-Identifier: Apache-2.0
"""Compiled BPF programs for tests: bcc runs in a child, because its compiler may crash."""

from __future__ import annotations

import pickle
import subprocess
import sys

from kwatch.programs.source import AttachMethods, ProgramConfig

_SCRIPT = """
import pickle, sys
from kwatch.programs.loader import compiled

config, methods = pickle.load(sys.stdin.buffer)
pickle.dump(compiled(config, methods).programs, sys.stdout.buffer)
"""


def compiled_programs(config: ProgramConfig, methods: AttachMethods) -> dict[str, bytes]:
    """The instructions of each program, by name."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        input=pickle.dumps((config, methods)),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return pickle.loads(done.stdout)
