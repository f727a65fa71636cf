"""How fast does training win back what noise costs SmolLM2-135M, as far as this machine gets?

``python -m benchmarks.reproduce_smollm2 --text FILE -o build/reproduce-smollm2``. The model is five hundred times
that of `benchmarks.reproduce_small`, and two cores train it on a hundred tokens or so a second, so this measures the
start of the curve only, and says where a straight line through it would meet the goal: a guess, and labelled as one.

An untrained checkpoint needs input ranges per token and least-squares ADC scales (its first tokens reach hundreds of
standard deviations), so both stay as they are in training; converters have 8 bits on both sides.
"""

from __future__ import annotations

import time

from benchmarks.harness import command_line
from benchmarks.reproduce import Arm, Experiment, add_options, own_model, run, smallest

CHIP = """name = "smollm2-chip"
description = "pcm-afm cells, untiled, 8-bit converters on both sides, input ranges per token."
base = "afm-llama"
compensation = false
[dac]
bits = 8
range = { method = "per_token", per = "matrix" }
[adc]
bits = 8
full_scale = { rule = "least_squares" }
"""
# Without clipping: 2.5 σ takes the model from 4.4 to 12.3 nats on its own samples, which few tokens do not win back.
RECIPE = """base = "afm-small"
[loss]
teacher_dtype = "bfloat16"
[training]
clip_sigma = false
"""
RATE = "[optimizer]\nlearning_rate = 1e-4\n"
EXPERIMENT = Experiment(
    title=(__doc__ or "").splitlines()[0],
    chip=CHIP,
    recipe=RECIPE,
    arms=(
        Arm("full", "the recipe", 1.0, RATE, curve=True),
        Arm("half", "the recipe, half of the tokens", 0.5, RATE, curve=True),
        Arm("quarter", "the recipe, a quarter", 0.25, RATE, curve=True),
        Arm("slower", "a third of the learning rate, a quarter", 0.25, RATE.replace("1e-4", "3e-5")),
    ),
    tokens=16_000,
    sampled=48_000,
    length=512,
    chips=5,
    context=512,
    goal=0.50,
    threads=2,
    calibration=1024,
    train=("--chips", "1", "--precision", "bf16"),
    limit_tokens=4096,
)
SMALLEST = {"EXPERIMENT": smallest(EXPERIMENT)}


def main() -> None:
    """Command line."""
    parser = command_line(EXPERIMENT.title, globals())
    add_options(parser, EXPERIMENT, "build/reproduce-smollm2")
    parser.add_argument("--model", default="smollm2", help="another checkpoint of its size")
    options = parser.parse_args()
    started = time.monotonic()
    if options.smoke:
        options.model, options.text = own_model(options.output, smoke=True)
    if options.text is None:
        parser.error("--text is needed: held-out text that the model knows, such as a page of WikiText-2")
    run(EXPERIMENT, options.model, options.text, options, started)


if __name__ == "__main__":
    main()
