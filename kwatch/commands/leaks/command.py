# SPDX-License-Identifier: Apache-2.0
"""Finds the memory that running processes have lost already: blocks to which no pointer leads.

The processes are not traced, stopped or changed. Their heaps are read from the C library's own
structures, so leaks from before show too, but without the stacks that allocated them."""

from __future__ import annotations

import argparse

from kwatch.commands.target_options import pids_from
from kwatch.errors import ExitCode, KwatchError, UsageError
from kwatch.model.process import ProcessFacts
from kwatch.model.snapshot import Verdict
from kwatch.system import stdio
from kwatch.units import counted, parse_size

SUMMARY = "find the memory that running processes have lost already, at once"

EXAMPLES = """\
examples:
  kwatch leaks --pid 1234           list what process 1234 has lost
  kwatch leaks --pid 1234 --why 0x55d0c0de1010
                                    show what still holds a block
  kwatch leaks --pid 1234 --who 4096
                                    show what holds all blocks of 4,096 bytes

exit status: 0 done, 3 with --fail-on-leak: something is lost, 1 a process could not be searched
"""


IF_INTERRUPTED = " before the search was complete"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    target = parser.add_argument_group("target")
    target.add_argument(
        *("-p", "--pid"),
        action="append",
        default=[],
        metavar="PID[,PID]",
        help="search running processes",
    )
    target.add_argument(
        "--comm",
        action="append",
        default=[],
        metavar="GLOB",
        help="search every process whose comm or executable name matches now",
    )
    target.add_argument(
        "--stop",
        action="store_true",
        help="stop each process while it is scanned: fewer scans are enough, but calls that wait "
        "can return EINTR",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print one JSON object per process")
    output.add_argument(
        "--blocks", action="store_true", help="list every block in JSON, the reachable ones too"
    )
    output.add_argument(
        "--content",
        action="store_true",
        help="show the text, up to 32 bytes, with which the first block of each group begins",
    )
    output.add_argument(
        "--why", metavar="ADDRESS", help="show what holds the block at this address instead"
    )
    output.add_argument(
        "--who",
        metavar="SIZE|CLASS",
        help="show what holds all blocks of this size, or all objects of this C++ class, instead",
    )
    output.add_argument(
        "--top",
        type=int,
        default=10,
        metavar="N",
        help="list the N largest groups of blocks, or holders (default: %(default)s)",
    )
    output.add_argument(
        "--fail-on-leak", action="store_true", help="exit with status 3 if something is lost"
    )


def run(arguments: argparse.Namespace) -> int:
    from kwatch.kernel import privileges
    from kwatch.targets.processes import now as still

    _check(arguments)
    address = None if arguments.why is None else _address(arguments.why)
    for require in privileges.REQUIRED.values():
        require()
    verdicts, has_failed, named = [], False, set(pids_from(arguments.pid))
    found = _processes(arguments)
    for facts in found:
        try:
            verdicts.append(_search(facts, arguments, address))
        except KwatchError as error:
            if facts.pid in named or still(facts) is not None:
                stdio.say_error(error)
                has_failed = True
    if not verdicts and not has_failed:
        raise _all_ended(len(found), arguments.comm)
    if arguments.fail_on_leak and Verdict.LEAK in verdicts:
        return ExitCode.LEAK
    if arguments.fail_on_leak and (unsure := verdicts.count(Verdict.UNSURE)):
        processes = counted(unsure, "process", "processes")
        stdio.say(f"kwatch: --fail-on-leak: no leak found, but {processes} could not be judged")
    return ExitCode.FAILED if has_failed else ExitCode.DONE


def _all_ended(count: int, patterns: list[str]) -> KwatchError:
    """Processes that end before they are searched are an error only if nothing else is left."""
    processes = counted(count, "process", "processes")
    return KwatchError(
        f"{processes} named {' or '.join(patterns)} ended before the search",
        "to see what a program loses until its end, launch it: kwatch -- COMMAND",
    )


def _search(
    facts: ProcessFacts, arguments: argparse.Namespace, address: int | None
) -> Verdict | None:
    """Writes what is found in one process. Raises KwatchError."""
    from kwatch.commands.leaks.report import Wanted, leak_report
    from kwatch.commands.leaks.search import scanned
    from kwatch.commands.leaks.who import holders as holders_of
    from kwatch.commands.leaks.why import holder_path
    from kwatch.sinks import holders, leaks

    found = scanned(facts, arguments.stop)
    if address is not None:
        path = holder_path(facts, found, address)
        stdio.write(holders.json_line(path) + "\n" if arguments.json else holders.text(path))
        return None
    if arguments.who is not None:
        sums = holders_of(facts, found, arguments.who)
        is_json, top = arguments.json, arguments.top
        stdio.write(
            holders.sums_json_line(sums) + "\n" if is_json else holders.sums_text(sums, top)
        )
        return None
    wanted = Wanted(arguments.top, arguments.blocks, arguments.content)
    report = leak_report(facts, found, wanted)
    stdio.write(leaks.json_line(report) + "\n" if arguments.json else leaks.text(report))
    return report.verdict


def _check(arguments: argparse.Namespace) -> None:
    """Raises UsageError."""
    if not arguments.pid and not arguments.comm:
        raise UsageError("kwatch leaks needs a target", "add --pid PID or --comm NAME")
    if arguments.blocks and not arguments.json:
        raise UsageError("--blocks lists blocks in JSON only", "add --json")
    others = any((arguments.blocks, arguments.content, arguments.fail_on_leak))
    for option, shown in (("why", "one block"), ("who", "what holds blocks")):
        if getattr(arguments, option) is not None and others:
            cure = "drop --blocks, --content and --fail-on-leak"
            raise UsageError(f"--{option} shows {shown} only", cure)
    if arguments.why is not None and arguments.who is not None:
        raise UsageError("--why and --who show different things", "give one of them")
    if arguments.who == "":
        raise UsageError("--who '' is neither a size nor a class", "try --who 4096")
    if arguments.who is not None and arguments.who[:1].isdigit():
        parse_size(arguments.who)
    if arguments.top < 1:
        raise UsageError(f"--top {arguments.top} lists nothing", "try --top 10")


def _address(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        raise UsageError(f"--why {text!r} is not an address", "try --why 0x55d0c0de1010") from None


def _processes(arguments: argparse.Namespace) -> list[ProcessFacts]:
    """Raises KwatchError if there is none."""
    from kwatch.targets import globs, processes

    found, ended = processes.present(pids_from(arguments.pid), processes.require)
    for _, error in ended:
        stdio.say(f"kwatch: {error}; the others are searched")
    patterns = tuple(globs.check(pattern) for pattern in arguments.comm)
    for pid in sorted(processes.named(patterns)) if patterns else ():
        if pid not in {one.pid for one in found} and (facts := processes.facts(pid)) is not None:
            found.append(facts)
    if not found:
        raise KwatchError(
            f"no process is named {' or '.join(patterns)}", "list the running ones with `ps -e`"
        )
    return found
