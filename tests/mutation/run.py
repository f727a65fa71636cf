"""Break the code on purpose, one line at a time, and see which tests notice: ``make mutants``.

    python tests/mutation/run.py                 the named mutations, and 40 drawn ones
    python tests/mutation/run.py --named 0       drawn ones only
    python tests/mutation/run.py --only holm     named ones whose name has this word

A mutation is applied to a copy of the tree (build/mutants/tree), its tests run there until one fails, and the file is
put back. `named.toml` lists mutations by the snippet that they change; the drawn ones are cosmic-ray's operators on the
packages of `drawn.toml`, chosen by a hash of what they change: one stays chosen while other code changes.
Exits with 1 where fewer than 90 % are caught, with 2 where a snippet is not found or the tests fail by themselves.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drawing import drawn

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "build" / "mutants"
TREE, CACHE = WORK / "tree", WORK / "cache"
GOAL = 0.9
TRUSTED_S = 120.0  # what sound tests take where nobody has measured
PATIENCE = 10  # a mutant that takes so many times as long as the sound tests hangs: caught


@dataclass(frozen=True)
class Mutation:
    """One wrong file: its path below the root, what it says then, and which tests must notice."""

    name: str
    file: str
    text: str
    tests: tuple[str, ...]
    survives: str = ""  # why nothing can notice it


class Lost(Exception):
    """A mutation that does not fit the code any more."""


def named(only: str) -> Iterator[Mutation]:
    """Yield the mutations of named.toml, in their order. Raise Lost for a snippet that does not stand there once."""
    table: list[dict[str, Any]] = tomllib.loads((HERE / "named.toml").read_text("utf-8"))["mutation"]
    for row in table:
        if only not in row["name"]:
            continue
        texts = {path: path.read_text("utf-8") for path in sorted((ROOT / row["below"]).rglob("*.py"))}
        where = [path for path, text in texts.items() for _ in range(text.count(row["old"]))]
        if len(where) != 1:
            raise Lost(
                f"{row['name']!r}: its snippet stands {len(where)} times below {row['below']}, not once:\n"
                f"    {row['old']}\nNext: give `old` in tests/mutation/named.toml the words that the code has now"
            )
        missing = [path for path in row["tests"] if not (ROOT / path).exists()]
        if missing:
            raise Lost(f"{row['name']!r}: no such tests: {missing}")
        yield Mutation(
            row["name"], str(where[0].relative_to(ROOT)), texts[where[0]].replace(row["old"], row["new"]),
            tuple(row["tests"]), row.get("survives", ""),
        )  # fmt: skip


def drawn_mutations(count: int) -> Iterator[Mutation]:
    """Yield so many of cosmic-ray's mutations of the packages of drawn.toml, the same every time."""
    table: dict[str, Any] = tomllib.loads((HERE / "drawn.toml").read_text("utf-8"))
    packages: list[dict[str, Any]] = table["package"]
    mutants = drawn(ROOT, [row["folder"] for row in packages], table["leave_out"], count)
    for row, mutant in (
        (row, m) for row in packages for m in mutants if m.place.file.startswith(row["folder"] + "/")
    ):
        place = mutant.place
        name = f"{place.id} {place.operator} {place.file}:{place.line}"
        yield Mutation(
            f"{name}\n    - {place.before}\n    + {mutant.after}", place.file, mutant.text, tuple(row["tests"]),
            table["survives"].get(place.id, ""),
        )  # fmt: skip


def likely_first(tests: Sequence[str], file: str) -> list[str]:
    """Return the files of tests, those named after the module that is broken first: they stop a run early."""
    files = [path for name in tests for path in (sorted((ROOT / name).rglob("test_*.py")) or [ROOT / name])]
    words = Path(file).stem.split("_")
    files.sort(key=lambda path: not any(word in path.stem.removeprefix("test_") for word in words))
    return [str(path.relative_to(ROOT)) for path in files]


def copy_tree() -> None:
    """Lay out the repository in TREE as it is installed, every file as old as its original."""
    shutil.rmtree(TREE, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)
    for name in ("kernels", "models"):
        (TREE / "aimc_sim" / name).symlink_to(f"../{name}")
    (TREE / "src").mkdir()
    (TREE / "src" / "aimc_sim").symlink_to("../aimc_sim")


def run_tests(tests: Sequence[str], cache: Path, limit_s: float | None) -> tuple[int, str, float]:
    """Run tests of TREE until one fails: (exit status, the last lines, seconds). −1: they took too long."""
    shutil.rmtree(cache / "aimc-sim" / "ranges", ignore_errors=True)  # a mutant may have written wrong ones
    environment = {
        **os.environ, "PYTHONPATH": str(TREE / "src"), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider"]
    began = time.perf_counter()
    try:
        done = subprocess.run(
            [*command, *tests], cwd=TREE, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=limit_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return -1, "took too long", time.perf_counter() - began
    return done.returncode, done.stdout[-2000:], time.perf_counter() - began


def baseline(mutations: Sequence[Mutation]) -> dict[tuple[str, ...], float]:
    """Seconds that each selection of tests takes on sound code. Exits where one fails."""
    seconds = {}
    for tests in dict.fromkeys(mutation.tests for mutation in mutations):
        status, tail, seconds[tests] = run_tests(tests, CACHE, None)
        if status:
            print(f"The tests fail on sound code: {' '.join(tests)}\n{tail}", file=sys.stderr)
            sys.exit(2)
        print(f"sound {seconds[tests]:6.0f} s  {' '.join(tests)}", flush=True)
    return seconds


def caught_by(mutation: Mutation, limit_s: float) -> str:
    """Which test notices a mutation; empty: none."""
    path, sound = TREE / mutation.file, (TREE / mutation.file).read_bytes()
    stamp = path.stat()
    # Kernels are cached by their sources; what a wrong one compiles to is thrown away.
    cache = WORK / "cache-of-one" if mutation.file.startswith("kernels/") else CACHE
    try:
        path.write_text(mutation.text, encoding="utf-8")
        status, tail, _ = run_tests(likely_first(mutation.tests, mutation.file), cache, limit_s)
    finally:
        path.write_bytes(sound)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        shutil.rmtree(WORK / "cache-of-one", ignore_errors=True)
    if status == 0:
        return ""
    lines = [line for line in tail.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return lines[0].split(" - ")[0] if lines else tail.strip().splitlines()[-1]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--named", type=int, default=1, help="0: without those of named.toml")
    parser.add_argument("--drawn", type=int, default=40, help="how many are drawn (%(default)s)")
    parser.add_argument("--only", default="", help="named ones whose name has these words")
    parser.add_argument("--trust", action="store_true", help="do not run the tests on sound code first")
    parser.add_argument("--list", action="store_true", help="show them, run nothing")
    arguments = parser.parse_args()
    try:
        mutations = list(named(arguments.only)) if arguments.named else []
    except Lost as lost:
        print(lost, file=sys.stderr)
        return 2
    mutations += drawn_mutations(0 if arguments.only else arguments.drawn)
    if arguments.list:
        print("\n".join(mutation.name for mutation in mutations))
        return 0
    copy_tree()
    seconds = {} if arguments.trust else baseline(mutations)
    survivors = []
    for number, mutation in enumerate(mutations, 1):
        noticed = caught_by(mutation, 60 + PATIENCE * seconds.get(mutation.tests, TRUSTED_S))
        survivors += [] if noticed else [mutation]
        print(f"{number}/{len(mutations)} {noticed or 'SURVIVES'}  {mutation.name}", flush=True)
    caught = len(mutations) - len(survivors)
    print(f"\n{caught} of {len(mutations)} caught ({caught / max(len(mutations), 1):.0%}).")
    for mutation in survivors:
        print(f"survives: {mutation.name}\n    {mutation.survives or 'nobody has said why'}")
    return int(caught < GOAL * len(mutations))


if __name__ == "__main__":
    sys.exit(main())
