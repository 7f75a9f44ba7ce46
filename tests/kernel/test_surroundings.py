# SPDX-License-Identifier: Apache-2.0
"""What kwatch itself lacks is the one error, before anything that depends on it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kwatch.kernel.privileges import _time_offsets

KWATCH = f"{sys.executable} -m kwatch"
NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/"


def run_apart(script, *how):
    """Runs a shell script in a mount namespace of its own."""
    return subprocess.run(
        ["unshare", "--mount", *how, "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("arguments", ["--pid 1", "--comm nobody", "-- true", ""])
@pytest.mark.parametrize("folder", ["/proc", "/sys"])
def test_what_is_not_mounted(folder, arguments):
    done = run_apart(f"umount --lazy {folder}; {KWATCH} {arguments}")
    first, second = done.stderr.splitlines()
    assert first == f"kwatch: kwatch needs {folder}, which is not mounted here"
    assert second.startswith("  mount it: mount -t ")
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("folder", ["/proc", "/sys"])
def test_doctor_says_what_is_not_mounted(folder):
    done = run_apart(f"umount --lazy {folder}; {KWATCH} doctor")
    assert (done.returncode, done.stderr) == (1, "")
    assert f"kwatch needs {folder}" in " ".join(done.stdout.split())


@pytest.mark.parametrize("pid", [1, os.getpid()])
@pytest.mark.parametrize("option", ["hidepid=0", "hidepid=2"])
def test_without_root_the_first_error_is_that(option, pid):
    """With hidepid, /proc shows no process of others: to say that there is none would be wrong."""
    done = run_apart(f"mount -t proc -o {option} proc /proc; {NOBODY} {KWATCH} --pid {pid}")
    assert done.stderr.splitlines()[0] == "kwatch: kwatch needs root: CAP_SYS_ADMIN is missing"
    assert done.returncode == 1


def test_a_clock_that_differs_from_the_kernels():
    done = run_apart(f"{KWATCH} --duration 0.1", "--time", "--monotonic", "1000")
    assert "time namespace" in done.stderr
    assert done.returncode == 1


def test_a_time_namespace_with_the_same_clock():
    assert not any(_time_offsets())
    done = run_apart(f"{KWATCH} -- true", "--time")
    assert (done.returncode, done.stderr.count("time namespace")) == (0, 0)
