# SPDX-License-Identifier: Apache-2.0
"""The heap scanner: a separate process that reads the memory of traced processes.

A scan takes up to seconds, in which kwatch has to read its rings.
"""

from __future__ import annotations

import signal
import socket


def serve(descriptor: str) -> None:
    """Serves a socket that the parent has created. Exits with the parent."""
    from kwatch.reach.scan_server import Server  # kwatch itself never needs it

    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # the OOM killer takes this process first
    with socket.socket(fileno=int(descriptor)) as sock:
        Server(sock).run()
