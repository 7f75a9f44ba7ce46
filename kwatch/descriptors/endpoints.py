# SPDX-License-Identifier: Apache-2.0
"""The addresses of a socket, from its calls and from the source."""

from __future__ import annotations

import re

from kwatch.descriptors.file import File, Socket
from kwatch.descriptors.source import Endpoints, Source

_INODE = re.compile(r"socket:\[(\d+)\]")


def inode_of(file: File) -> int:
    """0 if it is unknown."""
    found = _INODE.match(file.text or "")
    return int(found[1]) if found else 0


def endpoints(state: Socket, inode: int, source: Source) -> Endpoints | None:
    """Those of a bound or connected socket; None if they are unknown."""
    if state.protocol.startswith("UNIX"):
        return _unix(state, inode, source)
    if state.local and state.protocol and (state.peer or not state.is_connected):
        return Endpoints(state.protocol, state.local, state.peer)
    found = source.endpoints(inode) if inode else None
    if found is None:
        return None
    peer = (state.peer or found.peer) if state.is_connected else ""
    return found._replace(local=state.local or found.local, peer=peer)


def _unix(state: Socket, inode: int, source: Source) -> Endpoints | None:
    if not inode:
        return None
    other = inode_of(state.other) if state.other is not None else 0
    peer, path = str(other) if other else "", state.path
    if not peer and (state.is_connected or not path):
        found = source.endpoints(inode)
        if found is not None:
            peer, path = found.peer if state.is_connected else "", path or found.path
    return Endpoints(state.protocol, str(inode), peer, path) if peer or path else None
