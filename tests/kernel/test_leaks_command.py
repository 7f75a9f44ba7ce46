# SPDX-License-Identifier: Apache-2.0
"""`kwatch leaks`: what it says of processes of every kind, its options and its exit statuses."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness.blocks import named_blocks
from harness.lines import DEADLINE
from harness.reach import leaks
from harness.waiting import wait_until

from kwatch.procfs.current_call import thread_ids, thread_state


def run(*arguments, **how):
    command = [sys.executable, "-m", "kwatch", "leaks", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, **how)


def why(pid, address):
    return json.loads(run("--pid", pid, "--why", hex(address), "--json").stdout)


def refused(*arguments):
    """The sentence and the cure with which kwatch fails."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    sentence, cure = done.stderr.splitlines()
    return sentence, cure


@pytest.fixture
def holders(start):
    """A program that holds blocks, and the addresses that it has printed by their names."""
    target = start("holders")
    target.go()
    return target, {block.name: block.address for block in named_blocks(target.printed)}


def test_each_kind_of_root_is_named(holders):
    target, blocks = holders
    assert why(target.pid, blocks["by-global"])["root"] == "by_global (holders)"
    [thread] = set(thread_ids(target.pid)) - {target.pid}
    frame = f"the stack of thread {thread}, in the frame of hold_by_stack"
    assert why(target.pid, blocks["by-stack"])["root"] == frame
    found = why(target.pid, blocks["by-tls"])
    assert found["class"] == "reachable"
    assert found["root"] == f"thread-local memory of thread {target.pid}"
    found = why(target.pid, blocks["chain-end"])
    assert (found["root"], len(found["path"])) == ("chain (holders)", 100_000)


def test_thread_local_memory_is_named(start):
    """Variables, and what pthread_setspecific(3) keeps in the thread's descriptor."""
    target = start("reach_threads", "thread_memory")
    target.go()
    blocks = {block.name: block.address for block in named_blocks(target.printed)}
    [thread] = set(thread_ids(target.pid)) - {target.pid}
    owners = {
        **dict.fromkeys(("thread-local-of-main", "specific-of-main"), target.pid),
        **dict.fromkeys(("thread-local", "specific-first"), thread),
    }
    for name, owner in owners.items():
        assert why(target.pid, blocks[name])["root"] == f"thread-local memory of thread {owner}"


def test_thread_local_memory_of_a_static_program(start, program):
    target = start(program("holders", "-static"))
    target.go()
    blocks = {block.name: block.address for block in named_blocks(target.printed)}
    owner = f"thread-local memory of thread {target.pid}"
    assert why(target.pid, blocks["by-tls"])["root"] == owner


def test_a_register_is_named(start):
    target = start("reach_threads", "registers")
    target.go()
    blocks = {block.name: block.address for block in named_blocks(target.printed)}
    register = "r12" if os.uname().machine == "x86_64" else "x19"
    for name in ("register-blocked", "register-running"):
        assert why(target.pid, blocks[name])["root"].startswith(f"register {register} of thread ")


def who(pid, of):
    return json.loads(run("--pid", pid, "--who", of, "--json").stdout)


@pytest.mark.parametrize("size", ["200", "193"])
def test_the_holders_of_all_blocks_of_a_size(start, size):
    """As it is listed, or as it was requested."""
    target = start("holders", "hold_entries")
    target.go()
    found = who(target.pid, size)
    assert (found["found"], found["of"]) == ({"blocks": 47, "bytes": 9400}, size)
    assert found["held_by"] == [
        {"kind": "root", "name": "cache (holders)", "blocks": 30, "bytes": 6000},
        {"kind": "block", "name": "104 B", "blocks": 12, "bytes": 2400},
    ]
    assert found["unheld"] == {"blocks": 5, "bytes": 1000}
    [first, second, *_] = run("--pid", target.pid, "--who", size).stdout.splitlines()
    assert first.endswith(f"47 blocks (9.2 KiB) of {size} are held by")
    assert second.split("  ")[-1] == "cache (holders)"


@pytest.mark.needs("g++")
def test_the_holders_of_all_objects_of_a_class(start, program):
    target = start(program("classes"))
    found = who(target.pid, "shapes::Square")
    assert found["found"]["blocks"] == 3
    assert found["held_by"][0]["name"] == f"the stack of thread {target.pid}"


def test_a_function_has_no_blocks_in_a_process_that_is_not_traced(start):
    target = start("sleepers", 1)
    sentence, cure = refused("--pid", target.pid, "--who", "lose")
    assert "is an object of the C++ class lose" in sentence
    assert f"kwatch --pid {target.pid} --who FUNCTION" in cure
    assert "has the size 1234567" in refused("--pid", target.pid, "--who", "1234567")[0]


def test_exit_statuses(start):
    leaking, held = start("sleepers", 1), start("getppid")
    assert run("--pid", held.pid, "--fail-on-leak").returncode == 0
    assert run("--pid", leaking.pid).returncode == 0
    both = run("--pid", f"{held.pid},{leaking.pid}", "--fail-on-leak", "--json")
    assert both.returncode == 3
    verdicts = [json.loads(line)["verdict"] for line in both.stdout.splitlines()]
    assert verdicts == ["clean", "leak"]
    both_paths = ["--why", "1", "--who", "1"]
    wrong = [["--why", "1", "--content"], ["--who", "1", "--blocks", "--json"], ["--who", "1x"]]
    for usage in (["--blocks"], ["--why", "x"], *wrong, both_paths, ["--top", "0"], []):
        assert run(*(["--pid", held.pid] if usage else []), *usage).returncode == 2


def test_every_process_with_a_name_is_searched(start):
    pids = {start("sleepers", 1).pid for _ in range(3)}
    done = run("--comm", "sleepers", "--json")
    assert {json.loads(line)["process"]["pid"] for line in done.stdout.splitlines()} >= pids


def test_one_of_several_that_has_ended_is_a_warning(start):
    target, ended = start("sleepers", 1), start("getppid", "now")
    ended.end()
    done = run("--pid", f"{target.pid},{ended.pid}", "--json")
    assert f"there is no process {ended.pid}; the others are searched" in done.stderr
    assert json.loads(done.stdout)["process"]["pid"] == target.pid


@pytest.mark.parametrize("named", ["--comm", "--pid"])
def test_a_process_that_ends_before_it_is_searched(start, named):
    """One that the user has named by its pid is an error, one of several with a name is not."""
    ending, living = start("sleepers", 1), start("sleepers", 1)
    script = [sys.executable, "-c", ENDS_MEANWHILE.format(pid=ending.pid), "leaks", "--json"]
    target = "sleepers" if named == "--comm" else f"{ending.pid},{living.pid}"
    done = subprocess.run(
        [*script, named, target], capture_output=True, text=True, timeout=DEADLINE
    )
    searched = {json.loads(line)["process"]["pid"] for line in done.stdout.splitlines()}
    assert living.pid in searched
    assert ending.pid not in searched
    said = f"kwatch: sleepers[{ending.pid}] cannot be searched: it has ended\n"
    is_error = named == "--pid"
    assert (done.returncode, said in done.stderr) == (is_error, is_error)


def test_all_processes_of_a_name_end_before_they_are_searched(start, program, tmp_path):
    name = f"ending-{os.getpid()}"
    ending = start(shutil.copy(program("sleepers"), tmp_path / name), 1)
    script = [sys.executable, "-c", ENDS_MEANWHILE.format(pid=ending.pid), "leaks", "--comm", name]
    done = subprocess.run(script, capture_output=True, text=True, timeout=DEADLINE)
    sentence, cure = done.stderr.splitlines()
    assert sentence == f"kwatch: 1 process named {name} ended before the search"
    assert (done.returncode, "launch it" in cure) == (1, True)


ENDS_MEANWHILE = """
import os, signal, sys
from kwatch.cli import main
from kwatch.commands.leaks import search

scanned = search.scanned

def scanned_after_its_end(facts, stop):
    if facts.pid == {pid}:
        os.kill({pid}, signal.SIGKILL)
        tasks = "/proc/{pid}/task"
        while len(os.listdir(tasks)) > 1 or " Z " not in open("/proc/{pid}/stat").read():
            pass
    return scanned(facts, stop)

search.scanned = scanned_after_its_end
sys.exit(main())
"""


def test_an_interrupted_search_says_so(holders):
    """It waits for the reader of its output, which is more than a pipe holds."""
    target, _ = holders
    command = [sys.executable, "-m", "kwatch", "leaks", "--json", "--blocks", "--pid"]
    kwatch = subprocess.Popen(
        [*command, str(target.pid)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: bool(select.select([kwatch.stdout], [], [], 0)[0]))
    kwatch.send_signal(signal.SIGINT)
    _, said = kwatch.communicate(timeout=DEADLINE)
    assert said == "kwatch: ended by SIGINT before the search was complete\n"
    assert kwatch.returncode == 128 + signal.SIGINT


def test_a_process_in_a_container(start):
    """It has a mount and a pid namespace of its own."""
    target = start("sleepers", 1, prefix=("unshare", "--mount", "--pid", "--fork", "--kill-child"))
    [child] = Path(f"/proc/{target.pid}/task/{target.pid}/children").read_text().split()
    assert leaks(child)["heap"]["reach"]["definite"] == {"blocks": 1, "bytes": 200}


def test_a_process_of_many_threads(start):
    """And in a time that does not grow with the square of their number."""
    target = start("sleepers", 2000)
    assert len(list(thread_ids(target.pid))) == 2001
    reach = leaks(target.pid)["heap"]["reach"]
    assert reach["definite"] == {"blocks": 1, "bytes": 200}
    assert reach["blind_threads"] == 0


@pytest.mark.needs("m32")
def test_a_32_bit_program_is_refused(start, program):
    target = start(program("getppid", "-m32", "-static"))
    sentence, cure = refused("--pid", target.pid, "--fail-on-leak")
    assert "it is a 32-bit program" in sentence
    assert f"kwatch --pid {target.pid}" in cure


def test_kernel_threads_zombies_and_kwatch_itself_are_refused(start):
    assert "is a kernel thread" in refused("--pid", 2)[0]
    target = start("getppid", "now")
    wait_until(lambda: thread_state(target.pid, target.pid) == "Z")
    assert "has ended and waits for its parent" in refused("--pid", target.pid)[0]
    assert "no process is named" in refused("--comm", "no-such-name")[0]


def test_without_root_the_reason_is_told():
    how = {"user": 65534, "group": 65534, "extra_groups": ()} if os.geteuid() == 0 else {}
    done = run("--pid", "1", **how)
    assert done.returncode == 1
    assert "kwatch needs root" in done.stderr


@pytest.mark.parametrize(
    ("library", "name"),
    [
        pytest.param("libjemalloc", "jemalloc", marks=pytest.mark.needs("jemalloc")),
        pytest.param("libtcmalloc", "tcmalloc", marks=pytest.mark.needs("tcmalloc")),
        pytest.param("libmimalloc", "mimalloc", marks=pytest.mark.needs("mimalloc")),
    ],
)
def test_another_allocator_is_named(start, library, name):
    """A process whose blocks kwatch cannot list is not called clean."""
    found = sorted(Path("/usr/lib").glob(f"*-linux-gnu/{library}.so.[0-9]"))[0]
    target = start("sleepers", 1, environment={"LD_PRELOAD": str(found)})
    done = run("--pid", target.pid, "--json", "--fail-on-leak")
    assert (done.returncode, "1 process could not be judged" in done.stderr) == (0, True)
    report = json.loads(done.stdout)
    assert report["verdict"] == "unsure"
    its_allocator = f"its allocator is {name} ({library}.so"
    assert its_allocator in report["reason"]
    for question in (("--why", "0x1000"), ("--who", "200"), ("--who", "Class")):
        sentence, cure = refused("--pid", target.pid, *question)
        assert "that kwatch can list" in sentence
        assert its_allocator in cure


@pytest.mark.needs("musl")
@pytest.mark.parametrize("flags", [(), ("-static",)], ids=["dynamic", "static"])
def test_the_allocator_of_musl_is_named(start, program, flags):
    target = start(program("sleepers", *flags, compiler="musl-gcc"), 1)
    report = leaks(target.pid)
    assert (report["verdict"], "musl's malloc" in report["reason"]) == ("unsure", True)


def test_a_stopped_process_is_searched_in_one_scan(start, holders):
    """Three if something is lost. It runs afterwards."""
    target = start("getppid")
    before = time.monotonic()
    reach = leaks(target.pid, "--stop")["heap"]["reach"]
    assert reach["scans"] == 1
    assert 0 < reach["stopped_s"] < time.monotonic() - before
    assert target.go()
    leaking, _ = holders
    found = leaks(leaking.pid, "--stop")["heap"]["reach"]
    assert (found["scans"], found["definite"]) == (3, {"blocks": 5, "bytes": 1000})
    assert ", stopped for " in run("--pid", leaking.pid, "--stop").stdout
    assert thread_state(leaking.pid, leaking.pid) == "S"


def test_a_process_that_cannot_be_stopped_is_refused(start):
    target = start("getppid")
    os.kill(target.pid, signal.SIGSTOP)
    wait_until(lambda: thread_state(target.pid, target.pid) == "T")
    sentence, cure = refused("--pid", target.pid, "--stop")
    assert "a signal has stopped it already" in sentence
    assert "leave out --stop" in cure
    assert leaks(target.pid)["verdict"] == "clean"  # nothing else needs it to run
    os.kill(target.pid, signal.SIGCONT)


@pytest.mark.needs("g++")
def test_groups_have_their_class_and_on_request_their_text(start):
    target = start("classes", "lost")
    groups = leaks(target.pid)["heap"]["groups"]
    lost = {group["type"]: group["blocks"] for group in groups if group["class"] == "definite"}
    assert lost["shapes::Square"] == 3
    assert lost["(anonymous namespace)::Hidden"] == 1
    assert {group["content"] for group in groups} == {None}
    assert "a line of text" not in run("--pid", target.pid).stdout
    shown = leaks(target.pid, "--content")["heap"]["groups"]
    assert [group["content"] for group in shown if group["size"] == 200] == ["a line of text"]
    assert '"a line of text"' in run("--pid", target.pid, "--content").stdout
