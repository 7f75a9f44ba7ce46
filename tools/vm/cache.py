# SPDX-License-Identifier: Apache-2.0
"""Keeps what guests need between runs: file systems, kernels, Python packages.

Everything is built in a temporary place and moved when it is complete. To rebuild a part, remove
its directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vm.initrd import make_initrd
from vm.kernels import CHECKOUT, Architecture, Kernel, kernels

#: Packages that the tests use in a guest; apt patterns where names differ between suites.
_USERLAND = (
    "bash busybox-static coreutils dash findutils grep gzip kmod libc-bin libdw1 libjemalloc2"
    " libgoogle-perftools4 ~n^libmimalloc[0-9.]+$~V. mount musl musl-dev python3-bpfcc sed strace"
    " util-linux"
).split()
_EXTRAS = ("pytest", "hypothesis")
_UNUSED = (
    "boot",
    "lib/modules",
    "usr/lib/modules",
    "usr/share/locale",
    "usr/share/man",
    "var/cache",
)


def default_directory() -> Path:
    """Outside the checkout, so that all clones share it."""
    if own := os.environ.get("KWATCH_VM_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kwatch-vm"


@dataclass(frozen=True, slots=True)
class Guest:
    """The files that one kernel boots with.

    `site` holds Python packages for the guest's interpreter, `pycache` what it compiles, and
    `own_cache` what kwatch keeps there: tables and BPF programs.
    """

    kernel: Kernel
    image: Path
    initrd: Path
    root: Path
    site: Path
    pycache: Path
    own_cache: Path


class Cache:
    """Builds what is missing. `say` is called before each slow step."""

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._say = say

    def guest(self, kernel: Kernel) -> Guest:
        """Raises subprocess.CalledProcessError if something cannot be downloaded or built."""
        architecture = kernel.architecture
        root = self._root(architecture, kernel.userland)
        boot = self._boot(architecture, kernel.kernel)
        site = self._site(architecture, root)
        pycache = site.with_name(f"{site.name}-compiled")
        own_cache = root.with_name(f"{root.name}-cache")
        for directory in (pycache, own_cache):
            directory.mkdir(exist_ok=True)
        image, initrd = boot / "vmlinuz", boot / "initrd"
        return Guest(kernel, image, initrd, root, site, pycache, own_cache)

    @contextmanager
    def _making(self, *parts: str) -> Iterator[Path | None]:
        """Yields an empty directory that becomes `path` at the end; None if `path` exists."""
        place = self._directory.joinpath(*parts)
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place.with_name(f"{place.name}.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if place.exists():
                yield None
                return
            unfinished = place.with_name(f"{place.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            yield unfinished
            unfinished.rename(place)

    def _root(self, architecture: Architecture, suite: str) -> Path:
        """Builds the suite's file system and moves its kernel's files to `boot`."""
        place = (f"root-{architecture.debian}", suite)
        with self._making(*place) as unfinished:
            if unfinished is not None:
                has_kernel = any(
                    k.kernel == suite and k.architecture is architecture for k in kernels()
                )
                packages = _kernel_package(architecture) * has_kernel + tuple(_USERLAND)
                self._extract(architecture, suite, packages, unfinished)
                if has_kernel:
                    self._keep_kernel(architecture, suite, unfinished)
                _strip(unfinished)
        return self._directory.joinpath(*place)

    def _boot(self, architecture: Architecture, suite: str) -> Path:
        """`vmlinuz` and `initrd` of the suite's kernel."""
        place = (f"boot-{architecture.debian}", suite)
        if not self._directory.joinpath(*place).exists():
            with self._making(f"kernel-{architecture.debian}", suite) as unfinished:
                if unfinished is not None:
                    packages = (*_kernel_package(architecture), "busybox-static")
                    self._extract(architecture, suite, packages, unfinished)
                    self._keep_kernel(architecture, suite, unfinished)
            shutil.rmtree(self._directory / f"kernel-{architecture.debian}" / suite)
        return self._directory.joinpath(*place)

    def _keep_kernel(self, architecture: Architecture, suite: str, root: Path) -> None:
        with self._making(f"boot-{architecture.debian}", suite) as unfinished:
            if unfinished is not None:
                images = [*root.glob("boot/vmlinuz-*"), *root.glob("lib/modules/*/vmlinuz")]
                shutil.copy(images[0], unfinished / "vmlinuz")
                make_initrd(root, unfinished / "initrd")

    def _extract(
        self, architecture: Architecture, suite: str, packages: tuple[str, ...], place: Path
    ) -> None:
        """Unpacks the packages and their dependencies without running their scripts.

        Uses only the main archive: some mirrors of the security archive lack architectures. A
        mirror may be older than its Release file allows; the signature is still checked.
        """
        self._say(f"unpacking {suite} for {architecture.debian}")
        command = [
            "mmdebstrap",
            "--quiet",
            "--variant=extract",
            f"--architectures={architecture.debian}",
            f"--include={','.join(packages)}",
            '--aptopt=Acquire::Check-Valid-Until "false"',
            '--setup-hook=sed -i /security/d "$1"/etc/apt/sources.list',
            suite,
            str(place.absolute()),
        ]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

    def _site(self, architecture: Architecture, root: Path) -> Path:
        """Installs the packages that `pip install kwatch` needs, for the root's interpreter."""
        version = (root / "usr/bin/python3").readlink().name.removeprefix("python")
        wanted = hashlib.sha256("\n".join(_requirements()).encode()).hexdigest()[:8]
        place = (f"site-{architecture.debian}", f"{version}-{wanted}")
        with self._making(*place) as unfinished:
            if unfinished is not None:
                self._say(f"fetching Python {version} packages for {architecture.debian}")
                platforms = [f"--platform=manylinux_2_{n}_{architecture.machine}" for n in (17, 28)]
                command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
                command += ["--disable-pip-version-check", "--only-binary=:all:", *platforms]
                command += [f"--python-version={version}", "--implementation=cp"]
                command += [f"--target={unfinished}", *_requirements()]
                subprocess.run(command, check=True)
        return self._directory.joinpath(*place)


def _kernel_package(architecture: Architecture) -> tuple[str, ...]:
    return (f"linux-image-{architecture.debian}",)


def _requirements() -> list[str]:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]["dev"]
    return project["dependencies"] + [line for line in extras if line.startswith(_EXTRAS)]


def _strip(root: Path) -> None:
    """Removes files that no test reads and adds root to passwd, as a package script would."""
    for name in _UNUSED:
        shutil.rmtree(root / name, ignore_errors=True)
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    )
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (root / "etc/hostname").write_text("guest\n")
    (root / "kwatch").mkdir()
