# SPDX-License-Identifier: Apache-2.0
"""A launched command is judged however it ends, and however soon."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

HEAP = ("--json", "--no-syscalls", "--interval", "0.1")
#: Blocks that tests/programs/loses.c keeps, and those that the test makes it lose.
KEPT, LOST = 7, 5
STATUS = {
    **{"return": 0, "_exit": 0, "thread": 0},
    **{"kill": 128 + signal.SIGKILL, "term": 128 + signal.SIGTERM, "segv": 128 + signal.SIGSEGV},
}


def assert_judged(final, lost):
    heap = final["heap"]
    assert not heap["reach"]["error"], final["reason"]
    assert heap["reach"]["definite"]["blocks"] == lost
    assert heap["reach"]["reachable"]["blocks"] >= KEPT
    assert heap["live_blocks"] >= KEPT + lost
    found = {stack["frames"][0]["symbol"]: stack for stack in heap["stacks"]}
    if not lost:
        assert (final["verdict"], "lose" in found) == ("clean", False), final["reason"]
        return
    assert final["verdict"] == "leak"
    assert found["lose"]["reach"]["definite"] == found["lose"]["blocks"] == lost
    line = found["lose"]["frames"][0]["line"]
    assert f" from lose (loses.c:{line}) are lost" in final["reason"]


@pytest.mark.parametrize(
    ("lost", "how"), [(LOST, how) for how in STATUS] + [(0, "return"), (0, "thread"), (0, "segv")]
)
def test_a_command_that_ends_at_once(program, run_kwatch, lost, how):
    result = run_kwatch(*HEAP, "--", program("loses"), lost, how).finish()
    assert result.status == STATUS[how]
    assert_judged(result.final(), lost)


@pytest.mark.parametrize(("lost", "how"), [(LOST, "wait"), (LOST, "exec"), (0, "exec")])
def test_a_signal_from_outside(program, run_kwatch, lost, how):
    """After an exec, the memory of the new program is scanned."""
    kwatch = run_kwatch(*HEAP, "--", program("loses"), lost, how)
    pid = int(kwatch.printed(lambda line: line.startswith("pid ")).split()[1])
    kwatch.document(lambda d: d["heap"]["live_blocks"] == KEPT + lost)
    os.kill(pid, signal.SIGKILL)
    assert_judged(kwatch.finish().final(pid), lost)


@pytest.mark.needs("valgrind")
def test_valgrind_agrees(program):
    command = ["valgrind", "--leak-check=full", program("loses"), str(LOST), "return"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert re.search(rf"definitely lost: [\d,]+ bytes in {LOST} blocks", said)
    assert re.search(rf"still reachable: [\d,]+ bytes in {KEPT} blocks", said)


CONNECTIONS, CONNECTION, BUFFER = 60, 8, 300


def own_frame(stack):
    """The first frame of the program; operator new is in libstdc++."""
    frames = stack["frames"]
    return next((each for each in frames if each["module"].endswith("/conns")), frames[0])


def test_the_object_that_is_lost_is_named_not_what_it_holds(program, run_kwatch):
    final = run_kwatch(*HEAP, "--", program("conns")).finish().final()
    root, held = final["heap"]["stacks"][:2]
    assert [own_frame(each)["symbol"] for each in (root, held)] == ["handle()", "Conn::Conn()"]
    direct = {"blocks": CONNECTIONS, "bytes": CONNECTIONS * CONNECTION}
    indirect = {"blocks": CONNECTIONS, "bytes": CONNECTIONS * BUFFER}
    assert (root["direct"], root["indirect"]) == (direct, indirect)
    assert held["blocks"] == held["reach"]["indirect"] == CONNECTIONS
    assert held["direct"]["blocks"] == held["indirect"]["blocks"] == 0
    line = own_frame(root)["line"]
    assert final["reason"] == (
        f"{CONNECTIONS} blocks (480 B) from handle() (conns.cpp:{line}), which hold {CONNECTIONS} "
        "more (17.6 KiB), are lost: no pointer leads to them"
    )


@pytest.mark.needs("valgrind")
def test_valgrind_names_the_same_root(program):
    command = ["valgrind", "--leak-check=full", program("conns")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    direct, indirect = CONNECTIONS * CONNECTION, CONNECTIONS * BUFFER
    record, _, where = said.partition(
        f"({direct:,} direct, {indirect:,} indirect) bytes in {CONNECTIONS} blocks are definitely"
    )
    assert where, record
    assert "handle()" in where.partition("\n\n")[0].partition("== \n")[0]


def test_a_child_is_held_too(program, run_kwatch):
    """The shell waits in the child, so that kwatch has seen the fork before the exec."""
    script = f'(read -r line; exec "{program("loses")}" {LOST} wait) < /dev/stdin; true'
    kwatch = run_kwatch(*HEAP, "--follow", "--", "sh", "-c", script)
    pid = int(kwatch.printed(lambda line: line.startswith("pid ")).split()[1])
    kwatch.document(lambda d: d["process"]["pid"] == pid)
    os.kill(pid, signal.SIGKILL)
    reach = kwatch.finish().final(pid)["heap"]["reach"]
    assert (reach["error"], reach["definite"]["blocks"]) == ("", LOST)


@pytest.mark.parametrize(
    "command", ["ls /", "grep -r noword bpf", f"{sys.executable} -c pass", "git log -3"]
)
def test_healthy_commands(run_kwatch, command):
    words = command.split()
    if not shutil.which(words[0]):
        pytest.skip(f"{words[0]} is not installed")
    final = run_kwatch(*HEAP, "--", *words).finish().final()
    assert not final["heap"]["reach"]["error"], final["reason"]
    assert final["verdict"] in ("clean", "unsure"), final["reason"]
