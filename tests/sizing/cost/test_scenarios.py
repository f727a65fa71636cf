"""What a workload and a scenario cost: context, streams, prompts, digital matrices, experts, adapters, waiting."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aimc_sim.errors import BadInput
from aimc_sim.exporting import export
from aimc_sim.hardware import Hardware
from aimc_sim.models.catalogue import named_shapes
from aimc_sim.sizing import (
    Cost,
    Designs,
    Profile,
    Scenario,
    Workload,
    evaluate,
    peak,
)
from aimc_sim.sizing.cost.components import TILE_PARTS
from aimc_sim.sizing.cost.writing import writing

LLAMA = Workload.of("Llama-3.2-1B")


def area_um2(cost: Cost, i: int) -> dict[str, float]:
    """Component → area of the tiles of one layer's matrix i."""
    tile = cost.mapping_of(i).tile_area_um2
    return {name: float(um2[0] * cost.tiles_each[0, i]) for name, um2 in tile.items()}


def design_for(profile: str) -> Designs:
    hardware = {"adc-survey": "pcm-512", "neurram-130nm": "reram-wan-256"}.get(profile, "hermes-256")
    return Designs.of(hardware, profile, slices=8 if profile == "sram-28nm" else 1)


def test_context_costs_attention_and_windows_end_it() -> None:
    design = Designs.of("hermes-256")
    short, long = (evaluate(design, LLAMA, Scenario(context=c)) for c in (1024, 4096))
    assert float(long.energy_j["attention"][0] / short.energy_j["attention"][0]) == pytest.approx(4, rel=1e-2)
    assert float(long.energy_j["adc"][0]) == float(short.energy_j["adc"][0])
    # 2·S·d_q MACs and 2·S·d_kv elements a layer, by hand
    digital = design.profile.digital
    macs, moved = 2 * 1024 * 2048, (1024 + 1) * 2 * 512 * 2
    by_hand = 16 * (macs * digital.of("energy_mac") + moved * digital.of("energy_memory_byte")) * 1e-12
    assert float(short.energy_j["attention"][0]) == pytest.approx(by_hand)
    gemma = Workload.of("Gemma-3-1B")
    energies = [
        float(evaluate(design, gemma, Scenario(context=c)).energy_j["attention"][0]) for c in (8192, 16384)
    ]
    assert energies[1] / energies[0] < 1.9  # five layers of six look back at 512 tokens only


def test_streams_share_the_pipeline_up_to_its_slowest_step() -> None:
    design = Designs.of("hermes-256")
    one, two, many = (evaluate(design, LLAMA, Scenario(streams=n)) for n in (1, 2, 10_000))
    assert float(one.tokens_per_s[0]) == pytest.approx(1 / float(one.token_path_s[0]))
    assert float(two.tokens_per_s[0]) == pytest.approx(2 * float(one.tokens_per_s[0]))
    assert float(many.tokens_per_s[0]) == pytest.approx(1 / float(many.slowest_stage_s[0]))
    assert many.stages == 16 * 5 + 1


def test_a_prompt_is_pipelined_and_computes_one_token_of_logits() -> None:
    design = Designs.of("hermes-256")
    asked = Scenario("prefill", 256)
    prompt, step = evaluate(design, LLAMA, asked), evaluate(design, LLAMA, Scenario(context=256))
    assert float(prompt.latency_per_token_s[0]) < float(step.latency_per_token_s[0]) / 3
    assert float(prompt.prompt_s[0]) == pytest.approx(256 / float(prompt.tokens_per_s[0]))
    head = [i for i, c in enumerate(prompt.matrices) if c.role == "head"]
    assert float(prompt.energy_pj_each["adc"][0, head[0]]) == pytest.approx(
        float(step.energy_pj_each["adc"][0, head[0]]) / 256
    )
    assert float(prompt.energy_j["attention"][0]) < float(step.energy_j["attention"][0])


def test_digital_matrices_take_no_tiles_but_their_weights_are_fetched() -> None:
    hardware = Hardware.load(
        {"base": "hermes-256", "placement": {"lm_head": "digital", "digital": ["*.down_proj"]}}
    )
    design, work = Designs.of(hardware), Workload.of("Llama-3.2-1B", hardware.placement)
    cost, full = evaluate(design, work), evaluate(design, LLAMA)
    tiles_of = {c.role: float(cost.tiles_each[0, i]) for i, c in enumerate(cost.matrices)}
    assert tiles_of["down"] == tiles_of["head"] == 0
    assert tiles_of["up"] > 0
    table = design.profile.digital
    weights = 16 * 8192 * 2048 + 2048 * 128256
    expected = weights * (table.of("energy_mac") + table.of("energy_memory_byte")) * 1e-12
    assert float(cost.energy_j["digital"][0]) == pytest.approx(expected)
    assert float(full.energy_j["digital"][0]) == 0
    assert float(cost.path_s["digital"][0]) > 0
    with pytest.raises(BadInput, match="matches no matrix"):
        Workload.of("Llama-3.2-1B", hardware.placement.model_copy(update={"digital": ("*.dwn_proj",)}))


def test_a_matrix_that_is_held_otherwise_costs_what_such_a_hardware_costs() -> None:
    """Its own tiles, converters, energy, area and cells; the others cost what they did."""
    special = {"matrices": ["*.down_proj"], "copies": 2, "adc_bits": 9}
    mixed = Hardware.load({"base": "hermes-256", "placement": {"special": special}})
    whole = Hardware.load({"base": "hermes-256", "weights": {"copies": 2}, "adc": {"bits": 9}})
    cost = evaluate(Designs.of(mixed), Workload.of("Llama-3.2-1B", mixed.placement))
    plain, other = (evaluate(Designs.of(chip), LLAMA) for chip in ("hermes-256", whole))
    for i, column in enumerate(cost.matrices):
        expected = other if column.role == "down" else plain
        (at,) = (j for j, c in enumerate(expected.matrices) if c.name == column.name)
        assert cost.tiles_each[0, i] == expected.tiles_each[0, at]
        assert cost.conversions_each[0, i] == expected.conversions_each[0, at]
        for name in TILE_PARTS:
            assert float(cost.energy_pj_each[name][0, i]) == pytest.approx(
                float(expected.energy_pj_each[name][0, at])
            )
            assert area_um2(cost, i)[name] == pytest.approx(area_um2(expected, at)[name])
    assert float(cost.utilisation[0]) == pytest.approx(float(plain.utilisation[0]), rel=0.02), (
        "copies are cells, too"
    )
    assert float(cost.area_total_mm2[0]) == pytest.approx(sum(
        area * column.layers * 1e-6
        for i, column in enumerate(cost.matrices) for area in area_um2(cost, i).values()))  # fmt: skip
    assert float(plain.token_path_s[0]) < float(cost.token_path_s[0]) <= float(other.token_path_s[0])
    devices = {chip: float(writing(each).devices[0]) for chip, each in (("mixed", cost), ("plain", plain))}
    down = sum(c.rows * c.cols * c.layers for c in plain.matrices if c.role == "down")
    assert devices["mixed"] - devices["plain"] == 4 * down
    for wrong in ("*.dwn_proj", "lm_head"):
        place = mixed.placement.model_copy(update={"lm_head": "digital", "special": (
            mixed.placement.special[0].model_copy(update={"matrices": (wrong,)}),)})  # fmt: skip
        with pytest.raises(BadInput, match=r"placement\.special"):
            Workload.of("Llama-3.2-1B", place)
    assert float(peak(Designs.of(whole))["tops"][0]) == pytest.approx(
        float(peak(Designs.of("hermes-256"))["tops"][0]) / 2
    )


def test_transformed_inputs_cost_their_digital_arithmetic() -> None:
    table = {
        "rescale_lambda": 0.5,
        "rotate": "hadamard",
        "matrices": ["*.down_proj", "model.layers.0.*.q_proj"],
    }
    rotated = Hardware.load({"base": "hermes-256", "transform": table})
    cost, plain = evaluate(Designs.of(rotated), LLAMA), evaluate(Designs.of("hermes-256"), LLAMA)
    per_mac = cost.designs.profile.digital.of("energy_mac") * 1e-12
    expected = (16 * 8192 * 14 + 2048 * 12) * per_mac
    assert float((cost.energy_j["digital"] - plain.energy_j["digital"])[0]) == pytest.approx(expected)
    assert float(cost.token_path_s[0]) > float(plain.token_path_s[0])
    assert float(cost.path_s["array"][0]) == float(plain.path_s["array"][0])


def test_only_the_experts_that_are_chosen_use_energy() -> None:
    work, design = Workload.of("Mixtral-8x7B"), Designs.of("pcm-512")
    cost = evaluate(design, work)
    layers = tuple(
        replace(layer, matrices=tuple(replace(matrix, active=matrix.count) for matrix in layer.matrices))
        for layer in work.model.layers
    )
    dense = evaluate(design, Workload(replace(work.model, layers=layers)))
    assert float(cost.tiles[0]) == float(dense.tiles[0])
    up = next(i for i, c in enumerate(cost.matrices) if c.role == "up")
    assert float(dense.energy_pj_each["adc"][0, up]) == pytest.approx(
        4 * float(cost.energy_pj_each["adc"][0, up])
    )
    assert "router" in {name for _, name in cost.stage_names}


def test_waiting_costs_what_the_profile_says() -> None:
    watt = {"value": 1.0, "low": 1.0, "high": 1.0, "unit": "mW", "source": "test", "licence": "none"}
    profile = Profile.load({"base": "hermes-14nm", "rest": {"power_idle": watt}})
    cost = evaluate(Designs.of("hermes-256", profile), LLAMA)
    assert float(cost.energy_j["static"][0]) == pytest.approx(
        float((cost.tiles * 1e-3 / cost.tokens_per_s)[0])
    )


def test_layers_that_are_alike_are_counted_once_and_cost_the_same() -> None:
    apart = replace(LLAMA, merged=False)
    assert len(apart.groups()) == 17
    assert len(LLAMA.groups()) == 2
    one, all_of_them = (evaluate(Designs.of("hermes-256"), work) for work in (LLAMA, apart))
    for name in (
        "tiles",
        "energy_per_token_j",
        "token_path_s",
        "conversions",
        "area_total_mm2",
        "slowest_stage_s",
    ):
        assert float(getattr(one, name)[0]) == pytest.approx(
            float(getattr(all_of_them, name)[0]), rel=1e-12
        ), name


@pytest.mark.parametrize(
    "change", [{"context": 0}, {"streams": True}, {"phase": "both"}, {"cache_bits": 2.5}]
)
def test_scenarios_that_make_no_sense(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Scenario(**change)


def test_a_model_comes_from_shapes_too() -> None:
    work = Workload.of(named_shapes("SmolLM2-135M"))
    assert int(evaluate(Designs.of("pcm-512"), work, Scenario(head=False)).tiles[0]) == 900


def test_an_adapter_costs_its_products_digitally() -> None:
    """r·(K + N) multiply-accumulates of every adapted matrix, energy and time, wherever the matrix itself lies."""
    plain, rank = LLAMA.model, 64

    def with_rank(rank: int) -> Workload:
        layers = tuple(
            replace(layer, matrices=tuple(replace(m, adapter=rank) for m in layer.matrices))
            for layer in plain.layers
        )
        return Workload(replace(plain, layers=layers, head=replace(plain.head, adapter=rank)))

    designs = design_for("hermes-14nm")
    units = designs.profile.digital
    without, found = (evaluate(designs, with_rank(r)) for r in (0, rank))
    assert float(without.energy_per_token_j[0]) == float(evaluate(designs, LLAMA).energy_per_token_j[0])
    macs = sum(rank * (m.rows + m.cols) for m in plain.matrices())
    each = units.of("energy_mac") + units.of("energy_memory_byte")
    more = float((found.energy_j["digital"] - without.energy_j["digital"])[0])
    assert more == pytest.approx(macs * each * 1e-12)
    assert float(found.energy_per_token_j[0] - without.energy_per_token_j[0]) == pytest.approx(more, rel=1e-3)
    assert float(found.tiles[0]) == float(without.tiles[0])
    slow = evaluate(designs, with_rank(1 << 20))  # the adapters are what the chip waits for
    assert float(slow.token_path_s[0]) > 10 * float(without.token_path_s[0])


def test_a_weight_file_has_the_ranks_of_its_adapters(
    tiny_checkpoint: Path, tmp_path: Path, adapted: ModuleType
) -> None:
    folder = adapted.add(Path(shutil.copytree(tiny_checkpoint, tmp_path / "model")), rank=5)
    files = [
        export(folder, tmp_path / f"{alone}.h5", "ideal", calibration_tokens=0, base_alone=alone)
        for alone in (False, True)
    ]
    workloads = [Workload.of(file) for file in files]
    assert [{m.adapter for m in each.model.matrices()} for each in workloads] == [{5}, {0}]
    whole, base = (evaluate(design_for("hermes-14nm"), each) for each in workloads)
    assert float(whole.energy_j["digital"][0]) > float(base.energy_j["digital"][0])
