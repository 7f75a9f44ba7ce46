# SPDX-License-Identifier: Apache-2.0
"""`kwatch doctor` on this kernel: it works, and what is missing has a reason and a cure."""

from __future__ import annotations

import json
import subprocess
import sys

from harness.lines import DEADLINE


def test_doctor():
    command = [sys.executable, "-m", "kwatch", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * DEADLINE)
    features = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stdout
    for feature in features:
        assert feature["works"] or (feature["reason"] and feature["cure"] and not feature["needed"])
