# SPDX-License-Identifier: Apache-2.0
"""Runs the chosen tests on the chosen kernels, two guests at a time, and prints one table."""

from __future__ import annotations

import argparse
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event

from harness import builder, exchange, programs

from vm.cache import Cache, Guest, default_directory
from vm.compilers import CrossCompiler
from vm.guest import Ending, emulator, run
from vm.kernels import CHECKOUT, Kernel, kernels, names_of
from vm.provision import provision
from vm.report import RUNNING, Outcome, Result, read_outcomes, table

_SELECTION = CHECKOUT / "tests" / "guests.txt"
_PATIENCE = 6  # multiplies the deadlines of the tests
_SIDE_BY_SIDE = 2
_LIMIT = 1500  # seconds per guest, several times what one takes on a quiet machine
_STACKS_AFTER = 300  # seconds: a test that takes longer shows where it waits
_SEEN_BY_GUESTS = ("bpf", "kwatch", "tests", "tools", "pyproject.toml")


def main() -> int:
    """Returns 0 if every test passed or was skipped on every kernel."""
    arguments = _arguments()
    if arguments.setup:
        return provision()
    try:
        chosen = _chosen(arguments.kernels, arguments.short)
    except LookupError as error:
        print(f"vm: {error.args[0]}")
        return 2
    tests = arguments.test or selection(arguments.short)
    with tempfile.TemporaryDirectory(prefix="kwatch-vm-") as directory:
        checkout = _copy(Path(directory))
        results = _test_all(chosen, partial(_test, tests, checkout, arguments))
    good = all(result.good or (arguments.run and result.ending.status == 0) for result in results)
    print(table(results) if not arguments.run else "")
    print(f"{len(results)} kernels: {'as they should be' if good else 'NOT as they should be'}")
    return 0 if good else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/vm", description=__doc__)
    parser.add_argument("kernels", nargs="*", help="names in tests/kernels.txt; all without any")
    parser.add_argument("--short", action="store_true", help="few tests on two kernels, as in CI")
    parser.add_argument("--test", action="append", help="a test's id, in place of the list's")
    parser.add_argument("--run", help="a shell command, in place of the tests")
    parser.add_argument("--setup", action="store_true", help="tools/setup in a fresh Debian")
    parser.add_argument("--limit", type=float, help=f"seconds for one guest ({_LIMIT})")
    parser.add_argument("--cache", type=Path, default=default_directory())
    return parser.parse_args()


def _chosen(names: Sequence[str], short: bool) -> list[Kernel]:
    """The kernels of these names; without names all, or the short list of CI."""
    known = {kernel.name: kernel for kernel in kernels()}
    for name in names:
        if name not in known:
            raise LookupError(f"no kernel {name} in tests/kernels.txt: {', '.join(known)}")
    if names:
        return [known[name] for name in names]
    return [kernel for kernel in known.values() if kernel.short or not short]


def selection(short: bool) -> list[str]:
    """The test ids of tests/guests.txt."""
    lines = [line.split() for line in _SELECTION.read_text().splitlines()]
    rows = [line for line in lines if line and not line[0].startswith("#")]
    return [row[0] for row in rows if not short or "short" in row[1:]]


def _copy(place: Path) -> Path:
    """A copy of the checkout for the guests, so that work on it can go on."""
    for name in _SEEN_BY_GUESTS:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, place / name)
    return place


def _test_all(chosen: Sequence[Kernel], test: Callable[[Event, Kernel], Result]) -> list[Result]:
    """An interrupt ends the running guests and boots no more."""
    stop = Event()
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        work = [pool.submit(_guarded, test, stop, kernel) for kernel in chosen]
        try:
            return [future.result() for future in work]
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _guarded(test: Callable[[Event, Kernel], Result], stop: Event, kernel: Kernel) -> Result:
    """An error on one kernel is reported and does not stop the others."""
    try:
        return test(stop, kernel)
    except Exception as error:
        reason = f"could not be tested: {type(error).__name__}: {error}"
        _say(kernel, reason)
        return Result(kernel.name, Ending(None, 0.0, 0.0, reason), "")


def _test(
    tests: Sequence[str],
    checkout: Path,
    arguments: argparse.Namespace,
    stop: Event,
    kernel: Kernel,
) -> Result:
    guest = Cache(arguments.cache, lambda text: _say(kernel, text)).guest(kernel)
    with tempfile.TemporaryDirectory(prefix="kwatch-vm-") as directory:
        work = Path(directory)
        (work / "build").mkdir()
        (work / "exchange").mkdir()
        (work / "command").write_text(arguments.run or _command(tests))
        _say(kernel, "boots")
        attend = _attendant(kernel, guest, work, arguments.cache)
        limit = arguments.limit or _LIMIT
        ending = run(emulator(guest, checkout, work), work, attend, limit, stop)
        output = work / "output"
        text = output.read_text(errors="replace") if output.exists() else ""
        if arguments.run:
            print(text)
        result = Result(kernel.name, ending, text, read_outcomes(work / "report"))
        result.outcomes |= _read_here(kernel, work / "exchange")
        how = "died" if ending.status is None else "ended"
        _say(kernel, f"{how} in {ending.seconds:.0f} s, {ending.cpu_seconds:.0f} s of CPU")
        if ending.status is None:
            _say(kernel, ending.trouble)
        return result


def _read_here(kernel: Kernel, directory: Path) -> dict[str, Outcome]:
    """Checks a guest's reports on the host: counts, and names that the guest's machine has."""
    known = names_of(kernel.architecture.machine)
    outcomes = {}
    for report in exchange.saved(directory):
        found = list(exchange.mismatches(report, known))
        outcome = Outcome("failed" if found else "passed", "; ".join(found), 0.0)
        outcomes[f"{report.stem}'s report, read on {platform.machine()}"] = outcome
    return outcomes


def _command(tests: Sequence[str]) -> str:
    environment = {
        "KWATCH_PATIENCE": str(_PATIENCE),
        "KWATCH_REPORT": "/work/report",
        "KWATCH_REQUIRE_KERNEL": "1",
        exchange.VARIABLE: "/work/exchange",
        builder.VARIABLE: "/work/build",
    }
    exports = "".join(f"export {name}={value}\n" for name, value in environment.items())
    options = f"-o cache_dir=/tmp/pytest -o faulthandler_timeout={_STACKS_AFTER}"
    return f"{exports}python3 -m pytest -q {options} {shlex.join(tests)}\n"


def _attendant(kernel: Kernel, guest: Guest, work: Path, cache: Path) -> Callable[[], None]:
    """Serves a running guest: compiles for it and prints which tests have ended."""
    place = cache / f"programs-{kernel.architecture.debian}"
    compiler = CrossCompiler(kernel.architecture, guest.root, place)
    seen: set[str] = set()

    def attend() -> None:
        builder.serve(work / "build", programs.SOURCES, compiler)
        for name, outcome in read_outcomes(work / "report").items():
            if name not in seen and outcome.outcome != RUNNING:
                seen.add(name)
                _say(kernel, f"{outcome.outcome} {name} {outcome.seconds:.0f} s {outcome.why}")

    return attend


def _say(kernel: Kernel, text: str) -> None:
    sys.stdout.write(f"{kernel.name:12} {text}".rstrip() + "\n")  # one write: guests run in threads
    sys.stdout.flush()
