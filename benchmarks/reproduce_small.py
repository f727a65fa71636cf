"""How much of what noise costs does `afm-small` win back on a tiny Llama, and which part of it does the work?

``make reproduce-small``, or ``python -m benchmarks.reproduce_small [--model FOLDER --text FILE] -o build/reproduce``.
The model samples its own text, is trained on it by distillation, and scores held-out text on 10 chips with `pcm-afm`
noise. Ablations have a fifth of the tokens of the full run and are compared among themselves; shorter runs of the
recipe show how recovery grows with tokens. What recovery means and how it runs: `benchmarks.reproduce`.

Without --model a small Llama is first trained on stories from a grammar (`benchmarks.small_model`).
"""

from __future__ import annotations

import time

from benchmarks.harness import command_line
from benchmarks.reproduce import Arm, Experiment, add_options, own_model, run, smallest

# λ of the published recipe was found for up to 8192 rows; this model has 64 to 172, and κ = 10, λ = 2 is where the
# untrained model loses least to 8-bit converters (0.002 nats): docs/results/afm-small.md.
CHIP = """name = "afm-small-chip"
description = "pcm-afm cells, untiled, 8-bit converters on both sides, for matrices of 64 to 512 rows."
base = "afm-llama"
compensation = false
[dac]
bits = 8
range = { method = "std", kappa = 10.0, per = "matrix" }
[adc]
bits = 8
full_scale = { rule = "lambda", lambda_ = 2.0 }
"""
EXPERIMENT = Experiment(
    title=(__doc__ or "").splitlines()[0],
    chip=CHIP,
    recipe='base = "afm-small"\n[loss]\ntop_k = 64\n',  # of 512 tokens; the teacher is asked once for all arms
    arms=(
        Arm("full", "afm-small", 1.0, curve=True),
        Arm("short", "afm-small, as many tokens as the ablations", 0.2, curve=True),
        Arm("noise-only", "without clipping", 0.2, "[training]\nclip_sigma = false\n"),
        Arm("clip-only", "without weight noise", 0.2, "[training]\nnoise = false\n"),
        Arm("device", "the device's own noise, not Gaussian", 0.2, '[training]\nnoise = "device"\n'),
        Arm("shorter", "afm-small, half of that", 0.1, curve=True),
    ),
    tokens=3_200_000,
    sampled=1_000_000,
    length=512,
    temperature=2.0,  # plain samples of so small a model are narrower than the text that it is scored on
    chips=10,
    context=512,
    goal=0.40,
    train=("--chips", "1"),
)  # fmt: skip
SMALLEST = {"EXPERIMENT": smallest(EXPERIMENT)}


def main() -> None:
    """Command line."""
    parser = command_line(EXPERIMENT.title, globals())
    add_options(parser, EXPERIMENT, "build/reproduce-small")
    parser.add_argument("--model", help="a Hugging Face folder of a small model; none: train one first")
    options = parser.parse_args()
    if bool(options.model) != bool(options.text):
        parser.error("--model and --text go together")
    started = time.monotonic()
    model, text = options.model, options.text
    if model is None:
        model, text = own_model(options.output, options.smoke)
    run(EXPERIMENT, model, text, options, started)


if __name__ == "__main__":
    main()
