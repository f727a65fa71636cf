"""The page of a sweep: self-contained, true to the table, and alive in a browser."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.sizing import Workload
from aimc_sim.sizing.sweep import explorer
from aimc_sim.sizing.sweep.plan import SweepPlan, space_of
from aimc_sim.sizing.sweep.result import Loss, Sweep
from aimc_sim.sizing.sweep.run import run_sweep
from aimc_sim.sizing.sweep.table import breakdowns

AXES = {"rows": (128.0, 256.0), "adc_bits": (6.0, 8.0), "adcs_per_tile": (16.0, 64.0)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Costs of SmolLM2 with made-up accuracies, so that no weights are needed."""
    hermes = Hardware.load("hermes-256")
    space = space_of([hermes], [None], AXES)
    plan = SweepPlan(
        model="SmolLM2-135M", code="", hardware=(hermes,), profiles=("p",), axes=AXES,
        scenario={"context": 256}, metric="cost",
    )  # fmt: skip
    swept = run_sweep(plan, space, Workload.of("SmolLM2-135M"), tmp_path_factory.mktemp("sweep"))
    labels = list(space.hardware)
    noise = {label: {"q": 0.01 * (k + 1), "o": 0.03 * (k + 1)} for k, label in enumerate(labels)}
    losses = {labels[0]: Loss(np.array([[12.0, 8.0], [10.0, 10.0]]))}
    return Sweep(
        plan, space, swept.workload, swept.costs, noise, losses, np.array([5.0, 5.0]), np.array([5, 5])
    )


def data_of(page: str) -> dict[str, Any]:
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert text is not None
    document: dict[str, Any] = json.loads(text[1])
    return document


def test_figures_of_a_point(found: Sweep) -> None:
    measured = found.space.accuracy_of.index(next(iter(found.losses)))
    assert found.sqnr_db[measured] == pytest.approx(-10 * math.log10(0.02))
    assert found.worst_db[measured] == pytest.approx(-10 * math.log10(0.03))
    assert found.loss_nats[measured] == pytest.approx(1.0)
    assert found.perplexity[measured] == pytest.approx(math.exp(2.0))
    assert np.isnan(found.loss_nats).sum() == 6


def test_the_page_holds_every_figure_and_loads_nothing(found: Sweep) -> None:
    page = explorer.render(replace(found, command="aimc-sim size '</script><b>@DATA@'"))
    data = data_of(page)
    assert data["columns"] == json.loads(json.dumps(found.columns))
    assert data["command"] == "aimc-sim size '</script><b>@DATA@'"
    shell = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "<b>" not in shell
    assert not re.search(r"\b(src|srcset|action)=", shell)
    assert set(re.findall(r'href="([^"]*)"', shell)) == {"data:,"}
    assert "default-src 'none'" in shell
    assert not re.search(r"@[A-Z]+@", shell)
    assert "calibrated at 256 × 256 tiles; other tiles are extrapolated" in shell
    for key, total in (
        ("energy", "energy_per_token_j"),
        ("latency", "latency_per_token_s"),
        ("area", "area_mm2"),
    ):
        parts = breakdowns(found)[key]
        assert np.sum(list(parts.values()), axis=0) == pytest.approx(data["columns"][total], rel=1e-3)


def test_without_accuracy_it_says_so(found: Sweep) -> None:
    bare = Sweep(found.plan, found.space, found.workload, found.costs)
    assert any("not measured" in note for note in explorer.notes(bare))
    assert set(data_of(explorer.render(bare))["columns"]["sqnr_db"]) == {None}


def test_files_are_written_together(found: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = found.write(tmp_path).files
    assert sorted(path.name for path in paths) == ["explorer.html", "matrices.csv", "points.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    monkeypatch.setitem(__import__("sys").modules, "plotly.offline", None)
    with pytest.raises(BadInput, match="report"):
        explorer.check_plotly()


PROBE = """
<script>
(async () => {
  const rows = () => document.querySelectorAll("#designs tbody tr").length;
  const wait = () => new Promise((done) => setTimeout(done, 50));
  const out = { all: rows(), width: document.documentElement.scrollWidth <= innerWidth };
  out.dots = document.querySelectorAll("#plot-0 .scatterlayer .point").length;
  $("plot-1").emit("plotly_selected", { points: [{ customdata: 3 }, { customdata: 5 }] });
  await wait();
  out.brushed = rows();
  const dots = [...document.querySelectorAll("#plot-2 .scatterlayer .point")];
  out.faded = dots.filter((dot) => Number(dot.style.opacity) < 0.1).length;
  out.first = document.querySelector("#designs tbody tr").textContent;
  document.querySelector("#designs tbody tr").click();
  await wait();
  out.chosen = $("chosen-name").textContent;
  out.command = $("chosen-command").textContent;
  out.bars = document.querySelectorAll("#breakdown .bars .point").length;
  out.roles = document.querySelectorAll("#by-role .bars .point").length;
  $("clear").click();
  $("only-front").click();
  out.front = rows();
  $("accuracy").value = "loss_nats";
  $("accuracy").onchange();
  await wait();
  out.axis = document.querySelector("#plot-0 .ytitle").textContent;
  out.hover = HOVER[0];
  document.title = "PROBED " + encodeURIComponent(JSON.stringify(out));
})().catch((error) => { document.title = "PROBED " + encodeURIComponent(JSON.stringify({ error: String(error) })); });
</script></body>
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here")
@pytest.mark.parametrize("width", [500, 1400])
def test_it_lives_in_a_browser(found: Sweep, tmp_path: Path, width: int) -> None:
    """Brushing filters the table and fades the other plots, a click shows the breakdown, the front can stand alone."""
    page = tmp_path / "explorer.html"
    page.write_text(
        explorer.render(replace(found, command="aimc-sim size x")).replace("</body>", PROBE), encoding="utf-8"
    )
    done = subprocess.run(
        [
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},1200", "--dump-dom",
            "--virtual-time-budget=4000", f"--user-data-dir={tmp_path / 'profile'}", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    title = re.search(r"<title>PROBED (.*?)</title>", done.stdout)
    assert title is not None, done.stderr[-2000:]
    from urllib.parse import unquote

    out = json.loads(unquote(title[1]))
    assert "error" not in out, out
    assert (out["all"], out["dots"], out["brushed"], out["faded"]) == (8, 8, 2, 6)
    assert out["width"], "nothing overflows the page"
    table = found.columns
    cheaper = min((3, 5), key=lambda i: table["energy_per_token_j"][i])
    assert out["chosen"].startswith(f"hermes-256, {table['rows'][cheaper]} × ")
    assert f"{table['adc_bits'][cheaper]}-bit" in out["chosen"]
    rows, bits, share = (table[name][cheaper] for name in ("rows", "adc_bits", "adcs_per_tile"))
    expected = (
        f"aimc-sim size x --rows {rows} --adc-bits {bits} --adcs-per-tile {share} --cols {rows} --explain"
    )
    assert out["command"] == expected
    assert out["bars"] == 3 * len({part for parts in breakdowns(found).values() for part in parts})
    assert out["front"] == sum(table["on_front"])
    assert out["axis"].startswith("loss above digital")
    assert "energy per token" in out["hover"]
