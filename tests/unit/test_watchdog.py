# SPDX-License-Identifier: Apache-2.0
"""A process that cannot go on ends in time."""

from __future__ import annotations

import signal
import subprocess
import sys

from harness.lines import DEADLINE

STOPS = """
import os, signal
from kwatch.kernel.watchdog import Watchdog
watchdog = Watchdog()
watchdog.set(100)
watchdog.set(0)
watchdog.set(1)
os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_it_ends_a_stopped_process():
    stopped = subprocess.Popen([sys.executable, "-c", STOPS])
    assert stopped.wait(DEADLINE) == -signal.SIGKILL
