# SPDX-License-Identifier: Apache-2.0
"""A recording of programs with several threads has each call, in the order of its thread.

The programs number their calls and write the numbers and what they saw to a file."""

from __future__ import annotations

import json
import re
import signal
import struct
import subprocess
from collections import Counter
from dataclasses import dataclass, field

import duckdb
import pytest
from harness.session import Session
from harness.target import answers

MODES = ("counter", "log", "account", "list", "order", "deadlock")
THREADS, STEPS, SLOT, PRICE = 4, 1000, 16, 5
NUMBERED, TEXT = 3, 4  # descriptors
RUN = 'ulimit -c 0; cd "$0"; program=$1; shift; for mode; do $program $mode $mode >$mode.out; done'

FILES = f"""
select pid, path as mode from syscalls
where name = 'openat' and comm = 'races' and path in {MODES}
"""
CALLS = """
select pid, tid, ts_ns, name, kind, ret, arg0 as first, arg3 as place, data
from syscalls where comm = 'races' and name in ('pwrite64', 'futex') order by seq
"""
ENDS = "select pid, tid, status from exits where comm = 'races'"
SIGNALS = "select pid, tid, signal from signals where comm = 'races'"
LOST = "select name from syscalls where content_lost and name = 'pwrite64'"


@dataclass
class Program:
    """What is recorded of a program, and what it says itself."""

    answers: dict[str, int]
    text: bytes
    slots: dict[int, int]
    calls: list[dict] = field(default_factory=list)
    ends: list[dict] = field(default_factory=list)
    signals: list[dict] = field(default_factory=list)

    def writes(self, fd):
        """Those that were made, in the order in which they returned."""
        made = (call for call in self.calls if call["name"] == "pwrite64" and call["first"] == fd)
        return [call for call in made if call["kind"] == "call"]

    def numbered(self):
        """The number and the value of each numbered call, by the thread that made it."""
        threads = {}
        for call in self.writes(NUMBERED):
            number, value = struct.unpack("qq", call["data"])
            assert (call["ret"], call["place"]) == (SLOT, (number - 1) * SLOT)
            threads.setdefault(call["tid"], []).append((number - 1, value))
        return threads

    def values(self):
        """The value of each numbered call."""
        return dict(pair for pairs in self.numbered().values() for pair in pairs)


def command(program, directory, modes):
    """Runs the programs one after the other; each leaves a file with the name of its mode."""
    return ["sh", "-c", f"{RUN}; true", str(directory), str(program("races")), *modes]


def slots_of(data):
    """The numbers and values that a program left in its file."""
    found = enumerate(struct.iter_unpack("qq", data))
    return {place: value for place, (number, value) in found if number == place + 1}


def rows(directory, sql):
    """Read without kwatch."""
    with duckdb.connect() as connection:
        for table in ("syscalls", "signals", "exits"):
            files = f"{directory}/recording/{table}/*/*/*.parquet"
            connection.execute(f"create view {table} as from '{files}'")
        found = connection.execute(sql)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


@pytest.fixture(scope="module")
def recorded(program, tmp_path_factory):
    """All programs are recorded at once. The directory, and what kwatch said."""
    directory = tmp_path_factory.mktemp("races")
    # The buffer of each CPU has room for all calls: they come faster than they can be written.
    options = ("-f", "--content", "16", "--buffer", "32M")
    programs = command(program, directory, MODES)
    kwatch = Session("record", directory / "recording", *options, "--", *programs)
    try:
        return directory, kwatch.finish()
    finally:
        kwatch.kill()


@pytest.fixture(scope="module")
def programs(recorded):
    """A Program for each mode."""
    directory, _ = recorded
    found, by_pid = {}, {each["pid"]: each["mode"] for each in rows(directory, FILES)}
    for mode in MODES:
        said = answers((directory / f"{mode}.out").read_text().splitlines())
        text = (directory / f"{mode}.text").read_bytes()
        found[mode] = Program(said, text, slots_of((directory / mode).read_bytes()))
    assert sorted(by_pid.values()) == sorted(MODES)
    for name, sql in (("calls", CALLS), ("ends", ENDS), ("signals", SIGNALS)):
        for row in rows(directory, sql):
            getattr(found[by_pid[row["pid"]]], name).append(row)
    return found


def test_nothing_was_lost(recorded):
    directory, result = recorded
    assert result.status == 0
    assert not [line for line in result.stderr if "not complete" in line]
    manifests = [
        json.loads(path.read_text()) for path in directory.glob("recording/segments/*/*/*")
    ]
    assert manifests
    assert all(each["lost"] == {} for each in manifests)
    assert rows(directory, LOST) == []


@pytest.mark.parametrize("mode", MODES)
def test_the_recording_has_the_calls_that_left_their_bytes_in_the_file(programs, mode):
    program = programs[mode]
    assert program.values() == program.slots
    assert len(program.writes(NUMBERED)) == len(program.slots)


@pytest.mark.parametrize("mode", MODES)
def test_the_calls_of_each_thread_are_whole_and_in_its_order(programs, mode):
    threads = programs[mode].numbered()
    numbers = {pairs[0][0] // STEPS: [number for number, _ in pairs] for pairs in threads.values()}
    assert len(numbers) == len(threads)
    steps = dict.fromkeys(range(THREADS), STEPS)
    if mode == "order":  # thread 1 ends it, whatever the others have done
        steps = {thread: len(made) for thread, made in numbers.items()} | {1: STEPS // 2 + 1}
    expected = {t: list(range(t * STEPS, t * STEPS + made)) for t, made in steps.items()}
    assert numbers == expected
    for tid in threads:
        times = [call["ts_ns"] for call in programs[mode].calls if call["tid"] == tid]
        assert times == sorted(times)


@pytest.mark.needs("strace")
def test_each_thread_has_the_calls_that_strace_sees(programs, program, tmp_path):
    """Of those programs that do the same each time."""
    modes = [mode for mode in MODES if mode != "order"]
    log = tmp_path / "strace.out"
    strace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=pwrite64", "-o", log]
    traced = [*strace, *command(program, tmp_path, modes)]
    subprocess.run(traced, check=True, capture_output=True)
    seen = {}
    for tid, place in re.findall(r"^(\d+) +pwrite64\(3, .*, 16, (\d+)", log.read_text(), re.M):
        seen.setdefault(tid, []).append(int(place) // SLOT)
    found = [pairs for mode in modes for pairs in programs[mode].numbered().values()]
    assert len(seen) == len(modes) * THREADS
    assert sorted(seen.values()) == sorted([number for number, _ in pairs] for pairs in found)


def test_a_race_on_a_counter(programs):
    seen = Counter(programs["counter"].values().values())
    assert seen[0] == THREADS
    assert 0 < programs["counter"].answers["counter"] <= THREADS * STEPS - (THREADS - 1)
    assert max(seen) < THREADS * STEPS - (THREADS - 1)


def test_a_race_on_a_log(programs):
    """The lines that were overwritten are in the recording alone."""
    program = programs["log"]
    lines = {}
    for call in program.writes(TEXT):
        lines.setdefault(call["place"], []).append(call["data"])
    numbers = sorted(int(line.split()[1]) for each in lines.values() for line in each)
    assert numbers == list(range(THREADS * STEPS))
    assert len(lines[0]) == THREADS
    kept = [program.text[place : place + SLOT] for place in range(0, len(program.text), SLOT)]
    assert sorted(lines) == list(range(0, len(program.text), SLOT))
    assert all(line in lines[number * SLOT] for number, line in enumerate(kept))


def test_a_race_on_an_account(programs):
    program = programs["account"]
    paid = [value for value in program.values().values() if value >= PRICE]
    assert paid.count(STEPS * PRICE) == THREADS
    assert len(paid) == program.answers["withdrawals"] > STEPS


def test_a_race_on_a_list(programs):
    """The links that the threads saw lead to the nodes that are left in the list."""
    program = programs["list"]
    links, node, linked = program.values(), program.answers["head"], 0
    while node != -1:
        node, linked = links[node], linked + 1
    assert linked == program.answers["linked"]
    assert linked <= THREADS * STEPS - (THREADS - 1)


def test_a_violation_of_order(programs):
    """A thread uses a table before it is made, and dies of it."""
    program = programs["order"]
    (fault,) = program.signals
    pairs = program.numbered()[fault["tid"]]
    assert (fault["signal"], pairs[-1]) == (signal.SIGSEGV, (STEPS + STEPS // 2, 0))
    killed = [end["tid"] for end in program.ends if end["status"] & 0x7F == signal.SIGSEGV]
    assert {fault["pid"], fault["tid"]} <= set(killed)


def test_a_deadlock(programs):
    """Each of two threads waits for the lock of the other until the program is killed."""
    program = programs["deadlock"]
    waits = {
        call["tid"]: call["first"]
        for call in program.calls
        if call["name"] == "futex" and call["kind"] == "unfinished"
    }
    threads = {pairs[0][0] // STEPS: tid for tid, pairs in program.numbered().items()}
    said = program.answers
    assert waits[threads[0]] == said["lock1"]
    assert waits[threads[1]] == said["lock0"]
    killed = {end["tid"] for end in program.ends if end["status"] == signal.SIGKILL}
    assert killed >= waits.keys()
