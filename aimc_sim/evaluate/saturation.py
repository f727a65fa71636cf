"""What clips in a mounted model: counters of every analog matrix, in one forward over a text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from aimc_sim.chip.mapping import tile_map
from aimc_sim.chip.saturation import Saturation, saturation
from aimc_sim.evaluate.windows import Windows
from aimc_sim.hardware import Hardware
from aimc_sim.torch_bridge.linear import Socket, socket_of

TOKENS = 256  # of the text that are counted, unless told
AT_ONCE = 64  # rows of a product that are counted at once: bounds memory


def saturation_of(
    model: Any, hardware: Hardware, windows: Windows, tokens: int = TOKENS
) -> dict[str, Saturation]:
    """Counters of every analog matrix of a model on which a chip of this hardware is mounted, by name.

    The first ``tokens`` tokens of the text run through the chip itself, so that each matrix sees what the noise before
    it has left; the noise of a matrix's own products is not counted. Costs a forward and a slow product of each matrix.
    Empty where the hardware has no DAC: then nothing clips.
    """
    found: dict[str, Saturation] = {}
    if hardware.dac is None:
        return found
    with clips_counted(model, hardware, found), torch.no_grad():
        left = tokens
        for row in windows.rows:
            if left < 1:
                break
            model(input_ids=torch.from_numpy(np.asarray(row[:left], np.int64))[None], use_cache=False)
            left -= len(row[:left])
    return found


@contextmanager
def clips_counted(model: Any, hardware: Hardware, found: dict[str, Saturation]) -> Iterator[None]:
    """Within this context every product of the mounted model adds its counters, and so does a product of a part."""

    def watch(socket: Socket) -> Any:
        bounds = tile_map(socket.rows, socket.cols, hardware.tile).col_bounds

        def hook(module: Any, args: Any) -> None:
            x = args[0].detach().reshape(-1, socket.rows).float().cpu().numpy()
            assert socket.tiles is not None
            for first in range(0, len(x), AT_ONCE):
                counts = saturation(x[first : first + AT_ONCE], socket.tiles, bounds)
                before = found.get(socket.name)
                found[socket.name] = counts if before is None else before + counts

        return hook

    with ExitStack() as stack:
        for module in model.modules():
            socket = socket_of(module)
            if socket is not None:
                stack.callback(module.register_forward_pre_hook(watch(socket)).remove)
        yield
