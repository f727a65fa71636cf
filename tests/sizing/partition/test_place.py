"""Which matrices stay digital: the bar is met, the bound bounds, and what comes out is a hardware."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
from hypothesis import assume, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from aimc_sim.cli.app import app
from aimc_sim.errors import AimcError, BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.hardware.transform import choose_transform
from aimc_sim.sizing import Designs, Scenario, Workload, evaluate, size
from aimc_sim.sizing.partition import choice as placement_choice
from aimc_sim.sizing.partition.choice import DIGITAL, Choice, Options, choose, least_loss
from aimc_sim.sizing.partition.moves import applied, moves_of, placement_file
from aimc_sim.sizing.partition.result import OverChips
from aimc_sim.sizing.partition.search import Pricing, extra_energy, parse_budget
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.analog import is_analog

HERMES = Hardware.load("hermes-256")
MATRICES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(-2, 9), st.integers(1, 9)), min_size=1, max_size=8
)


def to_digital(names: Any, shares: Any, energy_j: Any, weights: Any, kept: float = 0.0) -> Options:
    """Digital is the only move: shares (M,) nats per token, energies, weights."""
    s, c, w = (np.asarray(value, np.float64)[:, None] for value in (shares, energy_j, weights))
    return Options(tuple(names), (DIGITAL,), s, c, w, float(s.sum()), float(w.sum()), kept)


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
    found = choose(to_digital(names, s, c, w, analog), bar)
    taken = [names.index(name) for name in found.digital]
    assert s.sum() - s[taken].sum() == pytest.approx(found.loss)
    assert found.loss <= bar + 1e-9
    assert w[taken].sum() <= room
    assert found.energy_j == pytest.approx(c[taken].sum())
    assert found.bound_j is not None
    assert found.bound_j <= min(possible) + 1e-6 * np.abs(c).sum()
    assert found.energy_j >= min(possible) - 1e-9
    assert found.gap_j == max(found.energy_j - found.bound_j, 0)
    assert found.gap_j >= found.energy_j - min(possible) - 1e-6 * np.abs(c).sum()


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 9), st.integers(-2, 9), st.sampled_from([0, 3])), min_size=2, max_size=2),
        min_size=1, max_size=5,
    ),
    st.integers(0, 20),
)  # fmt: skip
def test_a_choice_among_several_moves_meets_the_bar_and_the_bound_holds(
    matrices: list[list[tuple[int, int, int]]], bar: int
) -> None:
    """Against every combination there is; a matrix gets one move at most."""
    s, c, w = np.moveaxis(np.array(matrices, float), 2, 0)
    names = tuple(f"m{i}" for i in range(len(s)))
    options = Options(names, ("digital", "2 copies"), s, c, w, 3 + float(s.max(axis=1).sum()), 12.0, 0.5)
    possible = []
    for taken in itertools.product((-1, 0, 1), repeat=len(s)):
        at = [(m, o) for m, o in enumerate(taken) if o >= 0]
        won, cost, used = (sum(table[m, o] for m, o in at) for table in (s, c, w))
        if options.whole_nats - won <= bar and used <= options.room:
            possible.append(cost)
    if not possible:
        with pytest.raises(AimcError, match="no placement leaves"):
            choose(options, bar)
        return
    found = choose(options, bar)
    at = [(names.index(name), options.moves.index(move)) for name, move in found.taken.items()]
    assert len(set(dict(at))) == len(found.taken)
    assert options.whole_nats - sum(s[m, o] for m, o in at) == pytest.approx(found.loss)
    assert found.loss <= bar + 1e-9
    assert sum(w[m, o] for m, o in at) <= options.room
    assert found.energy_j == pytest.approx(sum(c[m, o] for m, o in at))
    assert found.bound_j is not None
    assert found.bound_j <= min(possible) + 1e-6 * np.abs(c).sum()
    assert found.energy_j >= min(possible) - 1e-9


def one_of(s: list[float], c: list[float], w: list[float], bar: float, kept: float = 0.0) -> Choice:
    return choose(to_digital(list("abcd")[: len(s)], s, c, w, kept), bar)


def test_one_matrix_that_does_all_the_harm_is_found() -> None:
    found = one_of([0.1, 2.0, 0.1], [1.0, 1.0, 1.0], [10, 10, 80], bar=0.3, kept=0.9)
    assert found.digital == ("b",)
    assert found.loss == pytest.approx(0.2)
    with pytest.raises(AimcError, match="no placement leaves"):
        one_of([0.1, 2.0, 0.1], [1.0, 1.0, 1.0], [10, 10, 80], bar=0.1, kept=0.9)
    assert one_of([1.0], [1.0], [1.0], bar=2.0).digital == ()
    assert one_of([0.0], [-1.0], [1.0], bar=2.0).digital == ("a",), "what is cheaper digital may be"


def test_the_least_loss_is_the_best_of_every_subset() -> None:

    def keeping(share: float) -> Options:
        return to_digital("abcd", [0.5, 0.4, 0.3, 0.2], [1.0] * 4, [6.0, 5.0, 5.0, 1.0], share)

    assert least_loss(keeping(0.4)) == pytest.approx(1.4 - 0.7), (
        "10.2 of room: the second and third, not the first"
    )
    assert least_loss(keeping(1.0)) == pytest.approx(1.4)
    with pytest.raises(BadInput, match="analog"):
        least_loss(keeping(1.5))
    assert choose(keeping(0.4), least_loss(keeping(0.4))).loss == pytest.approx(0.7)


def test_budgets() -> None:
    assert parse_budget("0.2", 3.0, 1.0) == 0.2
    assert parse_budget("50%", 3.0, 1.0) == 2.0
    for wrong in ("-1", "x", "100%", "nan%"):
        with pytest.raises(BadInput, match="budget"):
            parse_budget(wrong, 1.0, 0.0)


def test_energy_is_what_the_cost_model_says(tiny_weights: Path) -> None:
    work, designs = Workload.of(tiny_weights), Designs.of(HERMES)
    name = "model.layers.0.mlp.down_proj"
    moves = moves_of(HERMES)
    assert list(moves) == [
        DIGITAL, "rotated", "rotated, 2 copies", "rotated, 4 copies", "2 copies", "3 copies", "4 copies",
        "9-bit ADC", "10-bit ADC",
    ]  # fmt: skip
    found = extra_energy(Pricing.of(work, designs, assumed=True), [name], moves)
    whole = evaluate(designs, work).energy_per_token_j
    for j, label in enumerate(moves):
        chip = applied(HERMES, {name: label}, moves)
        placed = evaluate(Designs.of(chip), Workload.of(tiny_weights, chip.placement)).energy_per_token_j
        assert found[0, j] == pytest.approx(float((placed - whole)[0]))
    assert (found != 0).all()
    assert found[0, 1] < found[0, 4] < found[0, 5] < found[0, 6] < found[0, 3], (
        "arithmetic is cheap, copies are not"
    )
    single = Hardware.load({"base": "hermes-256", "device": "pcm-hermes-1"})
    assert moves_of(single)["2 devices"].every(single).of_matrix(name).weights.devices == 2
    with pytest.raises(BadInput, match="moves"):
        moves_of(HERMES, ["devices"])
    with pytest.raises(BadInput, match="did you mean 'copies'"):
        moves_of(HERMES, ["copy"])
    own = Hardware.load({"base": "hermes-256", "transform": {"rotate": "hadamard"}})
    assert "rotated" not in moves_of(own), "it has transforms of its own"


def test_the_file_is_a_hardware(tmp_path: Path) -> None:
    names = ("model.layers.0.mlp.down_proj", "lm_head")
    path = tmp_path / "placement.toml"
    moves = moves_of(HERMES)
    taken = {
        **dict.fromkeys(names, DIGITAL),
        "a": "2 copies",
        "b": "9-bit ADC",
        "c": "rotated, 2 copies",
        "d": "rotated",
    }
    placed = applied(HERMES, taken, moves)
    path.write_text(placement_file(HERMES, placed, "why\nand how"))
    assert path.read_text().startswith("# why\n# and how\nbase = ")
    again = Hardware.load(path)
    assert (again.placement, again.transform, again.id) == (placed.placement, placed.transform, placed.id)
    assert again.placement.digital == names
    assert again.of_matrix("a").weights.copies == again.of_matrix("c").weights.copies == 2
    assert (again.of_matrix("b").adc, again.of_matrix("e").weights) != (HERMES.adc, HERMES.weights)
    assert [choose_transform(again.transform or (), name, "q") is not None for name in "abcde"] == [
        False,
        False,
        True,
        True,
        False,
    ]
    own = Hardware.load({"base": "hermes-256", "adc": {"bits": 6}, "placement": {"digital": ["*.0.*"]}})
    path.write_text(placement_file(own, applied(own, taken, moves)))
    assert Hardware.load(path).placement.digital == ("*.0.*", *names)
    assert Hardware.load(path).of_matrix("a").weights.copies == 2
    assert Hardware.load(path).adc == own.adc
    path.write_text(placement_file(HERMES, HERMES))
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
    taken = document["choice"]["taken"]
    assert set(placed.placement.digital) == {name for name, move in taken.items() if move == DIGITAL}
    assert any("copies" in move or "ADC" in move for move in taken.values()) == bool(placed.placement.special)
    assert any("rotated" in move for move in taken.values()) == bool(placed.transform)
    assert len(document["recovered_by_chip"]) == 2
    assert (
        min(document["recovered_by_chip"])
        <= document["recovered_share"]
        <= max(document["recovered_by_chip"])
    )
    assert document["recovered_by_metric"]["kl"] == pytest.approx(document["recovered_share"])
    assert document["loss"]["mean"] <= document["bar"]
    assert document["recovered_share"] > 0.2
    assert document["energy_j"] - document["energy_all_analog_j"] == pytest.approx(
        document["choice"]["energy_j"], rel=1e-3
    )
    same = size(tiny_weights, placed).cost.energy_per_token_j[0]
    assert document["energy_j"] == pytest.approx(same, rel=1e-12), "what `size` says of the file"
    assert document["activity"].startswith("measured") == (size(tiny_weights, placed).activity.tokens > 0)
    assert document["not_additive_j"] == document["added_j"] - document["choice"]["energy_j"]
    assert document["gap_share"] == document["choice"]["gap_j"] / document["energy_j"]
    assert document["unseen_chips"]["interval"] is None
    assert document["met_by"] == ("mean" if document["met"] else "no")
    note = (tmp_path / "placement.toml").read_text()
    for said in (
        "Gap to the bound: ",
        "bound is of the additive model",
        "no interval of fewer than three",
        "µJ less",
    ):
        assert said in note or (said == "µJ less" and document["added_j"] > 0)
    for wrong in (
        ["--phase", "x"],
        ["--context", "0"],
        ["--budget", "x"],
        ["--analog", "1"],
        ["--unseen", "0"],
        ["--workers", "0"],
    ):
        assert CliRunner().invoke(app, [*options, *wrong, "-o", str(tmp_path)]).exit_code == 2


def test_intervals_over_chips_by_hand() -> None:
    found = OverChips.of([1.0, 2.0, 3.0])
    assert found.interval is not None
    assert found.interval[1] - found.mean == pytest.approx(4.302653 / np.sqrt(3), rel=1e-6)
    assert found.mean == 2.0
    assert OverChips.of([1.0, 3.0]) == OverChips((1.0, 3.0), 2.0, None)


def test_a_placement_is_priced_as_size_prices_it(tiny_weights: Path) -> None:
    """Measured activity, and the scenario that is asked for."""
    name, moves = "model.layers.0.mlp.down_proj", moves_of(HERMES)
    for scenario in (Scenario(), Scenario("prefill", 77, 3), Scenario(context=9, head=False, rate=5.0)):
        for costs in ("hermes-14nm", "neurram-130nm"):
            work = Workload.of(tiny_weights)
            pricing = Pricing.of(work, Designs.of(HERMES, costs), scenario)
            placed = applied(HERMES, {name: "2 copies"}, moves)
            expected = size(tiny_weights, placed, costs, scenario)
            assert pricing.activity.source == expected.activity.source
            found = pricing.energy_j({name: "2 copies"}, moves)
            assert found == pytest.approx(float(expected.cost.energy_per_token_j[0]), rel=1e-12)


def test_a_search_that_is_cut_off_ends_alike_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes are counted, not seconds; without a solution in whole numbers greedy says what it comes down to."""
    given: list[dict[str, Any]] = []
    real, solve = placement_choice._programme, scipy.optimize.milp

    def watched(*args: Any, **options: Any) -> Any:
        given.append(dict(options["options"] or {}))  # which milp empties
        return solve(*args, **options)

    def cut_off(options: Options, cost: np.ndarray, needed: float, whole: bool = False) -> object:
        return placement_choice._Solved(False, None, None) if whole else real(options, cost, needed)

    options = to_digital("abcd", [0.5, 0.4, 0.3, 0.2], [1.0] * 4, [6.0, 5.0, 5.0, 1.0], 0.4)
    monkeypatch.setattr(scipy.optimize, "milp", watched)
    least_loss(options)
    assert given == [{"node_limit": placement_choice.NODES}]
    monkeypatch.setattr(placement_choice, "_programme", cut_off)
    least = least_loss(options)
    assert least == pytest.approx(1.4 - 0.7)
    assert choose(options, least).loss == pytest.approx(0.7)
    with pytest.raises(AimcError, match=r"comes down to 0\.7"):
        choose(options, 0.69)
    monkeypatch.setattr(
        placement_choice, "_programme", lambda *_, **__: placement_choice._Solved(False, None, None)
    )
    found = choose(options, 1.0)
    assert (found.bound_j, found.gap_j) == (None, None)
    assert found.loss <= 1.0
