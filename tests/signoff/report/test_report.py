"""The report: complete, stable, self-contained, written whole or not at all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from aimc_sim.errors import BadInput
from aimc_sim.report.charts import NARROW, WIDE
from aimc_sim.report.pages import prepare_folder, to_json
from aimc_sim.signoff.execution.results import Result
from aimc_sim.signoff.report import document as report
from aimc_sim.signoff.report import files, plots
from aimc_sim.signoff.report.html import render
from helpers.page import Page

FILES = ["junit.xml", "report.html", "report.json", "report.md"]


def document(plan: Any, fake: Any, **of: Any) -> dict[str, Any]:
    return report.document_of(fake.run_fake(plan), command="aimc-sim signoff x.h5", **of)


def compared(text: str) -> dict[str, Any]:
    """What must be the same when run again."""
    return {key: value for key, value in json.loads(text).items() if key != "timings"}


def test_json_is_stable_and_complete(plan_with: Any, fake: Any) -> None:
    plan = plan_with()
    first, again = (to_json(document(plan, fake)) for _ in range(2))
    assert json.dumps(compared(first)) == json.dumps(compared(again))
    found = json.loads(first)
    page = (Path(__file__).parents[3] / "docs" / "signoff.md").read_text(encoding="utf-8")
    table = page[page.index("## report.json") :].split("\n\n")[2]
    columns = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    documented = [name for column in columns for name in re.findall(r"`(\w+)", column)]
    assert list(found) == list(dict.fromkeys(documented)), "docs/signoff.md lists every key, in this order"
    completed = plan.with_ranges({"hermes-256": fake.FakeBench.ranges_id})
    assert found["plan"]["id"] == completed.part("hermes-256", "text").id
    assert completed.id != plan.id
    assert found["provenance"]["ranges_id"] == found["plan"]["ranges_id"] == fake.FakeBench.ranges_id
    assert found["provenance"]["arithmetic"].startswith("exact integers, engine ")
    assert found["verdict"]["outcome"] == "pass"
    assert found["verdict"]["worst_time"] == "1d"
    assert [at["time"] for at in found["rows"]["times"]] == ["1m", "1d"]
    assert [chip["seed"] for chip in found["rows"]["times"][0]["chips"]] == [0, 1, 2, 3]
    assert found["rows"]["converters_only"]["kl_nats"] == pytest.approx(0.1)
    assert len(found["windows"]["chips"]) == 8
    assert "yield of cell noise only" in found["notes"][0]


def test_one_chip_is_said_to_be_one_chip(plan_with: Any, fake: Any) -> None:
    found = document(plan_with(chips=1), fake)
    assert "one chip" in found["verdict"]["caveat"]
    assert any("one chip" in note for note in found["notes"])
    assert "One chip only" in render(found)


def test_one_cell_has_no_interval_and_still_a_report(plan_with: Any, fake: Any) -> None:
    plan = plan_with(chips=1, times_s=(60.0,))
    found = report.document_of(fake.run_fake(plan, fake.FakeBench(windows=1)))
    assert json.loads(to_json(found))["verdict"]["upper_bound"] is None
    assert found["verdict"]["pass"] is False
    assert found["rows"]["times"][0]["agreement"]["interval_95"] == [None, None]
    assert "gives no interval" in found["verdict"]["summary"]
    assert "–" not in found["verdict"]["summary"]
    text = render(found)
    assert "no interval: one chip on one window" in " ".join(text.split())
    assert "upper bound –" not in text


@pytest.mark.parametrize("metric", ["kl", "loss"])
@pytest.mark.parametrize("margin", [0.01, 0.5, 40.0])
@pytest.mark.parametrize("times", [(0.0,), (0.0, 60.0), (60.0, 61.0, 3600.0, 86400.0)])
def test_the_page_is_self_contained_and_accessible(
    plan_with: Any, fake: Any, metric: str, margin: float, times: tuple[float, ...]
) -> None:
    text = render(document(plan_with(metric=metric, margin_nats=margin, times_s=times), fake))
    page = Page(text)
    assert not page.all("script", "iframe", "object", "embed")
    links = [
        value
        for _, attributes in page.tags
        for key, value in attributes.items()
        if key in ("src", "href", "srcset", "action", "xlink:href")
    ]
    assert all(link == "data:," for link in links)
    assert not re.search(r"@import|url\(", text)
    assert all("scope" in attributes for attributes in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) == 4
    drawings = [attributes for attributes in page.all("svg") if "aria-hidden" not in attributes]
    assert len(drawings) == 8
    assert all(attributes["role"] == "img" for attributes in drawings)
    assert len(page.all("desc")) == 8
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = " ".join(
        value or ""
        for _, attributes in page.tags
        for key, value in attributes.items()
        if key == "aria-labelledby"
    ).split()
    assert set(labels) <= set(ids)
    assert not re.search(r"\bnan\b|\binf\b", text)
    assert {tag: len(page.all(tag)) for tag in ("html", "h1", "main")} == {"html": 1, "h1": 1, "main": 1}


def test_coordinates_stay_inside_the_drawing(plan_with: Any, fake: Any) -> None:
    for margin in (0.01, 0.5, 40.0):
        text = render(document(plan_with(margin_nats=margin, times_s=(0.0, 60.0, 86400.0)), fake))
        for drawing in re.findall(r'<svg class="plot.*?</svg>', text, re.DOTALL):
            box = re.search(r'viewBox="0 0 (\d+) (\d+)"', drawing)
            assert box is not None
            for axis, size in (("x|x1|x2|cx", box[1]), ("y|y1|y2|cy", box[2])):
                values = [float(value) for value in re.findall(rf' (?:{axis})="([^"]+)"', drawing)]
                assert min(values) >= 0
                assert max(values) <= float(size)


def test_names_are_escaped(plan_with: Any, fake: Any) -> None:
    found = document(plan_with(), fake)
    found["provenance"]["weight_file"] = "<img src=x onerror=alert(1)>.h5"
    found["command"] = "aimc-sim signoff '<b>'"
    text = render(found)
    assert "<img" not in text
    assert "<b>" not in text


def test_hundreds_of_chips_still_fit(plan_with: Any, fake: Any) -> None:
    text = render(document(plan_with(chips=300), fake))
    heights = [int(height) for height in re.findall(r'viewBox="0 0 \d+ (\d+)"', text)]
    assert max(heights) <= 1000


def test_files_appear_whole_or_not_at_all(
    plan_with: Any, fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = document(plan_with(), fake)
    paths = files.write(found, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    before = [path.read_text() for path in paths]

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BadInput, match="disk is full"):
        files.write(found | {"command": "another"}, tmp_path)
    assert [path.read_text() for path in paths] == before
    assert len(list(tmp_path.iterdir())) == len(FILES)


def test_a_disk_that_fills_up_leaves_neither_new_file(
    plan_with: Any, fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file fits and the second does not."""
    calls: list[int] = []

    def full_at_the_second(_: int) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_at_the_second)
    with pytest.raises(BadInput, match="disk is full"):
        files.write(document(plan_with(), fake), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_wide_range_is_drawn_on_a_log_axis(plan_with: Any, fake: Any) -> None:
    narrow, wide = (
        re.findall(
            r'class="axis"[^>]*>([^<]*nats[^<]*)<',
            plots.over_time(document(plan_with(margin_nats=margin), fake), WIDE),
        )
        for margin in (0.6, 0.01)
    )
    assert set(narrow) == {"KL divergence, nats per token"}
    assert set(wide) == {"KL divergence, nats per token (log)"}


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("margin", [0.05, 0.12, 0.45])
def test_names_of_lines_stand_clear_of_each_other(
    plan_with: Any, fake: Any, width: int, margin: float
) -> None:
    drawing = plots.over_time(document(plan_with(margin_nats=margin, chips=2), fake), width)
    found = re.findall(
        r'<text class="(margin|reference)-label" x="(\S+)" y="(\S+)" text-anchor="(\w+)"', drawing
    )
    assert {kind for kind, *_ in found} == {"margin", "reference"}
    lines = dict(re.findall(r'<line class="(margin|reference)" x1="52" x2="\d+" y1="(\S+)"', drawing))
    for kind, _, base, _ in found:
        other = float(lines["margin" if kind == "reference" else "reference"])
        assert not float(base) - 10 <= other <= float(base), "no line through a name"


def test_a_folder_that_cannot_be_written_is_refused_early(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadInput, match="output folder"):
        prepare_folder(tmp_path / "file")
    prepare_folder(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_results_do_not_compare_timings(plan_with: Any, fake: Any) -> None:
    first = fake.run_fake(plan_with(chips=1))
    assert isinstance(first, Result)
    found = document(plan_with(chips=1), fake)
    assert all(isinstance(value, float) for value in found["timings"].values())
