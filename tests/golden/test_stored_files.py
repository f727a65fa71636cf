"""Files that a user of 0.1 has: they open, mean the same, and are refused with the same words where they must be."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import figures, inputs, internals, stored

from aimc_sim import WeightFile, export, program

HERE = inputs.HERE


def test_a_weight_file_opens_and_is_whole(weights: WeightFile, expected: dict[str, Any]) -> None:
    assert weights.id == expected["weight files"]["stored"]
    assert weights.verify() == []
    assert weights.config == inputs.CONFIG
    assert weights.hardware == inputs.hardware("wired")
    tensors = inputs.tensors()
    assert sorted(weights.tensor_names) == sorted(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(weights.tensor(name).bits, value)
    np.testing.assert_array_equal(weights.calibration.token_ids, inputs.token_ids(4, 64))


def test_the_same_checkpoint_gives_the_same_weight_file(
    weights: WeightFile, expected: dict[str, Any], tmp_path: Path
) -> None:
    """Its id where no float32 sum has a part in it: moments of inputs are such sums, and the id is of them too."""
    assert figures.weight_ids(weights, tmp_path) == expected["weight files"]
    ids = inputs.token_ids(4, 64)
    again = export(tmp_path / "checkpoint", tmp_path / "again.h5", inputs.hardware("wired"), token_ids=ids)
    assert again.matrices == weights.matrices
    assert again.tokenizer() == weights.tokenizer()
    assert again.calibration.source == weights.calibration.source
    for matrix in weights.matrices:
        mine, theirs = again.moments(matrix.name), weights.moments(matrix.name)
        for part in ("max_abs", "mean", "second_moment"):
            new, old = getattr(mine, part), getattr(theirs, part)
            np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-5 * np.abs(old).max())


@pytest.mark.parametrize("name", figures.CALIBRATED)
def test_stored_ranges_are_those_that_are_derived(
    name: str, weights: WeightFile, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Under the same name. They come of a float32 forward pass, whose sums differ in their last bits by processor."""
    chip, kept = inputs.hardware(name), figures.ranges_of(name)
    assert internals.name_of(weights, chip) == expected["ranges"][name]["file"]
    assert internals.ranges_id(kept) == expected["ranges"][name]["id"]
    assert internals.fits(kept, weights, chip)
    internals.with_ranges_in(monkeypatch, tmp_path)
    found = program(weights, 0, chip).ranges
    assert [path.name for path in tmp_path.iterdir()] == [expected["ranges"][name]["file"]]
    assert set(found) == set(kept)
    for matrix, item in kept.items():
        for part in ("input_range", "full_scale"):
            new, old = getattr(found[matrix], part), getattr(item, part)
            assert (new is None) == (old is None)
            if old is not None:
                np.testing.assert_allclose(new, old, rtol=1e-5)


def test_ranges_in_the_cache_are_used(
    weights: WeightFile, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    internals.with_ranges_in(monkeypatch, tmp_path)
    data = (HERE / "ranges" / "calibrated.npz").read_bytes()
    (tmp_path / expected["ranges"]["calibrated"]["file"]).write_bytes(data)
    said: list[str] = []
    chip = program(
        weights, 0, inputs.hardware("calibrated"), progress=lambda stage, done, total: said.append(stage)
    )
    assert chip.ranges_id == expected["ranges"]["calibrated"]["id"]
    assert not said, "nothing was calibrated"


def same(new: Any, old: Any, where: str = "") -> None:
    """Two documents say the same; floating-point numbers to 1e-9, for they are sums of a library."""
    if isinstance(old, dict):
        assert list(new) == list(old), where
        for name, value in old.items():
            same(new[name], value, f"{where}.{name}")
    elif isinstance(old, list):
        assert len(new) == len(old), where
        for number, value in enumerate(old):
            same(new[number], value, f"{where}.{number}")
    elif isinstance(old, float):
        assert math.isclose(new, old, rel_tol=1e-9, abs_tol=1e-12), where
    else:
        assert new == old, where


@pytest.mark.parametrize("own", [True, False])
def test_a_journal_renders_its_report(
    own: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, expected: dict[str, Any]
) -> None:
    """Every cell is there, so nothing is scored: any code may write the report, and other code says whose they are."""
    assert stored.journal() == expected["journal"]
    stored.copied(stored.JOURNAL, tmp_path)
    if own:
        internals.as_code(monkeypatch, stored.code_of_journal())
    with inputs.inside(HERE):
        done = inputs.command(*inputs.SIGNOFF, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    new, old = (
        json.loads((folder / "report.json").read_text(encoding="utf-8"))
        for folder in (tmp_path, HERE / "signoff")
    )
    said = [note for note in new["notes"] if stored.code_of_journal() in note]
    assert len(said) == (0 if own else 1)
    new["notes"] = [note for note in new["notes"] if note not in said]
    for document in (new, old):
        del document["timings"], document["provenance"]["versions"], document["provenance"]["machine"]
        del document["provenance"]["arithmetic"]  # names the processor's engine
    same(new, old)
    assert old["verdict"]["summary"] in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_report_is_shown_and_compared(tmp_path: Path) -> None:
    document = json.loads((HERE / "signoff" / "report.json").read_text(encoding="utf-8"))
    written = internals.write(document, tmp_path)
    assert sorted(path.name for path in written) == ["junit.xml", "report.html", "report.json", "report.md"]
    assert (tmp_path / "report.json").read_bytes() == (HERE / "signoff" / "report.json").read_bytes()
    assert document["verdict"]["summary"] in (tmp_path / "report.md").read_text(encoding="utf-8")
    done = inputs.command("compare", HERE / "signoff", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    part = json.loads(done.stdout)["parts"][0]
    assert [each["mean"] for each in part["times"]] == [0.0, 0.0]


def test_going_on_with_what_does_not_fit_is_refused_in_the_same_words(expected: dict[str, Any]) -> None:
    assert stored.refusals() == expected["refusals"]


def test_a_sweep_is_read_and_not_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stored.copied(stored.SWEPT, tmp_path)
    internals.as_code(monkeypatch, stored.code_of_sweep())
    internals.without_measuring(monkeypatch)
    with inputs.inside(HERE):
        done = inputs.command(*inputs.SWEEP, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    new, old = (
        list(csv.DictReader((folder / "points.csv").read_text(encoding="utf-8").splitlines()))
        for folder in (tmp_path, HERE / "sweep")
    )
    assert len(new) == len(old)
    for mine, theirs in zip(new, old, strict=True):
        assert list(mine) == list(theirs)
        for name, value in theirs.items():
            try:
                number = float(value)
            except ValueError:
                assert mine[name] == value, name
                continue
            assert float(mine[name]) == pytest.approx(number, rel=1e-5), name
