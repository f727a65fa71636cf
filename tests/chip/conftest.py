"""What tests of chips share."""

from __future__ import annotations

import pytest

from helpers.bench import Bench, write_two


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A bench that programs one matrix under any tables, each once."""
    folder = tmp_path_factory.mktemp("bench")
    return Bench(write_two(folder / "two.h5"), folder)
