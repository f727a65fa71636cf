"""The version of the code that scores: what is in it, and what may change without refusing a journal."""

from __future__ import annotations

from pathlib import Path

import aimc_sim
from aimc_sim.signoff import code_version


def test_words_and_pictures_are_not_in_it() -> None:
    names = {name for name, _ in code_version.scoring_sources()}
    assert {"programming.py", "evaluate/sums.py", "signoff/bench.py", "devices/__init__.py"} <= names
    for aside in ("headline", "html", "junit", "layer_plot", "markdown", "plots", "strips", "words"):
        assert f"signoff/{aside}.py" not in names
    assert not [name for name in names if name.startswith(("report_parts/", "signoff/statistics/", "cli/"))]


def test_what_is_left_out_exists() -> None:
    own = Path(str(aimc_sim.__file__)).parent
    assert [name for name in code_version._ASIDE if not (own / name).exists()] == []


def test_it_names_what_makes_token_ids_and_sums() -> None:
    said = code_version.code_version()
    for name in ("torch", "numpy", "numba", "transformers", "tokenizers"):
        assert f", {name} " in said
