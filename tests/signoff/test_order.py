"""What stands on what inside the sign-off."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimc_sim import signoff
from aimc_sim.studies.sources import imported

ORDER = ("statistics", "design", "execution", "report")
FOLDER = Path(str(signoff.__file__)).parent


@pytest.mark.parametrize("room", ORDER)
def test_statistics_then_design_then_execution_then_report(room: str) -> None:
    """Wherever in its code a module imports: none reaches up from inside a function."""
    above = tuple(f"aimc_sim.signoff.{other}" for other in ORDER[ORDER.index(room) + 1 :])
    found = {
        path.name: [name for name in imported(path, path.stem) if name.startswith(above)]
        for path in (FOLDER / room).glob("*.py")
    }
    assert not {name: reached for name, reached in found.items() if reached}
