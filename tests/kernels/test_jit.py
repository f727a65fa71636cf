"""The kernel compiler: no fast-math, and a cache that never serves code of another source."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from aimc_sim.kernels import _jit

KERNELS = Path(_jit.__file__).parent


@pytest.mark.parametrize("option", ["fastmath", "cache", "error_model"])
def test_what_would_change_results_is_refused(option: str) -> None:
    with pytest.raises(TypeError, match=option):
        _jit.njit(**{option: True})


def test_a_changed_callee_changes_the_key(tmp_path: Path) -> None:
    copy = tmp_path / "kernels"
    shutil.copytree(KERNELS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    key = _jit.cache_key(copy)
    assert key == _jit.cache_key(KERNELS)
    callee = copy / "philox.py"
    text = callee.read_text(encoding="utf-8")
    callee.write_text(text + "\n# changed\n", encoding="utf-8")
    assert _jit.cache_key(copy) != key
    callee.write_text(text, encoding="utf-8")
    assert _jit.cache_key(copy) == key
    callee.rename(copy / "renamed.py")
    assert _jit.cache_key(copy) != key


@pytest.mark.under_load
def test_stale_code_is_not_served(tmp_path: Path) -> None:
    """End to end: a caller whose callee changed in another file computes with the new callee."""
    package = tmp_path / "src" / "toy"
    package.mkdir(parents=True)
    jit = (KERNELS / "_jit.py").read_text(encoding="utf-8")
    (package / "_jit.py").write_text(jit, encoding="utf-8")
    (package / "__init__.py").write_text("")
    head = "from toy._jit import njit\n"
    (package / "caller.py").write_text(
        head + "from toy.callee import inner\n\n@njit\ndef outer(x):\n    return inner(x)\n"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "src"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    environment.pop("NUMBA_CACHE_DIR", None)

    def answer() -> str:
        program = "from toy.caller import outer; print(outer(1), sum(outer.stats.cache_hits.values()))"
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    (package / "callee.py").write_text(head + "\n@njit\ndef inner(x):\n    return x + 1\n")
    assert answer() == "2 0"
    assert answer() == "2 1"
    (package / "callee.py").write_text(head + "\n@njit\ndef inner(x):\n    return x + 2\n")
    assert answer() == "3 0"
    assert len(list((tmp_path / "cache" / "aimc-sim" / "numba").iterdir())) == 2


@pytest.mark.under_load
def test_the_first_compilation_is_announced_once(tmp_path: Path) -> None:
    """A new user would otherwise see nothing for the longest minute; later runs are silent."""
    (tmp_path / "program.py").write_text(
        "from aimc_sim.kernels._jit import njit\n"
        "@njit\ndef one(x): return x + 1\n"
        "@njit\ndef two(x): return x + 2\n"
        "print(one(1) + two(1))\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(tmp_path / "program.py")],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "5\n"
        said.append(done.stderr)
    assert said[0].count("compiling its kernels") == 1
    assert str(tmp_path / "cache") in said[0]
    assert said[1] == ""


def test_the_setting_of_numba_is_given_back() -> None:
    import numba

    before = numba.config.CACHE_DIR
    _jit.njit(lambda x: x)
    assert before == numba.config.CACHE_DIR


def test_an_unwritable_cache_costs_a_compilation_and_nothing_else(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    program = (
        "from aimc_sim.kernels import _jit\n"
        "assert _jit.cache_folder() is None\n"
        "print(_jit.njit(lambda x: x + 1)(1))\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(blocked)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("2\n", "", 0)


def test_a_full_disk_while_saving_costs_nothing(tmp_path: Path) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    _jit._guard_saving(full_disk, tmp_path / "lock")()
    _jit._guard_saving(full_disk, tmp_path / "no such folder" / "lock")()


def test_folders_unused_for_a_month_are_pruned(tmp_path: Path) -> None:
    names = ("mine", "old", "recent")
    for name in names:
        (tmp_path / name).mkdir()
    long_ago = time.time() - 31 * 86_400
    for name in ("mine", "old"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    gone = _jit.prune(tmp_path, keep=tmp_path / "mine")
    assert gone == [tmp_path / "old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "recent"]
    assert _jit.prune(tmp_path / "absent", keep=tmp_path) == []


def test_division_by_zero_follows_ieee() -> None:
    @_jit.njit
    def divide(a: float, b: float) -> float:
        return a / b

    assert np.isinf(divide(1.0, 0.0))


DAMAGE = {
    "empty": b"",
    "junk": b"\x00junk that is no pickle",
    "another pickle": b"\x80\x04N.",
    "cut": None,
}


@pytest.mark.under_load
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_compiled_again(tmp_path: Path, suffix: str, damage: str) -> None:
    package = tmp_path / "src" / "toy"
    package.mkdir(parents=True)
    (package / "_jit.py").write_text((KERNELS / "_jit.py").read_text(encoding="utf-8"), encoding="utf-8")
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text("from toy._jit import njit\n\n@njit\ndef one(x):\n    return x + 1\n")
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path / "src"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    environment.pop("NUMBA_CACHE_DIR", None)

    def answer() -> str:
        program = "from toy.one import one; print(one(1), sum(one.stats.cache_hits.values()))"
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert answer() == "2 0"
    (file,) = tmp_path.rglob(f"*.{suffix}")
    content = DAMAGE[damage]
    file.write_bytes(file.read_bytes()[:-7] if content is None else content)
    assert answer() == "2 0"
    assert answer() == "2 1"


def test_a_relative_cache_home_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert _jit.cache_root() == tmp_path / ".cache" / "aimc-sim" / "numba"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert _jit.cache_root() == tmp_path / "cache" / "aimc-sim" / "numba"
