"""Does a language model on a simulated chip run as fast as the digital one, and in how much memory?

    python -m benchmarks.model [WEIGHT_FILE] [--json]

Rival: the same transformers model in float32, same tokens, in turn. WEIGHT_FILE: by default SmolLM2-135M-Instruct,
exported first. Goals: prefill at least as fast, generation at 0.8 of the speed, 2.5 bytes an analog weight.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from aimc_sim import WeightFile
from aimc_sim.torch_bridge import AnalogLinear, load_digital, load_model
from benchmarks.harness import Row, command_line, machine, show, side_by_side, two_threads
from benchmarks.tiny_model import weight_file

NEW_TOKENS = 24
SMALLEST = {"NEW_TOKENS": 2}


def generate(model: Any, prompt: torch.Tensor) -> None:
    """Greedy tokens with a cache."""
    options = {
        "max_new_tokens": NEW_TOKENS,
        "min_new_tokens": NEW_TOKENS,
        "do_sample": False,
        "pad_token_id": 0,
    }
    model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)


def measure(file: WeightFile) -> list[Row]:
    """Speed against the digital model, and bytes a weight."""
    ids = torch.tensor(file.calibration.token_ids.astype("int64"))
    digital, analog = load_digital(file), load_model(file, hardware="hermes-256", time=86_400.0)
    with torch.inference_mode():
        prefill = side_by_side(lambda: digital(ids, use_cache=False), lambda: analog(ids, use_cache=False), 5)
        decoding = side_by_side(
            lambda: generate(digital, ids[:1, :16]), lambda: generate(analog, ids[:1, :16]), 5
        )
    held = sum(
        m.tiles.nbytes for m in analog.modules() if isinstance(m, AnalogLinear) and m.tiles is not None
    )
    weights = sum(matrix.rows * matrix.cols for matrix in file.matrices)
    return [
        Row(
            f"prefill of {ids.numel()} tokens, speed against digital",
            prefill.ratio,
            "times",
            1.0,
            at_least=True,
        ),
        Row("    tokens per second", ids.numel() / prefill.b_s, "tokens/s"),
        Row("generation of one stream, speed against digital", decoding.ratio, "times", 0.8, at_least=True),
        Row("    tokens per second", NEW_TOKENS / decoding.b_s, "tokens/s"),
        Row("memory of the tiles", held / weights, "bytes a weight", 2.5),
    ]


def main() -> list[Row]:
    """Command line."""
    parser = command_line((__doc__ or "").splitlines()[0], globals())
    parser.add_argument("file", nargs="?", help="weight file; default: SmolLM2, exported now")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    two_threads()
    with tempfile.TemporaryDirectory(prefix="aimc-model-") as folder:
        file = weight_file(options.file, options.smoke, Path(folder))
        rows = measure(file)
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print(machine())
        show(__doc__.splitlines()[0] if __doc__ else "", rows)
    return rows


if __name__ == "__main__":
    main()
