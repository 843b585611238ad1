"""The peers' environment: made, filled from peers.txt, and looked at; nothing in it touches Fovea's own."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / ".peers"
WANTED = HERE / "peers.txt"
CONSTRAINTS = HERE.parent / "constraints.txt"
INSTALL_SECONDS = 1800
LIST_VERSIONS = "import importlib.metadata as m; [print(d.metadata['Name'], d.version) for d in m.distributions()]"


@dataclass(frozen=True)
class Peers:
    """Where the peers are.

    Attributes:
        python: their interpreter; None where there is none.
        reason: why not.
        versions: of what peers.txt names.
    """

    python: Path | None
    reason: str = ""
    versions: dict[str, str] = field(default_factory=dict)


def normal_name(name: str) -> str:
    """A package's name as all its spellings are compared: tensorflow_cpu and tensorflow-cpu are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str | None]:
    """Package -> the version that a list of requirements pins, or None."""
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        name, _, version = line.partition("#")[0].strip().partition("==")
        if name:
            found[normal_name(name)] = version or None
    return found


def missing(wanted: dict[str, str | None], installed: dict[str, str]) -> list[str]:
    """What is wanted and not there in that version; a local part such as +cpu is not compared."""
    return [
        name
        for name, version in wanted.items()
        if name not in installed or (version is not None and installed[name].partition("+")[0] != version)
    ]


def _interpreter() -> Path:
    return FOLDER / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _run(command: list[str], seconds: float) -> tuple[str, str]:
    """(stdout, reason of a failure or ""); the reason is the last line that the command wrote about it."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    if done.returncode == 0:
        return done.stdout, ""
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return "", (lines or [f"status {done.returncode}"])[-1][:200]


def _installed(python: Path) -> dict[str, str]:
    out, _ = _run([str(python), "-c", LIST_VERSIONS], 60)
    return {normal_name(name): version for name, _, version in (line.partition(" ") for line in out.splitlines())}


def find_peers(install: bool = True, torch_index: str = "") -> Peers:
    """The peers' environment, made where it is missing.

    Args:
        install: False: take what is there and download nothing.
        torch_index: an index of CPU builds of torch, handed to pip.
    """
    python, listed = _interpreter(), pins(WANTED.read_text(encoding="utf-8"))
    pinned = pins(CONSTRAINTS.read_text(encoding="utf-8"))
    wanted = {name: version or pinned.get(name) for name, version in listed.items()}
    if not python.exists():
        if not install:
            return Peers(None, "their environment is not there")
        _, reason = _run([sys.executable, "-m", "venv", str(FOLDER)], 300)
        if reason:
            return Peers(None, f"their environment could not be made: {reason}")
    if install and missing(wanted, _installed(python)):
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # Not all of constraints.txt: its h5py, which our own tests use, is newer than what TensorFlow takes.
        command += [name if version is None else f"{name}=={version}" for name, version in wanted.items()]
        command += ["--extra-index-url", torch_index] if torch_index else []
        print("installing the peers into", FOLDER, flush=True)
        _, reason = _run(command, INSTALL_SECONDS)
        if reason:
            return Peers(None, f"they could not be installed: {reason}")
    installed = _installed(python)
    lacking = missing(wanted, installed)
    if lacking:
        return Peers(None, f"not installed: {', '.join(lacking)}")
    return Peers(python, "", {name: installed[name] for name in wanted})
