"""`check_weights` reads a whole weight file, and refuses one whose bytes have changed."""

from __future__ import annotations

from aimc_sim.aliases import Progress
from aimc_sim.errors import BadInput
from aimc_sim.weightfile.reader import WeightFile


def check_weights(weight_file: WeightFile, progress: Progress | None = None) -> None:
    """Read every byte of the weight file once. Raises BadInput naming a dataset whose bytes have changed."""
    if progress is not None:
        progress("checking the file", 0, 1)
    problems = weight_file.verify()
    if problems:
        more = f" ({len(problems) - 1} more after this one)" if len(problems) > 1 else ""
        raise BadInput(
            "weight file",
            got=str(weight_file.path),
            why=f"it is damaged, in {problems[0]}{more}",
            do="copy the file again, or export it again; `aimc-sim verify` lists all the damage",
        )
    if progress is not None:
        progress("checking the file", 1, 1)
