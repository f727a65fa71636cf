"""Makes the golden files: stored files of each kind, and expected.json, which says what comes of them.

    python tests/golden/make.py --force

They were made once, by version 0.1, and a file that a user of 0.1 has must mean the same ever after. So never make them
again, unless CHANGELOG.md names the change that makes an old id, file or number another one. Then make them again
together with that change, look through the differences of expected.json one by one, and keep what the change does not
account for. To add a value, write it with `--add NAME`, which leaves all others as they are.

demo.json and ranges/smollm2.npz come of a run of `make demo`: `--force --demo build/smollm2.h5 build/demo`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

HERE = Path(__file__).parent
_package = ModuleType("golden")
_package.__path__ = [str(HERE)]
sys.modules["golden"] = _package


def _tokenizer() -> dict[str, bytes]:
    """The files of the tokenizer of tests/tiny.py."""
    spec = importlib.util.spec_from_file_location("tiny", HERE.parent / "tiny.py")
    assert spec is not None
    assert spec.loader is not None
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    with tempfile.TemporaryDirectory() as folder:
        tiny.write_tokenizer(Path(folder))
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def make_files() -> None:
    """Write the weight file, converter ranges, a sign-off and a sweep of it, and what hardware files come to."""
    from golden import inputs, internals
    from golden.figures import CALIBRATED

    from aimc_sim import WeightFile, export, program

    with tempfile.TemporaryDirectory() as folder, inputs.inside(Path(folder)):
        checkpoint = inputs.write_checkpoint(Path("checkpoint"), _tokenizer())
        export(checkpoint, "weights.h5", inputs.hardware("wired"), token_ids=inputs.token_ids(4, 64))
        shutil.copy("weights.h5", HERE / "weights.h5")
    weights = WeightFile(HERE / "weights.h5")
    (HERE / "ranges").mkdir(exist_ok=True)
    for name in CALIBRATED:
        chip = inputs.hardware(name)
        program(weights, 0, chip)
        shutil.copy(
            internals.cache_folder() / internals.name_of(weights, chip), HERE / "ranges" / f"{name}.npz"
        )
    for folder, line, kept in (
        ("signoff", inputs.SIGNOFF, ("journal.sqlite", "report.json")),
        ("sweep", inputs.SWEEP, ("sweep.sqlite", "points.csv")),
    ):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir()
        with tempfile.TemporaryDirectory() as out, inputs.inside(HERE):
            done = inputs.command(*line, "-o", out)
            assert done.exit_code in (0, 1), done.output
            for name in kept:
                shutil.copy(Path(out) / name, HERE / folder / name)
    (HERE / "hardware" / "written").mkdir(exist_ok=True)
    for path in inputs.hardware_files():
        (HERE / "hardware" / "written" / path.name).write_text(inputs.written(inputs.hardware(path.stem)))


def make_arrays() -> None:
    """Write numbers that are compared with a tolerance: products.npz and logits.npz."""
    from golden import figures

    from aimc_sim import WeightFile

    weights = WeightFile(HERE / "weights.h5")
    found: dict[str, Any] = {}
    for name in figures.CLOSE:
        found |= figures.close(weights, name)
    np.savez_compressed(HERE / "products.npz", allow_pickle=False, **found)
    found = {what: figures.logits(weights, *of) for what, of in figures.LOGITS.items()}
    np.savez_compressed(HERE / "logits.npz", allow_pickle=False, **found)


def _weight_ids() -> Any:
    from golden import figures

    from aimc_sim import WeightFile

    with tempfile.TemporaryDirectory() as folder:
        return figures.weight_ids(WeightFile(HERE / "weights.h5"), Path(folder))


def _values() -> dict[str, Callable[[], Any]]:
    """What expected.json holds, each as what computes it."""
    from golden import figures, inputs, internals, stored

    from aimc_sim import WeightFile

    weights = WeightFile(HERE / "weights.h5")
    return {
        "ids": figures.ids,
        "plans": figures.plan_ids,
        "chips": lambda: figures.chip_ids(weights),
        "weight files": _weight_ids,
        "ranges": lambda: {
            name: {
                "file": internals.name_of(weights, inputs.hardware(name)),
                "id": internals.ranges_id(figures.ranges_of(name)),
            }
            for name in figures.CALIBRATED
        },
        "numbers": figures.numbers,
        "bits": lambda: {name: figures.bits(weights, name) for name in figures.EXACT},
        "stack": lambda: figures.stack(weights),
        "losses": lambda: {what: figures.losses(*of) for what, of in figures.TRAINING.items()},
        "refusals": stored.refusals,
        "journal": stored.journal,
    }


def make_demo(weights: Path, folder: Path) -> None:
    """Write demo.json and ranges/smollm2.npz from the weight file and the folder of a run of `make demo`."""
    from golden import internals, stored

    from aimc_sim import Hardware, WeightFile

    kept = HERE / "ranges" / "smollm2.npz"
    name = internals.name_of(WeightFile(weights), Hardware.load("hermes-256"))
    kept.write_bytes((internals.cache_folder() / name).read_bytes())
    journal = folder / "journal.sqlite"
    facts = {name: json.loads(value) for name, value in stored.rows(journal, "SELECT name, value FROM facts")}
    scores = stored.rows(journal, "SELECT name, scores FROM cells")
    verdict = json.loads((folder / "report.json").read_text(encoding="utf-8"))["verdict"]
    document = {
        **{name: verdict[name] for name in ("mean", "summary", "upper_bound")},
        "cells": {name: json.loads(text) for name, text in scores},
        "command": "aimc-sim signoff build/smollm2.h5 --hardware hermes-256 --chips 5 --times 1m,1h,1d,1y --margin 0.5",
        "plan_id": dict(stored.rows(journal, "SELECT name, value FROM identity"))["plan_id"],
        "ranges_id": facts["ranges_id/hermes-256"],
        "token_ids": internals.windows_from_json(facts["items/text"]).rows[0].tolist(),
        "weights": WeightFile(weights).id,
        "window": 0,
    }
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    (HERE / "demo.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Make what the options ask for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--force", action="store_true", help="make everything again: see above for when")
    parser.add_argument(
        "--add", metavar="NAME", help="compute one value of expected.json that is not there yet"
    )
    parser.add_argument("--demo", nargs=2, type=Path, metavar=("WEIGHTS", "FOLDER"), help="of `make demo`")
    options = parser.parse_args()
    path = HERE / "expected.json"
    if options.demo and options.force:
        make_demo(*options.demo)
        return
    if options.force:
        make_files()
        make_arrays()
        found = {name: of() for name, of in _values().items()}
    elif options.add:
        found = json.loads(path.read_text(encoding="utf-8"))
        if options.add in found:
            sys.exit(f"{options.add} is there already, and stays as it is.")
        found[options.add] = _values()[options.add]()
    else:
        sys.exit("The golden files stay as they are. Next: read the first lines of this script.")
    path.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
