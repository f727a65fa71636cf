"""What one training layer computes, as one line of text: an operator of torch takes text, and text has no state.

`plan_for` resolves hardware and training for a matrix, and refuses what the fast forward does not simulate;
`Plan.text` and `plan_of` go back and forth.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

from aimc_sim.aliases import I64
from aimc_sim.chip.mapping import tile_map
from aimc_sim.errors import BadInput
from aimc_sim.hardware import Adc, Dac, Hardware, LambdaRule, StaticRange
from aimc_sim.torch_bridge.training.spec import Training

# What the counter of a cell and an exact product's row names need of a layer: places in its key, `layer.state`.
SEED_LOW, SEED_HIGH, EVENT, ORDINAL = range(4)
KEY_LENGTH = 4
# Parts of the hardware that the fast forward computes, or that change nothing right after programming.
MODELLED = frozenset("name description source device tile dac adc compensation refresh placement".split())


@dataclass(frozen=True)
class Plan:
    """A plan describes a layer's forward and backward. Levels are the largest codes;
    0 means that the effect is absent.
    """

    bounds: tuple[int, ...]  # (tiles + 1,) where the row tiles begin and end
    cols: int
    dac_max_code: int = 0
    range_kind: str = "none"  # static, token_tile, token_matrix; none without a DAC
    one_range: bool = False  # static: one β for the whole matrix, of which every tile has a copy
    adc_max_code: int = 0
    lambda_: float = 0.0  # full scale by the lambda rule; 0: the layer's own full_scale tensor
    bound_from: str = "target"
    noise: str = "none"  # gaussian, device
    gamma: float = 0.0
    age_s: float = 0.0
    weight_max_code: int = 0
    noisy_backward: bool = False
    masked: bool = False  # gradients stop where the ADC saturated
    decay: float = 0.0
    unclipped: float = 1.0
    exact: bool = False
    hardware: str = ""  # JSON, where cells or the whole simulator are needed
    name: str = "matrix"

    @property
    def text(self) -> str:
        """Return JSON of one line."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def rows(self) -> int:
        """Return K, inputs."""
        return self.bounds[-1]

    @property
    def tiles(self) -> int:
        """Return the number of row tiles."""
        return len(self.bounds) - 1

    @cached_property
    def row_tiles(self) -> tuple[tuple[int, int, int], ...]:
        """Return (t, a, b) of every row tile: it covers inputs a … b-1."""
        return tuple((t, a, b) for t, (a, b) in enumerate(pairwise(self.bounds)))

    def tiles_within(self, a: int, b: int) -> list[tuple[int, int, int]]:
        """Return the same of inputs a … b-1 alone: only row tiles that have some of them, cut to those."""
        parts = ((t, max(low, a), min(high, b)) for t, low, high in self.row_tiles)
        return [(t, low, high) for t, low, high in parts if low < high]

    @cached_property
    def ends(self) -> I64:
        """Return the bounds as an array."""
        return np.array(self.bounds, np.int64)

    @cached_property
    def spec(self) -> Hardware:
        """Return the hardware, parsed once."""
        return Hardware.parse(json.loads(self.hardware), "hardware of a training layer")

    @property
    def mask_bytes(self) -> int:
        """Return the bytes of saturation bits a token and row tile."""
        return -(-self.cols // 8) if self.masked and self.adc_max_code else 0


@lru_cache(maxsize=4096)
def plan_of(text: str) -> Plan:
    """Return the plan that a line describes."""
    table = json.loads(text)
    return Plan(**{**table, "bounds": tuple(table["bounds"])})


def plan_for(rows: int, cols: int, hardware: Hardware, training: Training, name: str) -> Plan:
    """Return how a matrix of ``rows`` inputs and ``cols`` outputs is trained.
    Raises BadInput for what is not simulated.
    """
    exact = training.forward == "exact"
    if not exact:
        refuse_unmodelled(hardware, training)
    dac, adc = hardware.dac, hardware.adc
    kind = "none"
    if dac is not None:
        static = isinstance(dac.range, StaticRange)
        kind = "static" if static else f"token_{dac.range.per}"
    rule = fixed_lambda(adc)
    cells = exact or training.noise == "device"
    if cells:
        hardware.device.check_time(training.age_s)
    return Plan(
        bounds=tuple(int(end) for end in tile_map(rows, cols, hardware.tile).row_bounds),
        cols=cols,
        dac_max_code=dac.max_code if dac is not None else 0,
        range_kind=kind,
        one_range=kind == "static" and dac is not None and dac.range.per == "matrix",
        adc_max_code=adc.max_code if adc is not None else 0,
        lambda_=0.0 if rule is None else rule.lambda_,
        bound_from="target" if rule is None else rule.bound_from,
        noise=training.noise or "none",
        gamma=training.gamma if training.noise == "gaussian" else 0.0,
        age_s=training.age_s,
        weight_max_code=0 if training.weight_bits is None else 2 ** (training.weight_bits - 1) - 1,
        noisy_backward=training.backward == "noisy",
        masked=training.saturation == "masked",
        decay=training.range_decay,
        unclipped=training.range_unclipped,
        exact=exact,
        hardware=json.dumps(hardware.model_dump(mode="json"), sort_keys=True) if cells else "",
        name=name if exact else "matrix",  # a fast plan is one for all layers of a shape
    )


def converts_once(dac: Dac) -> bool:
    """Return whether a product with an ideal ADC is one conversion of Σ code·weight,
    however the code reaches the rows.
    """
    return dac.mode in ("amplitude", "pulse_width") or (
        dac.mode == "bit_serial" and dac.accumulate == "analog" and dac.coding == "signed"
    )


def fixed_lambda(adc: Adc | None) -> LambdaRule | None:
    """Return the rule of λ, where it says all; None where full scales are calibrated."""
    rule = None if adc is None else adc.full_scale
    return rule if isinstance(rule, LambdaRule) and rule.derive is None else None


def refuse_unmodelled(hardware: Hardware, training: Training) -> None:
    """Raise BadInput for an effect that only the whole simulator computes."""
    dac, adc = hardware.dac, hardware.adc
    unmodelled = {
        name: getattr(hardware, name)
        for name, field in Hardware.model_fields.items()
        if name not in MODELLED and getattr(hardware, name) != field.get_default()
    }
    if dac is not None and dac.errors is not None:
        unmodelled["dac.errors"] = dac.errors
    if adc is not None and adc.errors is not None:
        unmodelled["adc.errors"] = adc.errors
    if dac is not None and not converts_once(dac):
        unmodelled["dac.mode"] = dac.mode
    if training.noise == "device" and training.age_s > 0:
        unmodelled["age_s of the training"] = training.age_s
    for what, value in unmodelled.items():
        raise BadInput(
            f"hardware for training: {what}",
            got=value,
            why="the fast training forward does not simulate it, and would train for another chip in silence",
            do="leave it out of the hardware that you train for, or train with forward='exact', noise='device' and "
            "saturation='straight_through'",
        )
