"""What `AnalogLinear` means: two classes that share a socket, and nothing of each other's code."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.errors import BadInput
from aimc_sim.execute import tile_matmul
from aimc_sim.hardware import Hardware
from aimc_sim.studies import sources
from aimc_sim.testing import assert_bits
from aimc_sim.torch_bridge import AnalogLinear, TileLinear, Training, TrainingLinear, coverage, linear
from aimc_sim.torch_bridge.linear import socket_of
from aimc_sim.torch_bridge.rows import RowNames

K, N = 24, 10
HARDWARE = {"device": "pcm-hermes-2", "dac": {}, "adc": {"full_scale": {"rule": "lambda", "lambda_": 8.0}}}
X = torch.linspace(-1, 1, 3 * K).sin().reshape(3, K)


def cells(**tables: object) -> CellMatrix:
    w = np.cos(np.arange(N * K, dtype=np.float32)).reshape(N, K)
    return CellMatrix(w, Hardware.load({**HARDWARE, **tables}), seed=9, t_s=60.0)


def tile_layer(bias: bool = False, **tables: object) -> TileLinear:
    """A layer of K × N with a chip mounted."""
    layer = TileLinear("layer", K, N, torch.arange(N) / N if bias else None)
    layer.mount(cells(**tables).tiles())
    return layer


def training_layer(training: bool | Training = True) -> TrainingLinear:
    return AnalogLinear.from_linear(torch.nn.Linear(K, N), HARDWARE, training, name="layer")


def test_layers_of_both_classes_are_analog_linear() -> None:
    runs, trains = tile_layer(), training_layer()
    for layer in (runs, trains, copy.deepcopy(trains)):
        assert isinstance(layer, AnalogLinear)
        assert (layer.matrix_name, layer.in_features, layer.out_features) == ("layer", K, N)
    assert type(trains) is TrainingLinear
    assert not isinstance(torch.nn.Linear(K, N), AnalogLinear)
    assert set(TileLinear.__mro__) - {TileLinear} == set(torch.nn.Linear.__mro__) - {torch.nn.Linear}
    assert set(TrainingLinear.__mro__) & {AnalogLinear, TileLinear} == set()
    with pytest.raises(TypeError):
        AnalogLinear()  # type: ignore[abstract]


def test_both_classes_have_what_the_name_promises() -> None:
    tiles = cells().tiles()
    wrong = CellMatrix(np.ones((N, K + 1), np.float32), Hardware.load(HARDWARE), 1).tiles()
    promised = {name for name in vars(AnalogLinear) if not name.startswith("_")} - {"from_linear"}
    assert promised == {"tiles", "mount", "unmount"}
    for layer in (TileLinear("layer", K, N), training_layer()):
        assert layer.tiles is None
        with pytest.raises(BadInput, match="the layer is 24 × 10"):
            layer.mount(wrong)
        layer.mount(tiles)
        assert layer.tiles is tiles
        socket = socket_of(layer)
        assert socket is not None
        with torch.no_grad():
            y = layer(X) if layer.bias is None else layer(X) - layer.bias
        np.testing.assert_allclose(y.numpy(), tile_matmul(X.numpy(), tiles), atol=1e-5)
        layer.unmount()
        assert layer.tiles is None
    assert socket_of(torch.nn.Linear(K, N)) is None


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, of tracing
def test_a_mounted_layer_of_either_class_refuses_what_a_chip_cannot_do() -> None:
    for layer in (tile_layer(), training_layer(training=False)):
        with pytest.raises(BadInput, match="no gradient"):
            layer(X.clone().requires_grad_())
        with pytest.raises(BadInput, match="floating-point"):
            layer(X.to(torch.int64))
        with torch.no_grad(), pytest.raises(BadInput, match=r"torch\.jit\.trace"):
            torch.jit.trace(layer, X)
    noisy = tile_layer(read_noise={})
    with torch.no_grad(), pytest.raises(BadInput, match="call the whole model"):
        noisy(X)
    noisy.socket.row_names = RowNames()
    noisy.socket.row_names.ids = np.arange(3, dtype=np.int64)[None]
    with torch.no_grad():
        assert_bits(noisy(X).numpy(), tile_matmul(X.numpy(), cells(read_noise={}).tiles(), np.arange(3)))


def test_a_mounted_layer_is_copied_saved_and_compiled() -> None:
    layer = tile_layer(bias=True)
    assert set(layer.state_dict()) == {"bias"}
    assert repr(layer) == f"TileLinear(layer, in_features={K}, out_features={N})"
    with torch.no_grad():
        y = layer(X)
        for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert twin.tiles is not layer.tiles
            assert_bits(twin(X).numpy(), y.numpy())
        half = layer(X.bfloat16().reshape(3, 1, K))
        assert half.shape == (3, 1, N)
        assert half.dtype == torch.bfloat16
        compiled = torch.compile(layer, backend="aot_eager")
        assert_bits(compiled(X).numpy(), y.numpy())


def test_what_runs_a_chip_imports_nothing_of_training() -> None:
    """So what training code computes can change without a stored score losing its worth."""
    for module in (linear, coverage):
        found = sources.sources_of(module.__name__)
        assert not [name for name in found if name.startswith("aimc_sim.torch_bridge.training")]
