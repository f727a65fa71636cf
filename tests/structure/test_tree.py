"""What the tree must not contain, and how long a file may get."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from aimc_sim.testing import AlphaLedger

ROOT = Path(__file__).parents[2]
PRODUCT = sorted(
    path for folder in ("aimc_sim", "kernels", "models") for path in (ROOT / folder).rglob("*.py")
)
SKIP = {
    ".git",
    ".venv",
    "build",
    "dist",
    "__pycache__",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
}
TEXT = {
    "",
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".cff",
    ".html",
    ".json",
    ".csv",
    ".yaml",
    ".yml",
    ".cfg",
    ".css",
    ".js",
}

# Written in halves, so that this file does not contain what it looks for.
FORBIDDEN = {
    "the host of a package registry": re.compile(
        "|".join(
            ["py" + r"pi\.org", "files.python" + "hosted", "registry.np" + "mjs", "deb.debian" + r"\.org"]
        )
    ),
    "a package index": re.compile(
        "-" + "-(extra-)?index" + "-url|PIP_(EXTRA_)?INDEX" + "_URL|find" + "-links"
    ),
    "a place that exists on one machine only": re.compile(
        "/wor" + "k/|/far" + "m/|/ro" + r"ot/|/\.librar" + "y"
    ),
}
RANDOMNESS = re.compile(
    r"np\.random|numpy\.random|default_rng|torch\.(randn?|randint|randperm|rand_like|randn_like|bernoulli|multinomial"
    r"|manual_seed)\b|\brandom\.(random|gauss|uniform|seed|choice)|^\s*(import|from) random\b|\.normal_\(|\.uniform_\(",
    re.MULTILINE,
)
UNFINISHED = re.compile("TO" + "DO|FIX" + "ME|XX" + "X|raise NotImplemented" + "Error")


def tracked() -> list[Path]:
    """The files of the repository; without git, everything that is not a build product."""
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]
    return [p for p in ROOT.rglob("*") if p.is_file() and not SKIP & set(p.relative_to(ROOT).parts)]


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_product_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert path.stem != path.parent.name, "the folder says it already"
    assert not path.stem.startswith(f"{path.parent.name}_"), "the folder says it already"
    assert not RANDOMNESS.search(text), "the only randomness is the keyed Philox"
    assert not UNFINISHED.search(text)
    assert '"""' in "\n".join(text.splitlines()[:3]) or not text.strip(), "a module says what it is for"


def test_no_file_of_code_is_too_long_to_hold_in_the_head() -> None:
    code = [path for path in tracked() if path.suffix in {".py", ".js", ".css", ".html", ".j2"}]
    assert [path for path in code if len(path.read_text(encoding="utf-8").splitlines()) > 400] == []


VERBS = set(
    "export program load_model sign_off compare explain size sweep sample train convert recover deploy".split()
)


def test_the_package_has_few_rooms_and_none_takes_the_name_of_a_function() -> None:
    names = {path.name for path in (ROOT / "aimc_sim").iterdir() if path.name != "__pycache__"}
    assert len(names) <= 32
    assert VERBS & {name.removesuffix(".py") for name in names} == set()


SAYS_NOTHING = {"found", "held", "kept", "seen", "there", "here", "own"}


def test_a_variable_that_lives_longer_than_three_lines_says_what_it_is() -> None:
    vague = set()
    for path in PRODUCT:
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                names = [
                    node
                    for node in ast.walk(function)
                    if isinstance(node, ast.Name) and node.id in SAYS_NOTHING
                ]
                for name in {node.id for node in names}:
                    lines = [node.lineno for node in names if node.id == name]
                    if max(lines) - min(lines) > 3:
                        vague.add(f"{path}:{min(lines)} {name}")
    assert not vague


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_tree_names_no(what: str) -> None:
    hits = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path.suffix in TEXT
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]
    assert not hits


def test_no_large_files() -> None:
    assert not [path for path in tracked() if path.stat().st_size > 1_500_000]


def test_no_test_is_switched_off() -> None:
    off = re.compile(r"@pytest\.mark\.(ski" + r"p|xfai" + r"l)\b|pytest\.(ski" + r"p|xfai" + r"l)\(")
    hits = [
        path
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if off.search(path.read_text(encoding="utf-8"))
    ]
    assert not hits


def test_the_ledger_holds_no_assertion_that_nobody_makes() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    ledger = AlphaLedger.load(ROOT / "tests" / "statistics" / "ledger.toml")
    assert not [name for name in ledger.entries if f'"{name}"' not in text]
    assert ledger.total <= 1e-6


def test_the_version_is_said_once_in_three_places() -> None:
    import aimc_sim

    for name in ("setup.py", "CITATION.cff", "CHANGELOG.md"):
        assert aimc_sim.__version__ in (ROOT / name).read_text(encoding="utf-8"), name
