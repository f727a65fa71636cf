"""Placement on chips, copies of slow steps, and what programming costs."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Literal

import pytest

from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.sizing import Cost, Designs, Profile, Scenario, Workload, evaluate, floorplan, replicate
from aimc_sim.sizing.cost.writing import writing

SMALL = Profile.load({"base": "hermes-14nm", "chip": {"tiles": 512}})


def cost_of(model: str, profile: Profile | str = SMALL, hardware: str = "hermes-256") -> Cost:
    return evaluate(Designs.of(hardware, profile), Workload.of(model))


@pytest.mark.parametrize("model", ["SmolLM2-135M", "Llama-3.2-1B", "Qwen1.5-MoE-A2.7B"])
@pytest.mark.parametrize("experts", ["packed", "spread"])
@pytest.mark.parametrize("whole", [True, False])
def test_every_tile_stands_somewhere_and_no_chip_is_too_full(model: str, experts: str, whole: bool) -> None:
    cost = cost_of(model)
    chips = floorplan(cost, experts=experts, whole_layers=whole)  # type: ignore[arg-type]
    assert sum(piece.tiles for chip in chips.pieces for piece in chip) == int(cost.tiles[0])
    assert min(chips.free) >= 0
    assert chips.count >= int(cost.chips[0])
    named: dict[tuple[int, str], int] = {}
    for piece in itertools.chain.from_iterable(chips.pieces):
        named[piece.layer, piece.name] = named.get((piece.layer, piece.name), 0) + piece.experts
    assert set(named.values()) <= {0, 60}  # all experts of every matrix that has any


def test_a_layer_that_fits_a_chip_is_not_cut() -> None:
    cost = cost_of("SmolLM2-135M")  # 78 tiles a layer, 6 layers on 512 tiles
    chips = floorplan(cost)
    homes: dict[int, set[int]] = {}
    for index, chip in enumerate(chips.pieces):
        for piece in chip:
            homes.setdefault(piece.layer, set()).add(index)
    assert all(len(homes[layer]) == 1 for layer in range(30))
    assert chips.layers_per_chip[:4] == (6, 6, 6, 6)
    cut = floorplan(cost, whole_layers=False)
    assert cut.count == int(cost.chips[0])
    # from layer 5 to layer 6 and so on: the vector of a token, two bytes an element, five times (the head: two chips)
    assert chips.hops == 5
    assert chips.bytes == 576 * 2 * (4 + 2)


def test_experts_of_their_own_dies_are_visited_as_chance_says() -> None:
    spread = floorplan(cost_of("Mixtral-8x7B", "adc-survey", "pcm-512"), experts="spread").experts[0]
    assert (spread.experts, spread.active) == (8, 2)
    held = [len(range(chip, 8, spread.chips)) for chip in range(spread.chips)]
    visited = 0.0
    pairs = list(itertools.combinations(range(8), 2))
    for pair in pairs:  # every choice of two experts, by hand
        visited += len({expert % spread.chips for expert in pair}) / len(pairs)
    assert sum(held) == 8
    assert spread.visited == pytest.approx(visited)


@pytest.mark.parametrize(
    ("experts", "held", "visited", "away", "dense"),
    [
        ("packed", [10, 10, 9], Fraction(40, 28), Fraction(20, 28), 1),  # gates of 6 experts, and of 2
        ("spread", [5, 9, 9, 6], Fraction(49, 28), Fraction(49, 28), 0),  # dies of 3, 3 and 2 experts
    ],
)
def test_what_an_expert_is_sent_it_sends_back(
    experts: Literal["packed", "spread"], held: list[int], visited: Fraction, away: Fraction, dense: int,
    tmp_path: Path,
) -> None:  # fmt: skip
    """One layer of eight experts, two at work, 256 channels of two bytes; every matrix and every expert's is a tile."""
    config = {
        "model_type": "mixtral", "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 4, "num_local_experts": 8, "num_experts_per_tok": 2,
        "vocab_size": 256,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    small = Profile.load({"base": "hermes-14nm", "chip": {"tiles": 10}})
    chips = floorplan(cost_of(str(tmp_path / "config.json"), small), experts=experts)
    assert [sum(piece.tiles for piece in chip) for chip in chips.pieces] == held
    assert [found.visited for found in chips.experts] == [pytest.approx(float(visited))]
    assert chips.hops == dense + 2
    assert chips.bytes == pytest.approx(float(dense + 2 * away) * 256 * 2)


def test_one_chip_needs_no_links() -> None:
    roomy = Profile.load({"base": "hermes-14nm", "chip": {"tiles": 100_000}})
    cost = cost_of("SmolLM2-135M", roomy)
    chips = floorplan(cost)
    assert (chips.count, chips.hops, chips.bytes) == (1, 0, 0)
    assert float(cost.energy_j["links"][0]) == float(cost.path_s["links"][0]) == 0
    assert float(cost_of("SmolLM2-135M").path_s["links"][0]) > 0


def test_copies_go_to_the_slowest_step_and_no_choice_is_faster() -> None:
    """Against every other way to hand out the same tiles, for a model of few steps."""
    one = {"value": 1e9, "low": 1e9, "high": 1e9, "source": "test", "licence": "none"}
    fast = {"rate_macs": {**one, "unit": "MAC/ns"}, "bandwidth_memory": {**one, "unit": "GB/s"}}
    quick = Profile.load({"base": "hermes-14nm", "digital": fast})
    cost = evaluate(Designs.of("hermes-256", quick), Workload.of("SmolLM2-135M"), Scenario(head=False))
    base = int(cost.tiles[0])
    names = [name for name in cost.stage_names if name[1] != "attention"]
    times = {name: float(cost.step_ns[0, at]) for at, name in enumerate(cost.stage_names)}
    price = {(0, "q+k+v"): 15 * 30, (0, "o"): 9 * 30, (0, "gate+up"): 36 * 30, (0, "down"): 18 * 30}
    assert sum(price.values()) == base
    for budget in (base, 2 * base, 3 * base + 500):
        found = replicate(cost, budget)
        best = min(
            max(times[name] / n for name, n in zip(names, chosen, strict=True))
            for chosen in itertools.product(range(1, 6), repeat=4)
            if sum(price[name] * n for name, n in zip(names, chosen, strict=True)) <= budget
        )
        assert found.slowest_s == pytest.approx(best * 1e-9)
        assert found.tiles <= budget
        assert found.tokens_per_s == pytest.approx(1 / found.slowest_s)


def test_copies_do_not_help_where_attention_is_slowest() -> None:
    cost = cost_of("Llama-3.2-1B")
    found = replicate(cost, 10 * int(cost.tiles[0]))
    assert found.bound_by == "attention"
    assert set(found.copies.values()) == {1}
    assert replicate(cost, 10 * int(cost.tiles[0]), attention_units=64).tokens_per_s > found.tokens_per_s
    with pytest.raises(BadInput, match="one copy of the model takes"):
        replicate(cost, 5)


def test_programming_by_hand() -> None:
    cost = cost_of("SmolLM2-135M")
    table, found = cost.designs.profile.writing, writing(cost)
    devices = 134_479_872 * 2 * 2  # both polarities, two devices each as on the chip
    assert float(found.devices[0]) == devices
    assert float(found.energy_j[0]) == pytest.approx(devices * 20 * 10e-12)
    at_once = table.of("number_at_once") * float(cost.chips[0])
    assert float(found.time_s[0]) == pytest.approx(devices * 20 * 1e-6 / at_once)
    assert found.refresh_w is found.refresh_share is found.lifetime_y is None
    assert float(found.calibration_j[0]) > 0


def test_programming_anew_takes_power_time_and_life() -> None:
    chip = Hardware.load(
        {"base": "hermes-256", "refresh": {"every_s": 3600}, "compensation": {"every_s": 600}}
    )
    cost = evaluate(Designs.of(chip), Workload.of("SmolLM2-135M"))
    found = writing(cost)
    assert found.refresh_w is not None
    assert found.refresh_share is not None
    assert found.lifetime_y is not None
    assert found.calibration_w is not None
    assert float(found.refresh_w[0]) == pytest.approx(float(found.energy_j[0]) / 3600)
    assert float(found.refresh_share[0]) == pytest.approx(float(found.time_s[0]) / 3600)
    assert float(found.lifetime_y[0]) == pytest.approx(1e8 / 20 * 3600 / 31_556_952)
    assert float(found.calibration_w[0]) == pytest.approx(float(found.calibration_j[0]) / 600)


def test_an_expert_larger_than_a_chip_can_only_be_cut() -> None:
    cost = cost_of("Mixtral-8x7B")
    with pytest.raises(BadInput, match="use packed"):
        floorplan(cost, experts="spread")
    assert min(floorplan(cost).free) >= 0
