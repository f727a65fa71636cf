"""The demo's scores: what `make demo` computed on SmolLM2 with version 0.1, per chip, time and window.

One of its windows is scored again, on the first chip after a minute, with the ranges that the demo derived. Text and
ranges are stored: a model that samples one token otherwise scores another text. The tiles give the same bits
everywhere, and the digital sums between them do not: they differ by about 1e-7, and where that crosses an edge of a
DAC or an ADC, the inputs after it differ by a code, through thirty layers. A code is far below the chip's own noise, so
that the divergence of a window, a sum over 127 tokens, moves by a few per cent at most;
`test_the_tolerance_tells_chips_apart` holds that this tells one chip from another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import inputs, internals

CELL = "chip/hermes-256/text/0/60.0"
KL, NLL = 0.05, 0.01  # relative tolerances


def test_the_demo_scored_every_chip_at_every_time(demo: dict[str, Any]) -> None:
    names = {
        f"chip/hermes-256/text/{seed}/{t_s}"
        for seed in range(5)
        for t_s in (60.0, 3600.0, 86400.0, 31556952.0)
    }
    assert set(demo["cells"]) == names | {"digital/text", "converters/hermes-256/text"}
    kept = internals.read(inputs.HERE / "ranges" / "smollm2.npz")
    assert internals.ranges_id(kept) == demo["ranges_id"]


def test_the_tolerance_tells_chips_apart(demo: dict[str, Any]) -> None:
    scores = [demo["cells"][f"chip/hermes-256/text/{seed}/60.0"] for seed in range(5)]
    mine, *others = ((each["kl"][0], each["nll"][0]) for each in scores)
    assert all(abs(kl / mine[0] - 1) > KL or abs(nll / mine[1] - 1) > NLL for kl, nll in others)


@pytest.mark.slow
def test_a_window_of_the_demo_scores_the_same(demo: dict[str, Any], tmp_path: Path) -> None:
    import torch

    from aimc_sim import WeightFile, program
    from aimc_sim.torch_bridge import build_model, load_digital, mount

    path = tmp_path / "smollm2.h5"
    done = inputs.command(
        "export", "smollm2", "-o", path, "--hardware", "hermes-256", "--calibration-tokens", 0, "--json"
    )
    assert done.exit_code == 0, done.output
    weights = WeightFile(path)
    chip = program(weights, 0, ranges=internals.read(inputs.HERE / "ranges" / "smollm2.npz"))
    ids = torch.tensor([demo["token_ids"]])
    model = build_model(weights, chip.hardware)
    mount(model, chip.at("1m"))
    found = []
    with torch.no_grad():
        for each in (load_digital(weights), model):
            found.append(
                torch.log_softmax(each(input_ids=ids, use_cache=False).logits[0, :-1].double(), dim=-1)
            )
    digital, analog = found
    nll = [-float(each.gather(1, ids[0, 1:, None]).sum()) for each in found]
    old = demo["cells"]
    window = demo["window"]
    assert nll[0] == pytest.approx(old["digital/text"]["nll"][window], rel=1e-5)
    assert nll[1] == pytest.approx(old[CELL]["nll"][window], rel=NLL)
    kl = float((digital.exp() * (digital - analog)).sum())
    assert kl == pytest.approx(old[CELL]["kl"][window], rel=KL)
    agree = int((digital.argmax(dim=-1) == analog.argmax(dim=-1)).sum())
    assert np.isclose(agree, old[CELL]["agree"][window], atol=5)
