"""What a user gets: the wheel and the source distribution hold the mapped packages, the presets and the licence."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        str(out),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


@pytest.mark.packaging
def test_the_wheel_built_from_the_sdist_is_complete(built: Path) -> None:
    """`build` makes the sdist first and the wheel out of it, so this covers both."""
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        f"{prefix}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, prefix in (
            ("aimc_sim", "aimc_sim"),
            ("kernels", "aimc_sim/kernels"),
            ("models", "aimc_sim/models"),
        )
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= names, sorted(sources - names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"aimc_sim"}
    assert any(name.endswith("/LICENSE") for name in names)
    assert any(name.endswith("entry_points.txt") for name in names)


@pytest.mark.packaging
def test_the_sdist_holds_the_mapped_folders(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as inside:
        names = {name.partition("/")[2] for name in inside.getnames()}
    assert {"setup.py", "pyproject.toml", "LICENSE", "kernels/philox.py", "models/__init__.py"} <= names
