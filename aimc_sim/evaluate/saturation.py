"""What clips in a mounted model: counters of every analog matrix, in one forward over a text."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from aimc_sim.aliases import F32
from aimc_sim.chip.mapping import tile_map
from aimc_sim.chip.saturation import Saturation, saturation
from aimc_sim.evaluate.windows import Windows
from aimc_sim.hardware import Hardware
from aimc_sim.torch_bridge.inputs import matrix_inputs
from aimc_sim.torch_bridge.linear import socket_of

TOKENS = 256  # of the text that are counted, unless told
AT_ONCE = 64  # rows of a product that are counted at once: bounds memory


def saturation_of(
    model: Any, hardware: Hardware, windows: Windows, tokens: int = TOKENS
) -> dict[str, Saturation]:
    """Read the counters of every analog matrix of a model on which a chip of this hardware is mounted, by name.

    The first ``tokens`` tokens of the text run through the chip itself, so that each matrix sees what the noise before
    it has left; the noise of a matrix's own products is not counted. Costs a forward and a slow product of each matrix.
    Empty where the hardware has no DAC: then nothing clips.
    """
    counters: dict[str, Saturation] = {}
    if hardware.dac is not None:
        with count_clips(model, hardware, counters), torch.no_grad():
            for row in windows.first(tokens, least=1).rows:
                model(input_ids=torch.from_numpy(row.astype(np.int64))[None], use_cache=False)
    return counters


def count_clips(
    model: Any, hardware: Hardware, counters: dict[str, Saturation]
) -> AbstractContextManager[None]:
    """Add the counters of every product of the mounted model, or of a part of one, inside this context.

    Adds nothing where the hardware has no DAC.
    """
    if hardware.dac is None:
        return nullcontext()
    sockets = {
        name: socket for name, module in model.named_modules() if (socket := socket_of(module)) is not None
    }

    def see(name: str, x: F32) -> None:
        socket = sockets[name]
        assert socket.tiles is not None
        bounds = tile_map(socket.rows, socket.cols, hardware.tile).col_bounds
        for first in range(0, len(x), AT_ONCE):
            counts = saturation(x[first : first + AT_ONCE], socket.tiles, bounds)
            before = counters.get(socket.name)
            counters[socket.name] = counts if before is None else before + counts

    return matrix_inputs(model, sockets, see)
