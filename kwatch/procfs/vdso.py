# SPDX-License-Identifier: Apache-2.0
"""The vdso: code that the kernel maps into every process, and that no file contains."""

from __future__ import annotations

import os

from kwatch.errors import KwatchError
from kwatch.procfs.mappings import Mapping, read_mappings

VDSO = "[vdso]"
_END_OF_32_BITS = 1 << 32


def is_vdso(mapping: Mapping) -> bool:
    """Whether a mapping is the vdso of a 64-bit process; 32-bit processes have another one."""
    return mapping.path == VDSO and mapping.end >= _END_OF_32_BITS


def read_vdso() -> bytes | None:
    """The ELF image of kwatch's own vdso, None if it cannot be read.

    The kernel maps the same image into every 64-bit process.
    """
    try:
        own = next((each for each in read_mappings(os.getpid()) if each.path == VDSO), None)
        if own is None:
            return None
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            return os.pread(memory.fileno(), own.end - own.start, own.start)
    except (OSError, KwatchError):
        return None
