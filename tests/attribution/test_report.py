"""The document of an explanation, its tables and its page."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aimc_sim.attribution import plots
from aimc_sim.attribution.report import document_of, effects_csv, matrices_csv, render, write
from aimc_sim.attribution.run import Result
from aimc_sim.report.charts import NARROW, WIDE
from aimc_sim.report.pages import to_json
from aimc_sim.weightfile import WeightFile
from helpers.page import Page


@pytest.fixture(scope="module")
def document(explained: Result, tiny_weights: Path) -> dict[str, Any]:
    return document_of(explained, WeightFile(tiny_weights), "aimc-sim explain tiny.h5")


@pytest.fixture(scope="module")
def one_chip(explained: Result, tiny_weights: Path) -> dict[str, Any]:
    study = explained.study.model_copy(update={"seeds": (4,)})
    trials = {on: trials[:1] for on, trials in explained.trials.items()}
    return document_of(replace(explained, study=study, trials=trials), WeightFile(tiny_weights))


def test_the_document_is_complete(document: dict[str, Any], explained: Result) -> None:
    found = json.loads(to_json(document))
    assert list(found) == [
        "format", "schema_version", "summary", "hardware", "time", "time_s", "seeds", "largest", "perplexity",
        "kl_nats", "loss_increase_nats", "effects", "snr_db", "saturation", "sets", "text", "coverage", "arithmetic",
        "notes", "study", "provenance", "command", "timings",
    ]  # fmt: skip
    assert [effect["effect"] for effect in found["effects"]] == [effect.key for effect in explained.effects]
    assert found["seeds"] == [4, 5]
    assert found["time"] == "1h"
    assert found["text"]["scored_tokens"] == explained.windows.scored_tokens
    assert len(found["snr_db"]["matrices"]) == len(explained.matrices)
    assert len(found["sets"]) == len(explained.trials)
    assert found["study"]["ranges_id"] == found["provenance"]["ranges_id"]
    assert found["coverage"]["static_share"] == 1.0


def test_what_clips_is_counted(document: dict[str, Any], explained: Result) -> None:
    """Shares of a role are those of its matrices, by count; the worst tile is the worst of them."""
    found = document["saturation"]
    assert (found["tokens"], found["seed"]) == (48, 4)
    rows = {row["matrix"]: row for row in csv.DictReader(io.StringIO(matrices_csv(document)))}
    for role in found["roles"]:
        names = [m.name for m in explained.matrices if m.role == role["role"]]
        counts = [explained.saturation[name] for name in names]
        saturated = sum(int(c.conversions_clipped.sum()) for c in counts) / sum(
            int(c.conversions.sum()) for c in counts
        )
        assert role["conversions_saturated"] == saturated
        assert role["inputs_clipped"] == 0, "the range is that of the token"
        assert role["worst"]["worst_tile_saturated"] == max(
            float(rows[name]["worst_tile_saturated"]) for name in names
        )
        for name in names:
            assert float(rows[name]["conversions_saturated"]) == explained.saturation[name].conversion_share
    assert any(role["conversions_saturated"] > 0 for role in found["roles"])
    page = render(document)
    assert page.count("<h2") == 6
    assert "What clips" in page


def test_without_a_dac_nothing_clips(explained: Result, tiny_weights: Path) -> None:
    found = document_of(replace(explained, saturation={}), WeightFile(tiny_weights))
    assert found["saturation"] is None
    assert "What clips" not in render(found)
    assert next(csv.DictReader(io.StringIO(matrices_csv(found))))["conversions_saturated"] == ""


@pytest.mark.parametrize("metric", ["kl_nats", "loss_increase_nats"])
def test_the_document_adds_up(document: dict[str, Any], metric: str) -> None:
    sums, effects = document[metric], document["effects"]
    steps = sum(effect[metric]["step"]["mean"] for effect in effects)
    alone = sum(effect[metric]["alone"]["mean"] for effect in effects)
    assert sums["start"]["mean"] + steps == pytest.approx(sums["total"]["mean"])
    rest = sums["total"]["mean"] - sums["start"]["mean"] - alone
    assert sums["interaction"]["mean"] == pytest.approx(rest)
    whole = next(item for item in document["sets"] if len(item["on"]) == len(effects))
    assert whole[metric] == sums["total"]["by_seed"]


def test_what_goes_together_is_said(document: dict[str, Any]) -> None:
    notes = "\n".join(document["notes"])
    assert "Read noise alone: beside DAC, whose own loss is taken off." in notes
    assert "ADC won back: with ADC errors, which cannot be simulated without it." in notes
    assert "inputs have 16 bits within the same range: the ADC's" in notes
    assert "ranges were fitted on" in notes


def test_one_chip_has_no_intervals(one_chip: dict[str, Any]) -> None:
    assert one_chip["notes"][0].startswith("One chip was simulated")
    assert one_chip["kl_nats"]["total"]["interval_95"] == [None, None]
    page = render(one_chip)
    assert "from one chip" in page
    assert "95&nbsp;% interval" not in page
    assert "None" not in page


def test_the_summary_names_the_largest_step(document: dict[str, Any]) -> None:
    effects = {effect["effect"]: effect for effect in document["effects"]}
    assert document["largest"] == max(effects, key=lambda key: effects[key]["kl_nats"]["step"]["mean"])
    name = effects[document["largest"]]["name"]
    assert re.search(
        rf"largest steps? (is|are) {name if name[:2].isupper() else name.lower()} \d", document["summary"]
    )
    assert document["summary"].startswith("everything loses ")


def test_a_loss_of_nothing_is_said_to_be_nothing(explained: Result, tiny_weights: Path) -> None:
    nothing = {
        on: tuple(
            replace(trial, scores=replace(trial.scores, kl=0 * trial.scores.tokens)) for trial in trials
        )
        for on, trials in explained.trials.items()
    }
    found = document_of(replace(explained, trials=nothing), WeightFile(tiny_weights))
    assert "little to explain" in found["summary"]
    assert all(effect["share"] is None for effect in found["effects"])
    assert not re.search(r"\b(nan|inf|None)\b", render(found))


def test_tables_hold_what_the_document_holds(document: dict[str, Any]) -> None:
    effects = list(csv.DictReader(io.StringIO(effects_csv(document))))
    ends = ["start", "total", "alone_sum", "interaction"]
    assert [row["effect"] for row in effects] == [e["effect"] for e in document["effects"]] + ends
    for row, effect in zip(effects, document["effects"], strict=False):
        assert float(row["kl_nats_step"]) == effect["kl_nats"]["step"]["mean"]
        low, high = effect["loss_increase_nats"]["won_back"]["interval_95"]
        found = row["loss_increase_nats_won_back_low"], row["loss_increase_nats_won_back_high"]
        assert tuple(map(float, found)) == (low, high)
    assert float(effects[-1]["kl_nats_alone"]) == document["kl_nats"]["interaction"]["mean"]
    matrices = list(csv.DictReader(io.StringIO(matrices_csv(document))))
    for row, matrix in zip(matrices, document["snr_db"]["matrices"], strict=True):
        assert (row["matrix"], float(row["snr_db_all"])) == (matrix["name"], matrix["all"])
        assert float(row["snr_db_without_adc"]) == matrix["without"]["adc"]


def test_all_files_or_none(document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write(document, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    empty = tmp_path / "empty"
    empty.mkdir()

    def fail(found: Any) -> str:
        raise OSError(5, "broken")

    monkeypatch.setattr("aimc_sim.attribution.report.matrices_csv", fail)
    with pytest.raises(OSError, match="broken"):
        write(document, empty)
    assert not list(empty.iterdir())


def test_the_page_is_self_contained_and_accessible(document: dict[str, Any]) -> None:
    text = render(document)
    page = Page(text)
    assert not page.all("script", "iframe", "object", "embed", "img")
    assert not re.search(r"@import|url\(", text)
    assert all(link.get("href") == "data:," for link in page.all("link", "a"))
    assert all("scope" in attributes for attributes in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) == 4
    assert len(page.all("desc")) == len(page.all("svg")) == 8
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for effect in document["effects"]:
        assert text.count(effect["name"]) >= 5


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("draw", [plots.falls, plots.apart, plots.layers])
def test_nothing_is_drawn_outside_the_plot(draw: Any, width: int, document: dict[str, Any]) -> None:
    odd = copy.deepcopy(document)
    part = odd["effects"][3]["kl_nats"]["step"]
    part["mean"] = -part["mean"] - 1.0
    odd["effects"][3]["kl_nats"]["total"]["mean"] = (
        odd["effects"][2]["kl_nats"]["total"]["mean"] + part["mean"]
    )
    for found in (document, odd):
        svg = draw(found, width)
        height = float(re.search(r'viewBox="0 0 \d+ ([\d.]+)"', svg)[1])  # type: ignore[index]
        for tag in re.findall(r"<rect [^>]*>", svg):
            x, y, wide, high = (
                float(re.search(rf' {key}="([-\d.]+)"', tag)[1])  # type: ignore[index]
                for key in ("x", "y", "width", "height")
            )
            assert x >= 0
            assert x + wide <= width + 0.5
            assert y >= 0
            assert y + high <= height
        for at in re.findall(r'<text [^>]*x="([-\d.]+)"', svg):
            assert 0 <= float(at) <= width


def test_products_without_any_noise_have_no_map(document: dict[str, Any]) -> None:
    exact = copy.deepcopy(document)
    for matrix in exact["snr_db"]["matrices"]:
        matrix["all"] = float("inf")
    assert "No product differs" in plots.layers(exact, WIDE)
    assert render(exact)
