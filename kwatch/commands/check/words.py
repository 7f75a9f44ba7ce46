# SPDX-License-Identifier: Apache-2.0
"""What an error says of the address, in valgrind's words."""

from __future__ import annotations

from kwatch.memory_errors.judge import Proof
from kwatch.memory_errors.suspects import Suspect
from kwatch.model.heap_error import ErrorKind

_MISMATCHES = (Proof.KIND, Proof.ALLOCATOR)


def kind_of(proof: Proof) -> ErrorKind:
    return ErrorKind.MISMATCHED_FREE if proof in _MISMATCHES else ErrorKind.INVALID_FREE


def message_of(suspect: Suspect, proof: Proof, variable: str) -> str:
    """`variable`: the one that the address is in; empty if it is in none that has a name."""
    place = f", but in the data symbol {variable}" if variable else ""
    address = f"Address {suspect.address:#x}"
    if proof is Proof.STACK:
        return f"{address} is on the stack of the main thread"
    if proof is Proof.MAPPED:
        return f"{address} is in memory that the program has mapped itself"
    if proof is Proof.NO_BLOCK:
        return f"{address} is not the address of a block{place}"
    if proof is Proof.CHUNK_FREE:
        return f"{address} is a block that the C library has free already"
    block = suspect.block
    assert block is not None
    offset = f"{suspect.address - block.address:,} bytes inside a block"
    if not block.allocated:
        return f"{address} is {offset} from before the attach, free'd"
    state = "alloc'd" if proof is not Proof.FREED else "free'd"
    moved = " by realloc" if block.by_realloc and proof is Proof.FREED else ""
    return f"{address} is {offset} of size {block.size:,} {state}{moved}"
