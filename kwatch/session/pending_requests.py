# SPDX-License-Identifier: Apache-2.0
"""The requests of io_uring that have not been completed: see bpf/io_uring.bpf.c."""

from __future__ import annotations

import os
import time

import numpy as np

from kwatch.kernel import bpf
from kwatch.wire.events import NO_PIECE, Abi, Batch, EventType
from kwatch.wire.maps import IoRequest

_SKIPS_SUCCESS = 1 << 6  # IOSQE_CQE_SKIP_SUCCESS: it may have been done
_ABI = Abi.AARCH64 if os.uname().machine == "aarch64" else Abi.X86_64


def requests_in_progress(requests: bpf.Map, dtype: np.dtype[np.void]) -> Batch:
    """As records of the type CALL, in the order of their submission.

    Without those of processes that have ended, whose completions were lost.
    """
    held = [IoRequest.from_buffer_copy(value) for _, value in requests.items()]
    alive = {pid for pid in {each.tgid for each in held} if os.path.exists(f"/proc/{pid}")}
    found = [
        each
        for each in sorted(held, key=lambda request: request.time_ns)
        if not each.is_copy and not each.flags & _SKIPS_SUCCESS and each.tgid in alive
    ]
    now = time.monotonic_ns()
    events = np.zeros(len(found), dtype)
    for event, request in zip(events, found, strict=True):
        event["type"], event["abi"] = EventType.IO_IN_PROGRESS, _ABI
        event["nr"], event["comm"] = request.opcode, request.comm
        event["tgid"], event["tid"] = request.tgid, request.tid
        event["entry_tid"], event["pieces"] = request.tid, NO_PIECE
        event["time_ns"], event["duration_ns"] = now, now - request.time_ns
        event["arguments"][:2] = request.user_data, request.flags
    return events
