# SPDX-License-Identifier: Apache-2.0
"""Starts programs and kwatch for a test, and kills what the test leaves running."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from harness.programs import Programs
from harness.session import Session
from harness.target import Target

StartTarget = Callable[..., Target]
RunKwatch = Callable[..., Session]


@pytest.fixture(scope="session")
def program(pytestconfig: pytest.Config) -> Programs:
    """program(NAME, *FLAGS, compiler=...) builds tests/programs/NAME and returns its path."""
    assert pytestconfig.cache is not None
    return Programs(pytestconfig.cache.mkdir("programs"))


@pytest.fixture
def start(program: Programs) -> Iterator[StartTarget]:
    """start(NAME or path, *arguments, prefix=(), environment={}) returns a Target that is ready.

    `prefix` is a command that runs the program, such as unshare.
    """
    targets: list[Target] = []

    def start_target(
        name: str | Path,
        *arguments: str | int,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Target:
        path = name if isinstance(name, Path) else program(name)
        targets.append(Target([*prefix, path, *map(str, arguments)], environment))
        return targets[-1]

    yield start_target
    for target in targets:
        target.kill()


@pytest.fixture
def run_kwatch() -> Iterator[RunKwatch]:
    """run_kwatch(*arguments, script="") returns a Session that runs in the background."""
    sessions: list[Session] = []

    def run(*arguments: str | int | Path, script: str = "") -> Session:
        sessions.append(Session(*arguments, script=script))
        return sessions[-1]

    yield run
    for session in sessions:
        session.kill()
