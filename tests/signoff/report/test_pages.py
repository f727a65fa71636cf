"""Pages of all kinds: right and wrong answers, several parts, layers; what CI reads; and how Chromium lays them out."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from aimc_sim.hardware import Hardware
from aimc_sim.signoff.report import document as report
from aimc_sim.signoff.report import files
from aimc_sim.signoff.report.findings import alone, findings_of
from aimc_sim.signoff.report.headline import Headline, headline_of, lifetime_words
from aimc_sim.signoff.report.html import render, render_compare, render_summary
from aimc_sim.signoff.report.junit import junit_of
from aimc_sim.signoff.report.markdown import cell, report_md, summary_md
from aimc_sim.signoff.report.plots import Strip, strips
from helpers.studies import run_trials


@pytest.fixture
def answers(fake: Any) -> dict[str, Any]:
    """The report of questions on the fake bench."""
    result = fake.run_fake(fake.answers_plan(), fake.FakeAnswers())
    return report.document_of(result, command="aimc-sim signoff x.h5 --tasks sums -o OUT")


def headline(document: dict[str, Any]) -> Headline:
    return headline_of(document["verdict"], document["statistics"])


def several(plan_with: Any, fake: Any, **changes: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Reports of two hardware variants, and their summary."""
    both = [Hardware.load("hermes-256"), Hardware.load("pcm-512")]
    plan, bench = plan_with(hardware=both, **changes), fake.FakeBench()
    study = run_trials(plan, bench, bench.items(plan))
    documents = [
        report.document_of(each.result, findings=each, command="aimc-sim …") for each in findings_of(study)
    ]
    return documents, files.summary_of(
        documents, plan.id, ["pcm-x is left out: its data end at 1 hour"], "aimc-sim …"
    )


def test_answers_are_judged_like_a_text(answers: dict[str, Any]) -> None:
    rows, verdict = answers["rows"], answers["verdict"]
    assert verdict["unit"] == "share of questions"
    assert verdict["margin"] == 0.2
    assert rows["digital"]["acc"] == pytest.approx(2 / 3)
    young, old = rows["times"]
    assert young["loss"]["mean"] == pytest.approx(-1 / 60), "one question won"
    assert old["loss"]["mean"] == pytest.approx(verdict["mean"]) == pytest.approx(4 / 60)
    assert old["acc"]["mean"] == pytest.approx(rows["digital"]["acc"] - old["loss"]["mean"])
    assert [chip["lost"] for chip in old["chips"]] == [5, 4, 4, 7]
    assert {chip["won"] for chip in old["chips"]} == {1}
    assert answers["questions"]["count"] == len(answers["questions"]["examples"]) == 60
    assert len(answers["answers"]["chips"]) == 8
    assert "percentage points" in verdict["summary"]


def test_questions_lost_are_shown_with_what_was_chosen(answers: dict[str, Any]) -> None:
    flips = answers["flips"]
    assert flips["one_chip"]["seed"] == answers["statistics"]["worst_chip"]["seed"] == 3
    assert flips["one_chip"]["p_mcnemar"] == pytest.approx(0.0703, abs=1e-4)
    assert flips["lost_by_every_chip"] == 1
    first = flips["examples"][0]
    assert (first["id"], first["chips_lost"], first["digital"], first["chose"]) == ("q0", 4, 0, [0, 0, 4])
    text = render(answers)
    assert "What is 0 + 0?" in text
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    assert "about this chip on these questions only" in " ".join(text.split()).replace("a statement ", "")


def test_the_first_screen_in_words(answers: dict[str, Any], plan_with: Any, fake: Any) -> None:
    shown = headline(answers)
    assert (shown.word, shown.effect, shown.unit, shown.margin) == ("Pass", "6.67", "percentage points", "20")
    assert shown.on_items == "4 of 4 chips"
    assert shown.lifetime == "> 1 day"
    text = headline(report.document_of(fake.run_fake(plan_with(margin_nats=0.52))))
    assert text.word == "Not shown", "the interval holds the margin"
    assert headline(report.document_of(fake.run_fake(plan_with(margin_nats=0.1)))).word == "Fail"
    lost = {"crossed_s": 60.0, "shown_s": None, "first_s": 60.0, "last_s": 3600.0}
    assert lifetime_words(lost) == ("< 1 minute", "an estimate: none of it is shown")


def test_markdown_says_fail_only_where_the_whole_interval_is_beyond(plan_with: Any, fake: Any) -> None:
    words = {}
    for margin in (0.1, 0.52, 5.0):
        text = report_md(report.document_of(fake.run_fake(plan_with(margin_nats=margin))))
        rows = [line for line in text.splitlines() if line.startswith("| after")]
        words[margin] = rows[-1].split("|")[-2].strip()
    assert words == {0.1: "fail", 0.52: "not shown", 5.0: "pass"}


def test_holm_over_tasks_reaches_the_verdict(plan_with: Any, fake: Any) -> None:
    """A part that passes alone and not among the tasks of its hardware fails, and its sentence says why."""
    from dataclasses import replace

    found = alone(fake.run_fake(plan_with()))
    assert found.passed
    document = report.document_of(found.result, findings=replace(found, passed=False, p_holm=0.04))
    assert (document["verdict"]["pass"], document["verdict"]["undecided"]) == (False, True)
    assert "counted together (Holm)" in document["verdict"]["summary"]
    case = ET.fromstring(junit_of([document])).findall(".//failure")
    assert [each.get("message") for each in case] == [document["verdict"]["summary"]]


def test_layers_are_a_fact_of_the_hardware(plan_with: Any, fake: Any) -> None:
    document = report.document_of(fake.run_fake(plan_with()))
    layers = document["layers"]
    assert (layers["seed"], layers["time_s"], len(layers["matrices"])) == (0, 86400.0, 5)
    text = " ".join(render(document).split())
    assert "chip seed 0 after 1 day" in text
    assert "The noisiest is lm_head." in text
    bare = {**document, "layers": None}
    assert "Layer by layer" not in render(bare)


def test_junit_has_a_case_for_each_time_and_says_why_it_fails(plan_with: Any, fake: Any) -> None:
    documents, _ = several(plan_with, fake, margin_nats=0.3)
    documents[0]["statistics"]["task"] = "a <task>\x07"
    root = ET.fromstring(junit_of(documents))
    assert root.tag == "testsuites"
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "4", "0")
    assert [len(suite.findall("testcase")) for suite in root] == [2, 2]
    case = root[1][1]
    assert (case.get("classname"), case.get("name")) == ("pcm-512.text", "after 1 day")
    assert float(case.get("time", "")) > 0
    assert case[0].get("message") == documents[1]["verdict"]["summary"]
    assert "beyond the margin of 0.3" in (root[1][0][0].text or "")
    assert "\x07" not in (root[0].get("name") or "")
    passing = ET.fromstring(junit_of(several(plan_with, fake)[0]))
    assert passing.get("failures") == "0"


def test_markdown_is_tables_that_nothing_breaks(answers: dict[str, Any]) -> None:
    answers["provenance"]["weight_file"] = "a|b<img>.h5"
    text = report_md(answers)
    assert text.startswith("## Pass: a\\|b&lt;img>.h5 on hermes-256, sums\n")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len(tables) == 7 + 4
    assert "| Margin | 20 percentage points, upper bound 17.9 |" in tables
    assert "\u200b" not in text
    assert "```\naimc-sim signoff x.h5 --tasks sums -o OUT\n```" in text
    assert cell("[x](y)\n") == "\\[x](y) "


def test_several_parts_side_by_side(plan_with: Any, fake: Any, tmp_path: Path) -> None:
    documents, summary = several(plan_with, fake)
    paths = files.write_all(documents, summary, tmp_path)
    assert [path.name for path in paths] == ["summary.json", "summary.html", "summary.md", "junit.xml"]
    assert (tmp_path / "pcm-512" / "text" / "report.html").exists()
    assert not list(tmp_path.rglob("text/junit.xml")), "one file for all, so that no case counts twice"
    page = paths[1].read_text()
    assert 'href="hermes-256/text/report.html"' in page
    assert "<li>pcm-x is left out: its data end at 1 hour</li>" in page
    assert "| **Pass** | pcm-512 | text |" in summary_md(summary)
    assert "\n- pcm-x is left out: its data end at 1 hour\n" in summary_md(summary)
    failing = several(plan_with, fake, margin_nats=0.52)[1]
    assert "Not shown" in render_summary(failing)


@pytest.mark.parametrize("margin", [None, 0.0, 1.0, 3.0, 500.0])
@pytest.mark.parametrize("width", [720, 358])
def test_strips_stay_inside_and_name_a_far_margin(margin: float | None, width: int) -> None:
    rows = [Strip("a" * 60, -1.0, -2.0, 1.5, "pass"), Strip("b", 2.0, None, None)]
    drawing = strips("x", "title", rows, margin, "unit", width)
    values = [float(value) for value in re.findall(r' (?:x|x1|x2|cx)="([^"]+)"', drawing)]
    assert 0 <= min(values) <= max(values) <= width
    assert ("margin 500 →" in drawing) == (margin == 500.0)
    assert drawing.count('class="interval') == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here")
def test_chromium_renders_every_page_without_overflow(
    plan_with: Any, fake: Any, answers: dict[str, Any], tmp_path: Path
) -> None:
    """Each page is laid out in frames of 390 and 1280 pixels, which say how wide their content is; one is printed."""
    from aimc_sim.signoff.report.pairs import comparison_of as compare
    from aimc_sim.signoff.report.saved import Side

    compared = compare(Side("old", (answers,)), Side("new", (answers,)), margin=0.05)
    pages = {
        "text": render(report.document_of(fake.run_fake(plan_with()))),
        "answers": render(answers),
        "summary": render_summary(several(plan_with, fake)[1]),
        "compare": render_compare(compared),
    }
    script = "<script>parent.postMessage(document.documentElement.scrollWidth + '/' + innerWidth, '*')</script></body>"
    frames = ""
    for name, text in pages.items():
        probed = text.replace("default-src 'none';", "script-src 'unsafe-inline';").replace("</body>", script)
        (tmp_path / f"{name}.html").write_text(probed, encoding="utf-8")
        for width in (390, 1280):
            frames += f'<iframe src="{name}.html" style="width:{width}px;height:900px;border:0"></iframe>'
    heard = "<script>addEventListener('message', event => { document.title += ' ' + event.data })</script>"
    (tmp_path / "frames.html").write_text(f"<title>.</title>{heard}{frames}", encoding="utf-8")
    found = re.search(r"<title>\. (.*?)</title>", chromium(tmp_path, "--dump-dom", tmp_path / "frames.html"))
    assert found is not None
    widths = [[int(number) for number in pair.split("/")] for pair in found[1].split()]
    assert sorted(room for _, room in widths) == [390] * 4 + [1280] * 4
    assert all(needed <= room for needed, room in widths), widths
    chromium(tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}", tmp_path / "answers.html")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def chromium(folder: Path, option: str, page: Path) -> str:
    """What headless Chromium writes about a page."""
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,900",
        "--virtual-time-budget=5000", f"--user-data-dir={folder / 'profile'}", option, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
