"""The peers' own virtual environment: made once, below the cache folder, and reused.

It gets exactly the torch that runs here (a build for CPUs stays one), so both sides meet the same `linear`, and no
package for GPUs comes along. A peer that cannot be installed is a reason in words, never an error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aimc_sim.errors import BadInput
from aimc_sim.kernels._jit import cache_root

PEERS = ("aihwkit", "aihwkit-lightning")
BUILD_TOOLS = ("setuptools>=77", "wheel", "scikit-build>=0.18.1", "pybind11>=3.0.1", "cmake>=4.2.1", "ninja", "mypy",
               "scipy-openblas32")  # fmt: skip
LIMIT_S = 3600.0
Run = Callable[[Sequence[str], dict[str, str]], tuple[int, str]]

_VERSIONS = """
import importlib.metadata as m, json, sys
def find(name):
    try: return m.version(name)
    except m.PackageNotFoundError: return None
print(json.dumps({name: find(name) for name in sys.argv[1:]}))
"""
_OPENBLAS = """
import os, sys, scipy_openblas32 as blas
include, library = blas.get_include_dir(), os.path.join(blas.get_lib_dir(), "libscipy_openblas.so")
os.makedirs(os.path.join(sys.argv[1], "lib"), exist_ok=True)
for target, link in ((include, "include"), (library, "lib/libopenblas.so")):
    link = os.path.join(sys.argv[1], link)
    if not os.path.islink(link): os.symlink(target, link)
print(blas.get_lib_dir())
"""
_BLAS_CALLS = "copy gemm gemv ger nrm2 scal"


@dataclass(frozen=True)
class Environment:
    """What lies ready: ``python`` to start, versions of the installed peers, and reasons for the others."""

    python: Path
    versions: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    torch: str = ""


def default_folder() -> Path:
    """Beside the compiler cache, one folder per Python and torch."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return cache_root().parent / "peers" / f"python{python}-torch{_torch()}"


def _torch() -> str:
    import torch

    return str(torch.__version__)


def run(command: Sequence[str], variables: dict[str, str]) -> tuple[int, str]:
    """Exit code and what was printed; code 1 where the command cannot be started or takes too long."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout


def environment(folder: Path, build: bool = False, run: Run = run, install: bool = True) -> Environment:
    """The environment in ``folder``, made or completed where needed. build: newest aihwkit from its sources.

    install: False takes what lies there, and makes and fetches nothing.

    Raises BadInput for a folder that holds something else.
    """
    if (
        folder.exists()
        and not (folder / "pyvenv.cfg").is_file()
        and (folder.is_file() or any(folder.iterdir()))
    ):
        raise BadInput(
            "--venv", got=str(folder), why="it holds something else", do="name a folder that is empty or new"
        )
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pinned = folder / "torch.txt"

    def installed() -> dict[str, str | None]:
        code, said = run([str(python), "-c", _VERSIONS, "torch", *PEERS], {})
        try:
            return dict(json.loads(said.splitlines()[-1])) if code == 0 else {}
        except (ValueError, IndexError):
            return {}

    found = installed() if python.exists() else {}
    if not install:
        there = {peer: at for peer in PEERS if found.get("torch") and (at := found.get(peer)) is not None}
        absent = {
            peer: "it is not there, and --smoke installs nothing" for peer in PEERS if peer not in there
        }
        return Environment(python, there, absent, found.get("torch") or "")
    if not found.get("torch"):
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [*pip, f"torch=={_torch()}", "numpy"],
        ):
            code, said = run(command, {})
            if code != 0:
                return Environment(python, reasons=dict.fromkeys(PEERS, reason(said)))
        found = installed()
    pinned.parent.mkdir(parents=True, exist_ok=True)
    pinned.write_text(f"torch=={found.get('torch') or _torch()}\n", encoding="utf-8")

    reasons = {}
    for peer in PEERS:
        if found.get(peer) is None:
            code, said = run([*pip, "-c", str(pinned), "--only-binary", peer, peer], {})
            if code != 0:
                reasons[peer] = reason(said)
    built = folder / "built-from-sources"
    if build and not built.exists():
        said = _build_aihwkit(folder, python, [*pip, "-c", str(pinned)], run)
        if said:
            reasons["aihwkit from its sources"] = said
        else:
            built.touch()
    found = installed()
    versions = {peer: at for peer in PEERS if (at := found.get(peer)) is not None}
    missing = {
        peer: "pip installed nothing" for peer in PEERS if peer not in versions and peer not in reasons
    }
    why = {name: said for name, said in {**reasons, **missing}.items() if name not in versions}
    return Environment(python, versions, why, found.get("torch") or "")


def _build_aihwkit(folder: Path, python: Path, pip: list[str], run: Run) -> str:
    """Compile the newest aihwkit against this torch; its BLAS from a wheel whose names carry a prefix. "": done."""
    code, said = run([*pip, *BUILD_TOOLS], {})
    if code == 0:
        code, said = run([str(python), "-c", _OPENBLAS, str(folder / "openblas")], {})
    if code != 0:
        return reason(said)
    names = [f"cblas_{kind}{call}" for kind in "sd" for call in _BLAS_CALLS.split()]
    names += ["cblas_isamax", "cblas_idamax"]
    variables = {
        "OpenBLAS_HOME": str(folder / "openblas"),
        "CXXFLAGS": " ".join(f"-D{name}=scipy_{name}" for name in names),
        "LDFLAGS": f"-Wl,-rpath,{said.splitlines()[-1]}",
        "PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", "")]),
        "USE_CUDA": "OFF",
    }
    code, said = run([str(python), "-c", "import torch; print(torch.utils.cmake_prefix_path)"], {})
    variables["CMAKE_PREFIX_PATH"] = said.splitlines()[-1] if code == 0 and said.strip() else ""
    code, said = run(
        [*pip, "--upgrade", "--no-cache-dir", "--no-build-isolation", "--no-binary", "aihwkit", "aihwkit"],
        variables,
    )
    return "" if code == 0 else reason(said)


def reason(said: str, width: int = 100) -> str:
    """The line of a program's output that says why it failed."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")] or lines[-1:] or ["it said nothing"]
    text = errors[0].removeprefix("ERROR:").strip()
    return text if len(text) <= width else text[: width - 1] + "…"
