# SPDX-License-Identifier: Apache-2.0
"""The blocks of a Python program whose objects come from malloc: it holds them all but one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from kwatch.model.reach import Reach
from kwatch.reach.live_scan import scan_live

OBJECTS = """
import ctypes, gc, sys

class Plain:
    def __init__(self, number):
        self.first, self.second = number, [str(number)]

class Slots:
    __slots__ = ("value",)

    def __init__(self, number):
        self.value = (number, str(number))

held = [[Plain(n), Slots(n), {str(n): (n,)}, (lambda: n), {n}] for n in range(5000)]
gc.collect()
allocate = ctypes.CDLL(None).malloc
allocate.restype = ctypes.c_void_p
lost = allocate(1000)
print("hidden", ~lost)
lost = None
print("tracked", len(gc.get_objects()))
print("ready", flush=True)
sys.stdin.readline()
"""


def test_objects_are_reachable_behind_their_heads(start):
    """In a third of the blocks, the object follows a head of the garbage collector."""
    python = Path(sys.executable)
    target = start(python, "-c", OBJECTS, environment={"PYTHONMALLOC": "malloc"})
    found = scan_live(target.pid, None).scan
    counts = np.bincount(found.classes, minlength=len(Reach)).tolist()
    assert counts[Reach.REACHABLE] > target.answers["tracked"]
    assert counts[Reach.POSSIBLE] < 10
    lost = found.layout.starts[found.classes >= Reach.INDIRECT].tolist()
    assert lost == [~target.answers["hidden"]]
