"""Which matrices stay digital: the bar is met, the bound bounds, and what comes out is a hardware."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from aimc_sim.cli.app import app
from aimc_sim.errors import AimcError, BadInput
from aimc_sim.hardware import Hardware, Placement
from aimc_sim.sizing import Designs, Workload, evaluate
from aimc_sim.sizing.placement_search import (
    choose,
    extra_energy,
    least_loss,
    merged,
    parse_budget,
    placement_file,
)
from aimc_sim.torch_bridge.model import is_analog
from aimc_sim.weightfile import WeightFile

HERMES = Hardware.load("hermes-256")
MATRICES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(-2, 9), st.integers(1, 9)), min_size=1, max_size=8
)


@given(MATRICES, st.integers(0, 20), st.sampled_from([0.0, 0.3, 0.6]))
def test_the_choice_meets_the_bar_and_the_bound_holds(
    matrices: list[tuple[int, int, int]], bar: int, analog: float
) -> None:
    """Against every subset there is."""
    s, c, w = np.array(matrices, float).T
    room = (1 - analog) * w.sum() + 1e-9
    possible = [
        c[list(chosen)].sum()
        for size in range(len(s) + 1)
        for chosen in itertools.combinations(range(len(s)), size)
        if s.sum() - s[list(chosen)].sum() <= bar and w[list(chosen)].sum() <= room
    ]
    names = [f"m{i}" for i in range(len(s))]
    assume(possible)
    found = choose(names, s, c, w, bar, analog)
    taken = [names.index(name) for name in found.digital]
    assert s.sum() - s[taken].sum() == pytest.approx(found.loss)
    assert found.loss <= bar + 1e-9
    assert w[taken].sum() <= room
    assert found.energy_j == pytest.approx(c[taken].sum())
    assert found.bound_j <= min(possible) + 1e-6 * np.abs(c).sum()
    assert found.energy_j >= min(possible) - 1e-9
    if found.energy_j > 0:
        assert found.gap >= -1e-9


def test_one_matrix_that_does_all_the_harm_is_found() -> None:
    found = choose(["a", "b", "c"], [0.1, 2.0, 0.1], [1.0, 1.0, 1.0], [10, 10, 80], bar=0.3, analog=0.9)
    assert found.digital == ("b",)
    assert found.loss == pytest.approx(0.2)
    with pytest.raises(AimcError, match="no placement leaves"):
        choose(["a", "b", "c"], [0.1, 2.0, 0.1], [1.0, 1.0, 1.0], [10, 10, 80], bar=0.1, analog=0.9)
    assert choose(["a"], [1.0], [1.0], [1.0], bar=2.0).digital == ()
    assert choose(["a"], [0.0], [-1.0], [1.0], bar=2.0).digital == ("a",), "what is cheaper digital may be"


def test_the_least_loss_is_the_best_of_every_subset() -> None:
    s, w = [0.5, 0.4, 0.3, 0.2], [6.0, 5.0, 5.0, 1.0]
    assert least_loss(s, w, 0.4, 17.0) == pytest.approx(1.4 - 0.7), (
        "10.2 of room: the second and third, not the first"
    )
    assert least_loss(s, w, 1.0, 17.0) == pytest.approx(1.4)
    assert least_loss(s, w, 1.5, 17.0) == float("inf")
    tight = least_loss(s, w, 0.4, 17.0)
    assert choose(list("abcd"), s, [1.0] * 4, w, tight, 0.4, 17.0).loss == pytest.approx(0.7)


def test_budgets() -> None:
    assert parse_budget("0.2", 3.0, 1.0) == 0.2
    assert parse_budget("50%", 3.0, 1.0) == 2.0
    for wrong in ("-1", "x", "100%", "nan%"):
        with pytest.raises(BadInput, match="budget"):
            parse_budget(wrong, 1.0, 0.0)


def test_energy_is_what_the_cost_model_says(tiny_weights: Path) -> None:
    work, designs = Workload.of(tiny_weights), Designs.of(HERMES)
    name = "model.layers.0.mlp.down_proj"
    found = extra_energy(work, designs, [name])
    placed = Workload.of(tiny_weights, Placement(digital=(name,)))
    expected = evaluate(designs, placed).energy_per_token_j - evaluate(designs, work).energy_per_token_j
    assert found == pytest.approx(expected)
    assert found[0] != 0


def test_the_file_is_a_hardware(tmp_path: Path) -> None:
    names = ("model.layers.0.mlp.down_proj", "lm_head")
    path = tmp_path / "placement.toml"
    path.write_text(placement_file(HERMES, names, "why\nand how"))
    assert path.read_text().startswith("# why\n# and how\nbase = ")
    assert Hardware.load(path).placement.digital == names
    assert (
        Hardware.load(path).id == HERMES.model_copy(update={"placement": merged(HERMES.placement, names)}).id
    )
    own = Hardware.load({"base": "hermes-256", "adc": {"bits": 6}, "placement": {"digital": ["*.0.*"]}})
    path.write_text(placement_file(own, names))
    assert Hardware.load(path).placement.digital == ("*.0.*", *names)
    assert Hardware.load(path).adc == own.adc
    path.write_text(placement_file(HERMES, ()))
    assert Hardware.load(path).id == HERMES.id


def test_the_command_finds_a_placement_that_holds(tiny_weights: Path, tmp_path: Path) -> None:
    """From the file to a hardware that `eval` takes, with the share of weights and of the loss that was asked for."""
    options = [
        "place",
        str(tiny_weights),
        "--budget",
        "60%",
        "--analog",
        "0.5",
        "--tokens",
        "64",
        "--workers",
        "1",
    ]
    done = CliRunner().invoke(app, [*options, "--unseen", "2", "-o", str(tmp_path), "--json"])
    document = json.loads(done.stdout)
    assert done.exit_code == (0 if document["met"] else 1), done.output
    placed = Hardware.load(tmp_path / "placement.toml")
    weights = WeightFile(tiny_weights)
    sizes = {matrix.name: matrix.rows * matrix.cols for matrix in weights.matrices}
    analog = sum(sizes[matrix.name] for matrix in weights.matrices if is_analog(matrix, placed))
    assert document["analog_share"] == pytest.approx(analog / sum(sizes.values()))
    assert document["analog_share"] >= 0.5
    assert set(placed.placement.digital) == set(document["choice"]["digital"])
    assert document["loss"]["mean"] <= document["bar"]
    assert document["recovered_share"] > 0.2
    assert document["energy_j"] - document["energy_all_analog_j"] == pytest.approx(
        document["choice"]["energy_j"], rel=1e-3
    )
    for wrong in (["--budget", "x"], ["--analog", "1"], ["--unseen", "0"], ["--workers", "0"]):
        assert CliRunner().invoke(app, [*options, *wrong, "-o", str(tmp_path)]).exit_code == 2
