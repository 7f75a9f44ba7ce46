# SPDX-License-Identifier: Apache-2.0
"""Runs tools/setup in a fresh Debian with a network, as `vagrant up` does, and boots its kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from threading import Event

from vm.guest import Ending, run
from vm.kernels import ARCHITECTURES, CHECKOUT

_SUITE = "bookworm"  # the suite of the box
_KERNEL = "bullseye"  # the suite whose kernel is installed
_MEMORY = "4G"
_LIMIT = 5400.0  # seconds for each boot
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

#: The stages in order; each runs after a boot.
_STAGES = {
    "tools/setup test": """
mkdir -p /vagrant
rsync -a /work/checkout/ /vagrant/
/vagrant/tools/setup test
/vagrant/.venv/bin/kwatch doctor
/vagrant/.venv/bin/kwatch -- true
""",
    f"tools/setup kernel {_KERNEL}": f"""
/vagrant/tools/setup kernel {_KERNEL}
""",
    "the kernel that was installed": """
uname -r
/vagrant/.venv/bin/kwatch doctor
/vagrant/.venv/bin/kwatch -- true
""",
}
# Copies the host's certificates: its network may need some that Debian does not have.
_FIRST = """
set -e
(while :; do date >>/work/alive; sleep 5; done) &
cd /root
export HOME=/root PIP_CERT=/work/ca-certificates.crt
"""


def provision() -> int:
    """Prints the output of each stage; returns 0 if all succeeded."""
    with tempfile.TemporaryDirectory(prefix="kwatch-vm-") as directory:
        disk = Path(directory, "disk")
        subprocess.run([Path(__file__).with_name("make_box"), _SUITE, disk], check=True)
        for name, commands in _STAGES.items():
            ending, output = _boot(disk, commands)
            print(f"== {name}: {ending.status} after {ending.seconds:.0f} s\n{output}", flush=True)
            if ending.status != 0:
                print(ending.trouble)
                return 1
    return 0


def _boot(disk: Path, commands: str) -> tuple[Ending, str]:
    with tempfile.TemporaryDirectory(prefix="kwatch-vm-") as directory:
        work = Path(directory)
        _checkout(work / "checkout")
        (work / "command").write_text(_FIRST + commands)
        if _CERTIFICATES.exists():
            shutil.copy(_CERTIFICATES, work / _CERTIFICATES.name)
        ending = run(_emulator(disk, work), work, lambda: None, _LIMIT, Event())
        output = work / "output"
        return ending, output.read_text(errors="replace") if output.exists() else ""


def _checkout(place: Path) -> None:
    """Copies what `vagrant up` would: tracked files with uncommitted changes."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=CHECKOUT, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, place / name)


def _emulator(disk: Path, work: Path) -> list[str]:
    return [
        *ARCHITECTURES["amd64"].emulator,
        *("-accel", "tcg,thread=multi", "-smp", str(os.cpu_count() or 1), "-m", _MEMORY),
        *("-nodefaults", "-no-reboot", "-display", "none"),
        *("-serial", f"file:{work}/console"),
        *("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"),
        *("-nic", "user,model=virtio-net-pci"),
        *("-virtfs", f"local,path={work},mount_tag=work,security_model=none,multidevs=remap"),
    ]
