# SPDX-License-Identifier: Apache-2.0
"""What is probed, of which file, in which processes; and what went unseen."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import time
from types import SimpleNamespace

import pytest

from kwatch.commands.watch import messages
from kwatch.kernel import bpf, perf
from kwatch.kernel.perf import EVERY_PROCESS
from kwatch.model.options import Returns
from kwatch.probes.attach import Attacher
from kwatch.probes.coverage import Coverage, HeapProbes, MappedFile
from kwatch.probes.exits import Exit
from kwatch.probes.finder import Allocator, AllocatorFinder, Probe
from kwatch.procfs.mappings import read_mappings
from kwatch.programs.source import AttachMethods
from kwatch.wire.allocators import ALLOCATOR_FUNCTIONS
from kwatch.wire.maps import COOKIE_FILE_SHIFT

SHOWN = "/usr/lib/libc.so.6"
PID = 41


class Links:
    """Stands in for the kernel's uprobe links."""

    def __init__(self):
        self.opened = {}
        self.closed = set()
        self.flags = []
        self.cookies = []
        self.refuses = lambda path, offsets, flags: 0

    def open(self, program, path, offsets, cookies, pid, flags):
        if not os.path.exists(path):
            raise OSError(errno.ENOENT, "No such file or directory")
        if refusal := self.refuses(path, offsets, flags):
            raise OSError(refusal, os.strerror(refusal))
        self.flags.append(flags)
        self.cookies += cookies
        fd = len(self.opened) + 1000
        self.opened[fd] = path
        return fd

    def paths(self):
        return sorted({path for fd, path in self.opened.items() if fd not in self.closed})


@pytest.fixture
def links(monkeypatch):
    fake = Links()
    monkeypatch.setattr(bpf, "link_uprobes", fake.open)
    monkeypatch.setattr(
        "kwatch.probes.attach.os",
        SimpleNamespace(path=os.path, readlink=os.readlink, close=fake.closed.add),
    )
    return fake


@pytest.fixture
def attacher(links):
    programs = {f"heap_{kind}": 0 for kind in ("entry", "return", "exit")}
    made = Attacher(SimpleNamespace(programs=programs, attach_methods=AttachMethods(True, False)))
    made._closers.shutdown()
    made._closers = SimpleNamespace(submit=lambda close, fd: close(fd))
    return made


@pytest.fixture
def probes(attacher):
    return HeapProbes(attacher, ())


@pytest.fixture
def libc(tmp_path):
    """libc(NAME): a copy of this process's libc, as a container has it at the same path."""
    own = next(m.path for m in read_mappings(os.getpid()) if "libc.so" in m.path)

    def copy(name):
        path = shutil.copy(own, tmp_path / name)
        status = os.stat(path)
        return MappedFile((status.st_dev, status.st_ino), str(path), SHOWN)

    return copy


def test_equal_files_of_two_containers_are_both_probed(probes, links, libc):
    system, files = Coverage(EVERY_PROCESS), [libc("host"), libc("container")]
    assert len(probes.probe(system, [*files, *files])) == 2
    assert links.paths() == sorted(file.path for file in files)


def test_one_process_has_a_file_once_whatever_identities_it_has(probes, links, libc):
    files = [libc("lower"), libc("upper")]
    assert len(probes.probe(Coverage(PID), files)) == 1
    assert links.paths() == [files[0].path]


def test_one_process_can_do_without_return_probes(probes, links, libc):
    """All others keep them; the same file is examined for both ways."""
    file = libc("file")
    (usual,) = probes.probe(Coverage(PID), [file])
    assert bpf.UPROBE_MULTI_RETURN in links.flags
    links.flags.clear()
    (forced,) = probes.probe(Coverage(PID + 1, returns=Returns.RET), [file])
    assert forced == usual
    assert set(links.flags) == {0}


def test_what_ends_blocks_is_probed_before_what_begins_them(probes, links, libc):
    """A running program calls the functions meanwhile."""
    probes.probe(Coverage(PID), [libc("file")])
    functions = [ALLOCATOR_FUNCTIONS[cookie & 0xFF] for cookie in links.cookies]
    free = next(at for at, function in enumerate(functions) if function.name == "free")
    turns = [function.turn for function in functions[free:]]
    assert turns == sorted(turns)
    assert set(turns) == {0, 1, 2}


def test_each_file_of_each_process_has_a_number_of_its_own(probes, links, libc):
    called = {}
    probes._attacher._programs.maps = {"called_files": SimpleNamespace(get=called.get)}
    first, second = Coverage(PID), Coverage(PID + 1)
    for coverage in (first, second):
        probes.probe(coverage, [libc("file")])
    numbers = {cookie >> COOKIE_FILE_SHIFT & 0xFFFF for cookie in links.cookies}
    assert numbers == {1, 2}
    called |= {struct.pack("I", 1): b"\1", struct.pack("I", 2): b"\0"}
    assert probes.uncalled(first) == []
    (_, attached), *_ = second.attached()
    assert probes.uncalled(second) == [(SHOWN, len(attached.probes))]


def test_a_process_that_dies_first_spoils_nothing(probes, links, libc):
    """Its path leads nowhere when the kernel is given it; the next process's does."""
    system, dying, living = Coverage(EVERY_PROCESS), Coverage(PID), Coverage(PID + 1)
    file = libc("file")
    gone = file._replace(path=f"{file.path} of the dying")
    os.link(file.path, gone.path)

    def dies(path, offsets, flags):
        if path == gone.path and not flags:  # the returns are armed already
            os.unlink(path)
            return errno.ENOENT
        return 0

    links.refuses = dies
    assert probes.probe(system, [gone], dying) == []
    assert links.closed == set(links.opened) != set()
    assert not system.refused
    assert "ended before" in dying.own_gap
    assert dying.own_gap.count("kwatch --") == 2  # launch it, or trace every process
    dying.is_forked = True
    assert dying.own_gap.endswith("to trace all of it, trace every process (kwatch --heap)")
    assert probes.probe(system, [file], living) != []
    assert (system.nothing_found, system.own_gap, living.own_gap) == ("", "", "")


def test_a_function_that_the_kernel_refuses_is_not_counted(probes, links, libc):
    coverage, file = Coverage(PID), libc("file")
    everything = probes.probe(Coverage(PID + 1), [libc("all")])

    def refuses_first(path, offsets, flags):
        return errno.EINVAL if flags and first in offsets else 0

    allocator = AllocatorFinder().find(*file[:3])
    first = allocator.probes[0].offset
    links.refuses = refuses_first
    (line,) = probes.probe(coverage, [file])
    assert line == f"{len(allocator.probes) - 1} functions of {SHOWN}"
    assert everything == [f"{len(allocator.probes)} functions of {SHOWN}"]
    assert coverage.own_gap == "these functions could not be probed: malloc"
    tracees = SimpleNamespace(
        system=Coverage(EVERY_PROCESS),
        process_table=[SimpleNamespace(coverage=coverage)],
        unreadable=set(),
        unmatched_prefixes=[],
    )
    assert messages._coverage(tracees, []) == (
        f"{line}, not malloc "
        "(probably another tracer has a probe with a reference counter at the same place)"
    )


def test_each_allocator_of_a_process_is_counted_by_itself(attacher, libc, probes):
    file = libc("libc")
    probes.probe(Coverage(PID), [file])
    allocator = AllocatorFinder().find(*file[:3])
    again = attacher.attach(PID, file.path, allocator)
    assert again.probes == allocator.names


def test_what_ran_before_every_process_was_probed_there_missed_its_beginning(probes, libc):
    system = Coverage(EVERY_PROCESS)
    probes.probe(system, [libc("at the start")])
    system.late = True
    first, second, third, child = (Coverage(PID + i) for i in range(4))
    for process in (first, second):
        process.mapped_at(time.monotonic_ns())
    file = libc("found later")
    for process in (first, second):
        probes.probe(system, [file], process)
    for process in (third, child):
        process.mapped_at(time.monotonic_ns())
        probes.probe(system, [file, libc("at the start")], process)
    assert "were not recorded" in first.own_gap
    assert "were not recorded" in second.own_gap
    assert (third.own_gap, child.own_gap, system.own_gap) == ("", "", "")
    first.forget_program()
    first.mapped_at(time.monotonic_ns())
    probes.probe(system, [file], first)
    assert first.own_gap == ""


def test_a_new_image_that_ran_before_the_probes_came_missed_its_beginning(probes, libc):
    """A child that is probed after its exec, whose record comes afterwards."""
    child = Coverage(PID)
    child.mapped_at(forked_ns := time.monotonic_ns())
    file = libc("file")
    probes.probe(child, [file])
    child.forget_program()
    child.mapped_at(forked_ns + 1)
    probes.probe(child, [file])
    assert "were not recorded" in child.own_gap


def test_what_one_allocator_refuses_concerns_its_processes_alone(probes, links, libc):
    system, one, other = Coverage(EVERY_PROCESS), Coverage(PID), Coverage(PID + 1)
    probed, refusing = libc("probed"), libc("refusing")
    links.refuses = lambda path, offsets, flags: errno.EINVAL if path == refusing.path else 0
    probes.probe(system, [probed, refusing])
    probes.probe(system, [probed], one)
    probes.probe(system, [refusing], other)
    assert one.own_gap == ""
    assert other.own_gap.startswith("these functions could not be probed: ")


def test_the_cookie_of_a_perf_probe_at_an_exit_is_where_the_result_is(links, monkeypatch):
    """Not the function's, which the entries have."""
    attached = []
    monkeypatch.setattr(perf, "open_uprobe", lambda path, offset, pid, is_return: offset)
    monkeypatch.setattr(bpf, "link_event", lambda *link: attached.append(link) or 9)
    methods = AttachMethods(uprobe_links=False, perf_tracepoints=False, event_cookies=True)
    programs = {"heap_entry": 1, "heap_return": 2, "heap_exit": 3}
    perf_attacher = Attacher(SimpleNamespace(programs=programs, attach_methods=methods))
    function = next(row for row in ALLOCATOR_FUNCTIONS if row.throws)
    exits = (Exit(0x20), Exit(0x30, result_in_argument=True))
    probe = Probe("operator new", function, 0x10, cookie=0x1234, exits=exits)
    perf_attacher.attach(PID, SHOWN, Allocator(SHOWN, (probe,)))
    assert attached == [(3, 0x20, 0), (3, 0x30, 1), (1, 0x10, 0x1234)]
