# SPDX-License-Identifier: Apache-2.0
"""System-wide probes: each file is probed once, as the code in the processes' memory shows.

The processes use a private copy of libc, so that no other program on the machine is probed.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict

import pytest
from harness.breakpoints import malloc_of

from kwatch.kernel import bpf, bpf_features
from kwatch.kernel.perf import EVERY_PROCESS
from kwatch.probes.attach import Attacher, ProcessGone
from kwatch.probes.coverage import Coverage, HeapProbes
from kwatch.probes.finder import AllocatorFinder
from kwatch.procfs.mappings import read_mappings
from kwatch.programs.loader import Programs
from kwatch.programs.source import AttachMethods
from kwatch.session.tracees import files_of


@pytest.fixture(params=["links", "events"])
def attacher(request):
    """An attacher with empty programs, for each attach method."""
    links = request.param == "links"
    if links and not bpf_features.has_uprobe_links():
        pytest.skip("this kernel has no uprobe links")
    kind = bpf.TRACE_UPROBE_MULTI if links else 0
    empty = bpf.load_program("empty", bpf.RETURN_ZERO, bpf.PROG_TYPE_KPROBE, kind)
    made = Attacher(Programs({}, defaultdict(lambda: empty), AttachMethods(links, False)))
    yield made
    made.close()
    os.close(empty)


@pytest.fixture
def probes(attacher):
    return HeapProbes(attacher, ())


@pytest.fixture
def libc():
    """The path of this process's libc."""
    return next(m.path for m in read_mappings(os.getpid()) if "libc.so" in m.path)


def with_own_libc(prepare, libc):
    """Runs a program in a mount namespace in which a file that `prepare` makes is its libc."""
    script = f'{prepare} && mount --bind "$libc" {libc} && exec "$0" "$@"'
    return ("unshare", "--mount", "sh", "-c", script)


def copied(libc, path):
    return with_own_libc(f"libc={path} && cp {libc} $libc", libc)


def from_layers(libc, layers, mounted):
    """Mounts an overlay of layers that other processes may share."""
    mount = f"mount -t overlay -o lowerdir={layers} overlay {mounted}"
    return with_own_libc(f"{mount} && libc={mounted}/{os.path.basename(libc)}", libc)


def mapped_files(target):
    return list(files_of(target.pid, read_mappings(target.pid)))


def test_equalfiles_of_two_containers(start, probes, libc, tmp_path):
    first, second = (
        start("leaky", prefix=copied(libc, tmp_path / name)) for name in ("first", "second")
    )
    system, unprobed = Coverage(EVERY_PROCESS), malloc_of(second.pid)
    for target in (first, second):
        assert unprobed.is_untouched()
        (line,) = probes.probe(system, mapped_files(target))
        assert line.endswith(f"functions of {libc}")
        assert not malloc_of(target.pid).is_untouched()
    assert (system.nothing_found, system.own_gap) == ("", "")


def test_containers_that_share_a_layer(start, probes, libc, tmp_path):
    """Each overlay has its own device number. Probing the file twice would count frees twice."""
    for name in ("layer", "empty", "first", "second"):
        (tmp_path / name).mkdir()
    shutil.copy(libc, tmp_path / "layer")
    layers = f"{tmp_path}/layer:{tmp_path}/empty"
    first, second = (
        start("leaky", prefix=from_layers(libc, layers, tmp_path / name))
        for name in ("first", "second")
    )
    system = Coverage(EVERY_PROCESS)
    assert len(probes.probe(system, mapped_files(first))) == 1
    assert not malloc_of(second.pid).is_untouched()
    assert probes.probe(system, mapped_files(second)) == []


def test_a_process_that_dies_while_it_leads_to_a_file(start, attacher, libc, tmp_path):
    target = start("leaky", prefix=copied(libc, tmp_path / "libc"))
    finder = AllocatorFinder()
    found = {file.path: finder.find(*file[:3]) for file in mapped_files(target)}
    ((path, allocator),) = [item for item in found.items() if item[1]]
    target.kill()
    with pytest.raises(ProcessGone):
        attacher.attach(EVERY_PROCESS, path, allocator)
