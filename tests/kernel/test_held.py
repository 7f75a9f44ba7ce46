# SPDX-License-Identifier: Apache-2.0
"""The memory of a process stays readable after its end or exec, and nobody notices."""

from __future__ import annotations

import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from harness.memory_group import memory_group
from harness.waiting import wait_until

from kwatch.reach.held import HeldMemory
from kwatch.reach.holder import Holder, NotHeld
from kwatch.reach.memory import as_ranges
from kwatch.wire.maps import MAX_HELD

ENDS = {
    **{"return": 7, "_exit": 7, "exit": 7, "leader": 7, "exec": 0},
    **{"kill": -signal.SIGKILL, "term": -signal.SIGTERM, "segv": -signal.SIGSEGV},
}
#: The register of tests/programs/ends.c.
KEPT = {"x86_64": "r12", "aarch64": "x20"}
#: Its thread that waits: pause and ppoll.
LAST_CALL = {"x86_64": "34", "aarch64": "73"}


@pytest.fixture
def holder():
    with closing(Holder()) as holder:
        holder.start()
        yield holder


def block_of(memory, answers):
    """Whether the memory has the block as the program has described it."""
    start, size = answers["block"], answers["words"] * 8
    into = np.empty(size, np.uint8)
    assert memory.read(as_ranges([(start, start + size)]), into) == []
    words = into.view(np.uint64)
    assert int(np.bitwise_xor.reduce(words)) == answers["xor"] % (1 << 64)
    return bool(words[0] == 0x9E3779B97F4A7C15)


def users_of(segment):
    """How many address spaces have a System V segment; None if it is gone."""
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return next((int(row[6]) for row in rows if int(row[1]) == segment), None)


def threads_of(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


@pytest.mark.parametrize("how", ENDS)
def test_after_each_end(start, holder, how):
    target = start("ends", how)
    answers = target.answers
    with HeldMemory(target.pid, holder) as held:
        if how == "leader":
            target.go("alone")
        assert target.end() == ENDS[how]
        assert block_of(held.memory, answers)
        found = [r for r in held.regions() if r.start <= answers["block"] < r.end]
        assert [region.permissions for region in found] == ["rw-p"]
        runs = held.pages.resident(found[0].start, found[0].end, shared=False)
        assert any(first <= answers["block"] < last for first, last in runs.tolist())
        assert users_of(answers["segment"]) == 1
    wait_until(lambda: users_of(answers["segment"]) is None)


def test_a_process_whose_main_thread_has_ended(start, holder):
    target = start("ends", "leader")
    target.go("alone")
    with HeldMemory(target.pid, holder) as held:
        assert target.end() == 7
        assert block_of(held.memory, target.answers)


def test_the_old_and_the_new_program_are_apart(start, holder):
    """After an exec, the pid is that of the new program, which has other memory."""
    target = start("ends", "exec")
    with HeldMemory(target.pid, holder) as old:
        target.release()
        comm = Path(f"/proc/{target.pid}/comm")
        wait_until(lambda: comm.read_text() == "cat\n")
        with HeldMemory(target.pid, holder) as new:
            assert target.end() == 0
            programs = [held.regions()[0].path.rsplit("/", 1)[1] for held in (old, new)]
            assert programs == ["ends", "cat"]
            assert block_of(old.memory, target.answers)


def seconds_to_end(target):
    os.kill(target.pid, signal.SIGKILL)
    begin = time.perf_counter()
    assert os.waitid(os.P_PID, target.pid, os.WEXITED | os.WNOWAIT) is not None
    return time.perf_counter() - begin


def test_the_parent_does_not_wait_longer(start, holder):
    """Without a hold the end takes longer: the process itself frees its memory."""
    took = {True: [], False: []}
    for is_held in [True, False] * 5:
        target = start("ends", "return", 64)
        held = HeldMemory(target.pid, holder) if is_held else None
        took[is_held].append(seconds_to_end(target))
        if held is not None:
            held.release()
        target.kill()
    assert statistics.median(took[True]) <= statistics.median(took[False])


def test_a_hundred_in_a_row_leave_nothing(start, holder):
    segments, before = [], None
    for number in range(100):
        target = start("ends", "kill", "1")
        with HeldMemory(target.pid, holder):
            target.end()
        segments.append(target.answers["segment"])
        wait_until(lambda: threads_of(holder.pid) == 1)
        if number == 0:
            before = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), holder.pid)]
    wait_until(lambda: not any(map(users_of, segments)))
    pids = (os.getpid(), holder.pid)
    ours, its = (len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
    assert its == before[1]
    assert ours - before[0] <= 99 * 2  # the pipes of the programs, which the harness keeps
    assert holder.starts == 1


def test_no_more_than_the_limit(start, holder):
    target = start("ends", "return")
    many = [HeldMemory(target.pid, holder) for _ in range(MAX_HELD)]
    with pytest.raises(NotHeld, match=f"{MAX_HELD} processes"):
        HeldMemory(target.pid, holder)
    for held in many[1:]:
        held.release()
    assert target.end() == 7
    assert block_of(many[0].memory, target.answers)
    many[0].release()


def test_no_process(holder):
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(NotHeld, match="ended"):
        HeldMemory(gone.pid, holder)


@pytest.mark.needs("memcg")
def test_there_must_be_room_for_the_next(start, holder, tmp_path):
    """A service that starts again needs as much memory as the one that has ended."""
    with memory_group(100 << 20, tmp_path) as group:
        enter = ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
        for mib, is_tight in ((30, False), (60, True)):
            target = start("ends", "return", mib, prefix=enter)
            with HeldMemory(target.pid, holder) as held:
                assert target.end() == 7
                assert bool(held.missing_room()) == is_tight
            wait_until(lambda target=target: users_of(target.answers["segment"]) is None)


HOLDS = """
import sys
from kwatch.reach.held import HeldMemory
from kwatch.reach.holder import Holder
holder = Holder()
held = HeldMemory(int(sys.argv[1]), holder)
print(holder.pid, flush=True)
sys.stdin.read()
"""


def test_nothing_stays_when_kwatch_is_killed(start):
    target = start("ends", "return")
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLDS, str(target.pid)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as kwatch:
        holder = int(kwatch.stdout.readline())
        assert target.end() == 7
        assert users_of(target.answers["segment"]) == 1
        kwatch.kill()
    wait_until(lambda: users_of(target.answers["segment"]) is None)
    wait_until(lambda: not os.path.exists(f"/proc/{holder}"))


def system_ticks(stat):
    return int(stat.read_text().rpartition(") ")[2].split()[12])


def test_a_holder_that_was_stopped_ends(start, holder):
    """Its thread would take a whole CPU for ever; a new holder holds the same again."""
    target = start("ends", "return")
    with HeldMemory(target.pid, holder) as held:
        os.kill(holder.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{holder.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(") ")[2][0] == "T")
        # Its thread takes CPU time from now on. On a kernel where it does not, it ends in time.
        wait_until(lambda: not holder.is_alive or system_ticks(stat) > 25)
        os.kill(holder.pid, signal.SIGCONT)
        wait_until(lambda: not holder.is_alive)
        assert not held.is_held
        held.renew()
        assert held.is_held
        assert target.end() == 7
        assert block_of(held.memory, target.answers)


SESSION = """
import json, sys
from kwatch.commands.startup import program_config
from kwatch.model.options import TraceOptions
from kwatch.programs.loader import Loader
from kwatch.reach.held import HeldMemory
from kwatch.session.live import LiveSession
from kwatch.system import stdio
from kwatch.system.signals import Signals

pid, *command = sys.argv[1:]
options = TraceOptions(
    pids=(int(pid),) if int(pid) else (), command=tuple(command), heap=False, heap_stacks=False
)

def ended(process):
    found = live.tracer.held.leave(process.pid)
    if found is None or found.memory is None:
        print("no memory", found, flush=True)
        return
    memory = found.memory
    for thread in found.threads:
        values = dict(zip(thread.names, thread.registers.tolist()))
        line = {"tid": thread.tid, "sp": thread.stack_pointer, **values}
        print(json.dumps(line), flush=True)
    print(json.dumps({"regions": [region.path for region in memory.regions()]}), flush=True)
    memory.release()

live = LiveSession(options, Loader(program_config(options)), Signals(), print, ended)
live.tracer.held.prepare()
live.attach()
if live.launched is None:
    live.tracer.held.take(int(pid))
live.start(live.tracer.held.take)
print("attached", file=sys.stderr, flush=True)
while len(live.session.process_table):
    live.step(live.wait(0.1))
live.close()
"""


def test_the_registers_at_the_end(start, run_kwatch):
    target = start("ends", "registers")
    kwatch = run_kwatch(target.pid, script=SESSION)
    kwatch.attached()
    target.release()
    waiting = target.reached()["waiting"]
    call = Path(f"/proc/{target.pid}/task/{waiting}/syscall")
    wait_until(lambda: call.read_text().split()[0] == LAST_CALL[platform.machine()])
    stack_pointer = int(call.read_text().split()[-2], 16)
    os.kill(target.pid, signal.SIGKILL)
    documents = {one["tid"]: one for one in kwatch.finish().documents if "tid" in one}
    kept = KEPT[platform.machine()]
    assert documents[target.pid][kept] == 0x5EED0001CAFE
    assert documents[waiting][kept] == 0x5EED0002CAFE
    assert documents[waiting]["sp"] == stack_pointer


def test_a_command_that_ends_at_once(run_kwatch):
    """It is held before its first instruction."""
    result = run_kwatch(0, "true", script=SESSION).finish()
    assert result.status == 0, result
    thread, memory = result.documents
    assert thread["sp"] > 0
    assert any(path.endswith("/true") for path in memory["regions"])
