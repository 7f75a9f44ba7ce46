# SPDX-License-Identifier: Apache-2.0
"""A start that fails or is interrupted leaves nothing behind and runs no command."""

from __future__ import annotations

import os
import pkgutil
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from kwatch.cli import _parse
from kwatch.commands.startup import program_config
from kwatch.commands.watch.command import options_from
from kwatch.errors import KwatchError
from kwatch.programs.loader import Loader
from kwatch.system.signals import Signals
from kwatch.targets import processes

DEADLINE = 30.0


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def of_session(leader):
    """Processes in the session of `leader`, without zombies."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.cmdline())
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("children", [1, 2], ids=["compiling", "launching"])
def test_a_signal_before_it_is_attached(tmp_path, number, children):
    """The first child compiles; the second is the command, which waits before its exec."""
    ran = tmp_path / "ran"
    kwatch = subprocess.Popen(
        [sys.executable, "-m", "kwatch", "--", "touch", ran],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    process = psutil.Process(kwatch.pid)
    wait_until(lambda: len(process.children()) >= children)
    kwatch.send_signal(number)
    stdout, stderr = kwatch.communicate(timeout=DEADLINE)
    assert kwatch.returncode == 128 + number
    assert stderr == f"kwatch: ended by {signal.Signals(number).name}; nothing was traced\n"
    assert stdout == ""
    assert not ran.exists()
    assert of_session(kwatch.pid) == []


def test_ctrl_c_while_python_still_imports(tmp_path):
    """The signal comes before anything is set up; there is no traceback."""
    ran = tmp_path / "ran"
    kwatch = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "kwatch", "--", "touch", ran],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    line = next(line for line in kwatch.stderr if line.endswith(" argparse\n"))
    kwatch.send_signal(signal.SIGINT)
    _, stderr = kwatch.communicate(timeout=DEADLINE)
    assert kwatch.returncode in (-signal.SIGINT, 128 + signal.SIGINT), line
    assert "Traceback" not in stderr
    assert not ran.exists()
    assert of_session(kwatch.pid) == []


def test_nothing_compiles_on_when_kwatch_is_killed():
    kwatch = subprocess.Popen(
        [sys.executable, "-m", "kwatch", "--", "sleep", "1000"],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    process = psutil.Process(kwatch.pid)
    wait_until(lambda: len(process.children()) == 2)
    children = process.children()
    kwatch.kill()
    kwatch.wait(DEADLINE)
    _, alive = psutil.wait_procs(children, timeout=DEADLINE)
    assert not alive


def descriptors():
    """Open files of this process, without the descriptor that lists them."""
    paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return {path: os.readlink(path) for path in paths if os.path.lexists(path)}


def failing(*arguments, **named):
    raise KwatchError("made to fail")


@pytest.fixture
def signals():
    """kwatch blocks signals; pytest's own mask is restored afterwards."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    opened = Signals()
    yield opened
    os.close(opened.fileno())
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@pytest.mark.parametrize(
    "part",
    [
        "commands.watch.loop.Output",
        "session.live.Launched",
        "session.tracer.Stream",
        "session.tracer.Attacher",
        "session.tracer.tracepoints.attach",
        "session.live.Session",
        "commands.watch.loop.Reporter",
        "session.live.Connector",
        "session.live.program_files",
    ],
)
def test_a_start_that_fails_closes_what_it_opened(monkeypatch, signals, tmp_path, part):
    from kwatch.commands.watch.loop import Watch

    ran = tmp_path / "ran"
    arguments = ["--json", "--output", str(tmp_path / "report"), "--comm", "no such"]
    traced, report = options_from(_parse("watch", [*arguments, "--", "touch", str(ran)]))
    monkeypatch.setattr(f"kwatch.{part}", failing)
    before = descriptors()
    with pytest.raises(KwatchError, match="made to fail"):
        Watch(traced, report, Loader(program_config(traced)), signals)
    assert descriptors() == before
    assert psutil.Process().children() == []
    assert not ran.exists()


def test_a_target_that_has_gone_is_a_failed_start(signals):
    from kwatch.commands.watch.loop import Watch

    with subprocess.Popen(["true"]) as gone:
        pass
    assert processes.facts(gone.pid) is None
    traced, report = options_from(_parse("watch", ["--pid", str(gone.pid)]))
    before = descriptors()
    with pytest.raises(KwatchError, match="no process"):
        Watch(traced, report, Loader(program_config(traced)), signals)
    assert descriptors() == before
    assert psutil.Process().children() == []


@pytest.mark.parametrize(
    "moment",
    [
        "commands.watch.loop.Output",
        "session.live.Tracer",
        "session.live.Session",
        "session.attaching.Attaching.attach",
    ],
)
def test_a_target_that_ends_during_the_start_is_a_failed_start(
    monkeypatch, capsys, signals, tmp_path, moment
):
    """At each moment of the start there is one error and no report.

    At the last moment the process has been probed already.
    """
    from kwatch.commands.watch.loop import Watch

    file = tmp_path / "report"
    target = subprocess.Popen(["sleep", "1000"])
    step = pkgutil.resolve_name(f"kwatch.{moment}")

    def ending(*arguments, **named):
        done = step(*arguments, **named)
        target.kill()
        target.wait()
        return done

    arguments = ["--json", "--output", str(file), "--pid", str(target.pid)]
    traced, report = options_from(_parse("watch", arguments))
    monkeypatch.setattr(f"kwatch.{moment}", ending)
    # The output is opened before the process is looked up for good.
    is_unknown = moment.endswith(".Output")
    gone = f"there is no process {target.pid}"
    ended = f"process {target.pid} (sleep) ended before kwatch was attached to it"
    with pytest.raises(KwatchError, match=f"^{re.escape(gone if is_unknown else ended)}$"):
        Watch(traced, report, Loader(program_config(traced)), signals)
    assert file.read_text() == ""
    assert capsys.readouterr().err == ""


WITHOUT_UPROBES = """
import sys
from kwatch.kernel import perf
from kwatch.programs import loader
perf._UPROBE_PMU = "/no/such/device"
loader.attach_methods_here = lambda perf_uprobes: loader.AttachMethods(False, False)
from kwatch.cli import main
sys.exit(main(["--comm", "no such"]))
"""


def test_a_heap_that_cannot_be_probed_is_a_failed_start():
    """One error, not a running trace that reports each function as refused."""
    command = [sys.executable, "-c", WITHOUT_UPROBES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "no perf uprobes" in done.stderr
    assert "--no-heap" in done.stderr


def test_a_bug_amid_a_batch_is_told_as_it_is(signals, tmp_path):
    """The traceback holds views of the rings; closing the rings still works."""
    from kwatch.commands.watch.loop import Watch

    arguments = ["--json", "--output", str(tmp_path / "report"), "--duration", "0.1", "--pid"]
    traced, report = options_from(_parse("watch", [*arguments, str(os.getppid())]))
    watch = Watch(traced, report, Loader(program_config(traced)), signals)

    def apply(drained):
        raise ZeroDivisionError(len(drained.unordered))

    watch._live.session.apply = apply
    with pytest.raises(ZeroDivisionError):
        watch.run()
