"""`AnalogLinear` names the layers whose product is analog, whatever class computes it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from aimc_sim.chip.ranges import MatrixRange
from aimc_sim.hardware import HardwareSource
from aimc_sim.tiles.matrix import TiledMatrix
from aimc_sim.torch_bridge.linear import TileLinear
from aimc_sim.torch_bridge.training.conversion import layer_from
from aimc_sim.torch_bridge.training.layer import TrainingLinear
from aimc_sim.torch_bridge.training.spec import Training


class AnalogLinear(ABC):
    """AnalogLinear is the name of every linear layer whose product is analog; no object is made of it.

    ``isinstance(layer, AnalogLinear)`` is true of a `TileLinear`, which runs on the tiles of a chip, and of a
    `TrainingLinear`, which trains for one: as in version 0.1, where one was derived from the other. Now neither is
    derived from this class nor from the other; ask for the one that is meant where it matters.

    >>> import torch
    >>> from aimc_sim.torch_bridge import AnalogLinear
    >>> layer = AnalogLinear.from_linear(torch.nn.Linear(16, 4), "afm-llama")
    >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    >>> layer(torch.ones(2, 16).cumsum(1)).sum().backward()
    >>> optimizer.step()
    >>> isinstance(layer, AnalogLinear), layer.step
    (True, 1)
    """

    matrix_name: str
    in_features: int
    out_features: int

    @property
    @abstractmethod
    def tiles(self) -> TiledMatrix | None:
        """Return the tiles that are mounted."""

    @abstractmethod
    def mount(self, tiles: TiledMatrix) -> None:
        """Compute with these tiles from now on. Raises BadInput when they hold another shape."""

    @abstractmethod
    def unmount(self) -> None:
        """Let go of the tiles."""

    @staticmethod
    def from_linear(
        linear: nn.Module, hardware: HardwareSource | Training, training: bool | Training = True, *,
        name: str = "linear", ordinal: int = 0, ranges: MatrixRange | None = None, seed: int = 0,
    ) -> TrainingLinear:  # fmt: skip
        """Make a layer that trains for the hardware, around the parameters of a Linear or a transformers Conv1D.

        It works when it is called: noise is that of step 0, and of the next step after each step of an optimizer;
        static input ranges begin with its first training forward. training: True for `Training()`; False to run on the
        chip of ``seed`` instead, without gradient. ordinal: which matrix of the chip it is: layers of one model that
        share it draw the same noise. The rest as in `convert`.
        """
        return layer_from(linear, hardware, training, name=name, ordinal=ordinal, ranges=ranges, seed=seed)


AnalogLinear.register(TileLinear)
AnalogLinear.register(TrainingLinear)
