"""The cost of designs: sums that must agree, monotone laws, and speed that is never free."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.hardware import Hardware
from aimc_sim.sizing import (
    Activity,
    Designs,
    Profile,
    Scenario,
    Workload,
    evaluate,
    peak,
    profile_names,
)
from aimc_sim.sizing.cost.activity import drive, gaussian
from aimc_sim.sizing.cost.components import TILE_PARTS, Use, components, product_ns
from aimc_sim.sizing.cost.designs import crest

LLAMA = Workload.of("Llama-3.2-1B")
NOISY: dict[str, Any] = {"base": "hermes-256", "read_noise": {"sigma": 0.02},
                         "adc": {"errors": {"noise_lsb": 0.5, "inl_sigma_lsb": 0.5}}}  # fmt: skip


def design_for(profile: str) -> Designs:
    hardware = {"adc-survey": "pcm-512", "neurram-130nm": "reram-wan-256"}.get(profile, "hermes-256")
    return Designs.of(hardware, profile, slices=8 if profile == "sram-28nm" else 1)


@pytest.mark.parametrize("profile", profile_names())
def test_parts_add_up(profile: str) -> None:
    cost = evaluate(design_for(profile), LLAMA)
    assert float(cost.energy_per_token_j[0]) == pytest.approx(
        sum(float(v[0]) for v in cost.energy_j.values())
    )
    assert float(cost.token_path_s[0]) == pytest.approx(sum(float(v[0]) for v in cost.path_s.values()))
    assert float(cost.area_total_mm2[0]) == pytest.approx(sum(float(v[0]) for v in cost.area_mm2.values()))
    assert (
        min(float(v[0]) for table in (cost.energy_j, cost.path_s, cost.area_mm2) for v in table.values()) >= 0
    )
    assert float(cost.power_w[0]) == pytest.approx(float((cost.energy_per_token_j * cost.tokens_per_s)[0]))


@pytest.mark.parametrize("profile", profile_names())
def test_a_point_costs_the_same_alone_and_among_others(profile: str) -> None:
    base = design_for(profile)
    fields = {"rows": [128, 256, 512], "adc_bits": [6, 7, 8]}
    slices = 8 if profile == "sram-28nm" else 1
    many = Designs.of(base.hardware, profile, slices=slices, **fields)
    together = evaluate(many, LLAMA)
    for i in range(3):
        one = Designs.of(
            base.hardware, profile, slices=slices, **{name: values[i] for name, values in fields.items()}
        )
        alone = evaluate(one, LLAMA)
        for name in (
            "tiles", "energy_per_token_j", "token_path_s", "area_total_mm2", "tokens_per_s", "conversions",
        ):  # fmt: skip
            assert float(getattr(alone, name)[0]) == float(getattr(together, name)[i]), name


def test_every_component_is_an_object_with_energy_area_and_delay() -> None:
    design = Designs.of("hermes-256", "isaac-32nm")
    parts = components(design)
    assert tuple(parts) == TILE_PARTS
    use = Use.of(design, [256], [256])
    for name, part in parts.items():
        assert part.energy_pj(use).shape == (1, 1), name
        assert part.area_um2().shape == part.delay_ns().shape == (1,), name
    assert sum(float(part.delay_ns()[0]) for part in parts.values()) == pytest.approx(
        float(product_ns(design)[0])
    )


def test_the_time_of_a_product_follows_the_law() -> None:
    hermes = Profile.load("hermes-14nm")
    times = {}
    for law in ("sequential", "overlapped", "integrating"):
        profile = hermes.model_copy(update={"timing": hermes.timing.model_copy(update={"law": law})})
        times[law] = product_ns(Designs.of("hermes-256", profile, adcs_per_tile=[256, 64, 2])).tolist()
    assert times["sequential"] == [127 + 3, 127 + 4 * 3, 127 + 128 * 3]
    assert times["overlapped"] == [127, 127, 128 * 3]
    assert times["integrating"] == [130, 4 * 130, 128 * 130]  # a converter works through the whole read


def test_pulse_widths_take_as_long_as_their_largest_code() -> None:
    hardware = Hardware.load({"base": "hermes-256", "dac": {"mode": "pulse_width"}})
    design = Designs.of(hardware, "hermes-14nm", dac_bits=[8, 7, 6])
    assert design.t_read_ns.tolist() == [127, 63, 31]


def test_bits_read_one_by_one_multiply_reads_and_conversions() -> None:
    def cost(dac: dict[str, Any], **changes: Any) -> tuple[float, float]:
        design = Designs.of(Hardware.load({"base": "hermes-256", "dac": dac}), "isaac-32nm", **changes)
        return float(design.reads[0]), float(evaluate(design, LLAMA).conversions[0])

    plain = cost({"mode": "amplitude"})
    assert plain[0] == 1
    assert cost({"mode": "bit_serial"}) == (7, 7 * plain[1])
    assert cost({"mode": "bit_serial", "slice_bits": 4}) == (2, 2 * plain[1])
    assert cost({"mode": "bit_serial", "accumulate": "analog"}) == (7, plain[1])
    assert cost({"mode": "bit_serial", "coding": "offset"}) == (8, 8 * plain[1])
    assert cost({"mode": "amplitude"}, slices=4) == (1, 4 * plain[1])


def test_how_a_weight_is_held_decides_columns_and_conversions() -> None:
    def design(weights: dict[str, Any]) -> Designs:
        return Designs.of(Hardware.load({"base": "hermes-256", "weights": weights}), "isaac-32nm")

    plain, digital, sliced = design({}), design({"subtract": "digital"}), design({"bits": 8, "cell_bits": 4})
    counts = [
        (float(d.columns_per_weight[0]), float(d.conversions_per_output[0])) for d in (plain, digital, sliced)
    ]
    assert counts == [(1, 1), (2, 2), (2, 2)]
    pairs = evaluate(digital, LLAMA)
    assert float(pairs.tiles[0]) == 2 * float(evaluate(plain, LLAMA).tiles[0])


def test_faster_reading_is_noisier_in_the_simulation_too() -> None:
    """One description: what the cost model reads faster, the simulator reads with more noise."""
    hardware = Hardware.load(NOISY)
    design = Designs.of(hardware, "adc-survey", t_read_ns=[128, 32, 8])
    sigma = [design.hardware_at(i).read_noise.sigma for i in range(3)]  # type: ignore[union-attr]
    assert sigma == pytest.approx([0.02, 0.04, 0.08])
    thermal = [design.hardware_at(i).adc.errors.noise_lsb for i in range(3)]  # type: ignore[union-attr]
    assert thermal == pytest.approx([0.5, 1.0, 2.0])
    assert (np.diff(design.enob) < 0).all()
    cost = evaluate(design, LLAMA)
    assert (np.diff(cost.energy_j["array"]) < 0).all()
    assert (np.diff(cost.path_s["array"]) < 0).all()


def test_speed_is_refused_where_it_would_be_free() -> None:
    with pytest.raises(BadInput, match="no read noise"):
        Designs.of("hermes-256", "adc-survey", t_read_ns=[128, 32])
    assert len(Designs.of("hermes-256", "adc-survey", t_read_ns=[128, 256])) == 2  # slower is no gain


def test_a_lower_voltage_is_noisier_in_the_simulation_too() -> None:
    """Energy falls with V², and so does the lsb in amperes with V: the converters' noise stays."""
    design = Designs.of(Hardware.load(NOISY), "adc-survey", v_read_v=[0.2, 0.1, 0.05])
    found = [design.hardware_at(i) for i in range(3)]
    assert [h.adc.errors.noise_lsb for h in found] == pytest.approx([0.5, 1.0, 2.0])  # type: ignore[union-attr]
    assert [h.read_noise.sigma for h in found] == pytest.approx([0.02] * 3)  # type: ignore[union-attr]
    energy = evaluate(design, LLAMA).energy_j["array"]
    assert (energy[:-1] / energy[1:]).tolist() == pytest.approx([4, 4])
    with pytest.raises(BadInput, match="would cost no accuracy"):
        Designs.of("hermes-256", "adc-survey", v_read_v=0.1)


def test_waiting_between_tokens_that_are_asked_for() -> None:
    watt = {"value": 1.0, "low": 1.0, "high": 1.0, "unit": "mW", "source": "test", "licence": "none"}
    design = Designs.of("hermes-256", Profile.load({"base": "hermes-14nm", "rest": {"power_idle": watt}}))
    cost = evaluate(design, LLAMA, Scenario(rate=100.0))
    assert float(cost.tokens_per_s[0]) == 100
    assert float(cost.energy_j["static"][0]) == pytest.approx(float(cost.tiles[0]) * 1e-3 / 100)
    assert float(cost.power_w[0]) > float(cost.tiles[0]) * 1e-3
    most = evaluate(design, LLAMA, Scenario(rate=1e9))
    assert float(most.tokens_per_s[0]) == float(most.fastest_tokens_per_s[0])


def test_a_point_is_the_hardware_that_the_simulator_takes() -> None:
    design = Designs.of("hermes-256", rows=[128, 512], cols=[64, 512], adc_bits=[6, 9], dac_bits=[4, 8])
    found = design.hardware_at(0)
    assert (found.tile.rows, found.tile.cols) == (128, 64)
    assert found.adc is not None
    assert found.dac is not None
    assert (found.adc.bits, found.dac.bits) == (6, 4)
    same = Designs.of("hermes-256").hardware_at(0)
    assert same.id == Hardware.load("hermes-256").id
    assert Designs.of("pcm-512", devices=2).hardware_at(0).weights.devices == 2
    with pytest.raises(BadInput, match=r"set weights\.bits"):
        Designs.of("hermes-256", slices=4).hardware_at(0)


def test_effective_bits_come_from_the_simulated_errors() -> None:
    def bits(**errors: Any) -> float:
        chip = Hardware.load({"base": "hermes-256", "adc": {"errors": errors} if errors else {}})
        return float(Designs.of(chip).enob[0])

    assert bits() == 8
    assert bits(gain_sigma=0.1, offset_sigma_lsb=2.0) == 8  # no distortion
    assert bits(noise_lsb=1 / math.sqrt(12)) == pytest.approx(7.5)  # as much noise as rounding: half a bit
    assert bits(inl_sigma_lsb=1.0) < bits(inl_sigma_lsb=0.5) < 8
    clean, noisy = (Designs.of(h, "adc-survey", rows=256) for h in ("hermes-256", Hardware.load(NOISY)))
    saved = evaluate(clean, LLAMA).energy_j["adc"] / evaluate(noisy, LLAMA).energy_j["adc"]
    assert float(saved[0]) > 1  # a noisier converter is a cheaper one


def test_the_curve_of_the_simulated_adc_has_the_variance_that_counts() -> None:
    """Of the S-shaped curve with peak 1, what the best line through it leaves, by quadrature."""
    from aimc_sim.chip.draws import S_PEAK
    from aimc_sim.sizing.cost.adc import _BOW_VARIANCE

    x = (np.arange(200_000) + 0.5) / 200_000
    curve = S_PEAK * (x - x**3)
    left = curve - x * (curve @ x) / (x @ x)
    assert float((left**2).mean()) == pytest.approx(_BOW_VARIANCE, rel=1e-6)


def test_array_energy_is_voltage_squared_time_conductance() -> None:
    design = Designs.of("hermes-256", "adc-survey", v_read_v=0.5, t_read_ns=200)
    use = Use.of(design, [100], [50], np.array([[0.25]]))
    energy = components(design)["array"].energy_pj(use)
    # 0.25 V² · 200 ns · 20.7 µS · 5,000 cells · 0.25
    assert float(energy[0, 0]) == pytest.approx(0.25 * 200e-9 * 20.7e-6 * 5000 * 0.25 * 1e12)


def test_what_a_code_asks_of_a_cell() -> None:
    codes = np.array([0, 1, -127, 64])
    assert drive(codes, 127, "amplitude").tolist() == pytest.approx([0, 1 / 127**2, 1, (64 / 127) ** 2])
    assert drive(codes, 127, "pulse_width").tolist() == pytest.approx([0, 1 / 127, 1, 64 / 127])
    assert drive(codes, 127, "bit_serial", 1).tolist() == [0, 1, 7, 1]  # ones in the magnitude
    assert drive(codes, 127, "bit_serial", 1, True).tolist() == [1, 2, 1, 2]  # ones in code + 128
    assert drive(codes, 127, "bit_serial", 4).tolist() == pytest.approx(
        [0, 1 / 225, (7 / 15) ** 2 + 1, (4 / 15) ** 2]
    )


@pytest.mark.parametrize("mode", ["amplitude", "pulse_width", "bit_serial"])
def test_the_assumed_activity_is_that_of_gaussian_numbers(mode: str) -> None:
    """Against the mean over many normals of the keyed generator, tile by tile; the assumption is good to 10 %."""
    from aimc_sim.kernels.normal import normals
    from aimc_sim.randomness import key_of
    from aimc_sim.sizing.cost.activity import input_codes, row_conductance

    def z(shape: tuple[int, int], seed: int) -> Any:
        counter = np.zeros((shape[0] * shape[1] // 4, 4), np.uint32)
        counter[:, 0] = np.arange(len(counter))
        return normals(counter, key_of(seed)).reshape(shape)

    hardware = Hardware.load({"base": "hermes-256", "dac": {"mode": mode}})
    design = Designs.of(hardware)
    codes = input_codes(z((64, 512), 1), 256, 127, hardware)
    mean = drive(codes, 127, mode).mean(axis=0)
    measured = float(mean @ row_conductance(z((128, 512), 2), 256, hardware) / (128 * 512))
    assumed = float(gaussian(design, np.array([[512.0]]))[0, 0])
    assert assumed == pytest.approx(measured, rel=0.1)


def test_the_largest_of_many_normals() -> None:
    from scipy.stats import norm

    for n in (16, 64, 256, 4096):
        x = (np.arange(40_000) + 0.5) * 2e-4
        expected = float((1 - (2 * norm.cdf(x) - 1) ** n).sum()) * 2e-4
        assert float(crest(n)) == pytest.approx(expected, rel=0.03)


def test_spares_and_offset_columns_take_area() -> None:
    spare = Designs.of(Hardware.load({"base": "hermes-256", "faults": {}, "repair": {"spare_columns": 8}}))
    plain = Designs.of("hermes-256")
    offset = Designs.of(Hardware.load({"base": "hermes-256", "weights": {"pair": "offset_column"}}))
    cells = [float(components(d)["array"].area_um2()[0]) for d in (plain, spare, offset)]
    assert cells[1] / cells[0] == pytest.approx(264 / 256)
    assert cells[2] / cells[0] == pytest.approx(257 / 256)


def test_operations_are_two_a_multiply_accumulate() -> None:
    design = Designs.of("hermes-256")
    found = peak(design)
    assert float(found["tops"][0]) == pytest.approx(2 * 256 * 256 / float(found["product_ns"][0]) * 1e-3)


def test_a_measured_activity_must_cover_the_points() -> None:
    busy = Activity({("model.layers.0.self_attn.q_proj", 256, 8, 1): 0.1}, 4)
    with pytest.raises(BadInput, match="was not measured"):
        evaluate(Designs.of("hermes-256"), LLAMA, activity=busy)


@pytest.mark.parametrize(
    ("hardware", "changes", "words"),
    [
        ("afm-llama", {}, "untiled"),
        ("ideal", {"rows": 256, "cols": 256}, "no DAC"),
        ("hermes-256", {"row": 5}, "did you mean 'rows'"),
        ("hermes-256", {"rows": 0}, "positive"),
        ("hermes-256", {"rows": 1.5}, "whole"),
        ("hermes-256", {"rows": [1, 2], "cols": [1, 2, 3]}, "several lengths"),
        ("hermes-256", {"adc_bits": 40}, "1 to 16"),
        ("hermes-256", {"t_lsb_ns": 1.0}, "no pulse widths"),
        ("hermes-256", {"rows": float("nan")}, "positive"),
    ],
)
def test_designs_that_cannot_be_built(hardware: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        Designs.of(hardware, **changes)


def test_cells_without_a_conductance_have_no_array_energy() -> None:
    chip = Hardware.load({"base": "hermes-256", "device": "pcm-afm"})
    with pytest.raises(BadInput, match="weights carry no current"):
        evaluate(Designs.of(chip, "hermes-14nm"), LLAMA)
    assert float(evaluate(Designs.of(chip, "isaac-32nm"), LLAMA).energy_j["array"][0]) > 0
