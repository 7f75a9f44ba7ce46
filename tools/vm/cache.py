# SPDX-License-Identifier: Apache-2.0
"""What the guests are made of, kept between runs: file systems, kernels, Python packages.

Everything is made beside its place and moved there when it is whole. Removing the directory, or
a part of it, is the way to have it made anew.
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

#: What the tests use in a guest, as apt patterns where the name differs between suites.
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
    """Outside the checkout, so that a clean clone finds what another has made."""
    if own := os.environ.get("KWATCH_VM_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kwatch-vm"


@dataclass(frozen=True, slots=True)
class Guest:
    """What one kernel boots with.

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
    """Makes what is missing. `say` is told what takes long."""

    def __init__(self, directory: Path, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._say = say

    def guest(self, kernel: Kernel) -> Guest:
        """Raises subprocess.CalledProcessError when something cannot be had."""
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
        """An empty directory that becomes the wanted one at the end; None when that is there."""
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
        """The suite's file system, with its kernel's files moved to `boot`."""
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
        """Unpacks the packages and what they depend on; none of their scripts runs.

        Of the main archive alone: not every mirror of the security archive has every architecture.
        A mirror may be older than its Release file allows; the signature is still checked.
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
        """The packages that `pip install kwatch` would bring, for the root's interpreter."""
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
    """Removes what no test reads, and names the superuser, whom a script would have named."""
    for name in _UNUSED:
        shutil.rmtree(root / name, ignore_errors=True)
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
    )
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (root / "etc/hostname").write_text("guest\n")
    (root / "kwatch").mkdir()
