"""Adapters in a weight file: what is stored, what a stranger may not say, and nothing at all where there are none."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from aimc_sim.errors import BadInput
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.layout import ALIGNMENT, parse_manifest
from aimc_sim.weightfile.manifest import AdapterInfo, Entry, Manifest
from aimc_sim.weightfile.writer import WeightFileWriter
from helpers.tiny_weightfiles import MATRICES, fill, write

FORMAT_PAGE = Path(__file__).parents[2] / "docs" / "format.md"
PARTS = {
    "layer.a.lora_A.weight": np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4),
    "layer.a.lora_B.weight": np.linspace(1, 2, 6, dtype=np.float32).reshape(3, 2),
    "layer.b.lora_A.weight": np.full((1, 5), 0.5, np.float32),
    "layer.b.lora_B.weight": np.full((6, 1), 0.25, np.float32),
}
INFOS = (AdapterInfo.of("layer.a", 2.0), AdapterInfo.of("layer.b", -0.5))


def write_with(path: Path, infos: tuple[AdapterInfo, ...] = INFOS, **changes: Any) -> WeightFile:
    """The sound file with adapters beside two matrices. changes: tensors, a double underscore stands for a dot."""
    other = {name.replace("__", "."): value for name, value in changes.items()}
    with WeightFileWriter(path) as writer:
        fill(writer)
        for name, bits in (PARTS | other).items():
            if bits is not None:
                writer.add_tensor(name, bits, "float32")
        writer.set_adapters(infos)
        return writer.finish()


@pytest.fixture
def file(tmp_path: Path) -> WeightFile:
    return write_with(tmp_path / "m.aimc")


def test_a_file_without_adapters_is_what_it_always_was(tmp_path: Path) -> None:
    datasets = {"tensors/layer.a.weight": Entry("float32", (3, 4), "0" * 64)}
    manifest = Manifest(MATRICES, "a test", datasets)
    assert manifest.content_id() == "d408fb9f47afc78aee621b26b35046e928f6820c18793847a6a836e8bbc58653"
    assert b"adapter" not in manifest.to_json()
    plain = write(tmp_path / "m.aimc")
    assert (plain.adapters, plain.adapter_ranks, plain.adapter("layer.a")) == ((), {}, None)


def test_what_was_stored_comes_back(file: WeightFile) -> None:
    assert file.adapters == INFOS
    assert file.adapter_ranks == {"layer.a": 2, "layer.b": 1}
    assert file.adapter("layer.c") is None
    found = file.adapter("layer.a")
    assert found is not None
    assert found.scale == 2.0
    np.testing.assert_array_equal(found.a.bits, PARTS["layer.a.lora_A.weight"])
    np.testing.assert_array_equal(found.b.bits, PARTS["layer.a.lora_B.weight"])
    assert set(PARTS) < set(file.digital_names)
    assert file.verify() == []
    assert WeightFile(file.path).id == file.id


def test_the_scale_is_part_of_the_id(file: WeightFile, tmp_path: Path) -> None:
    other = write_with(tmp_path / "other.aimc", (AdapterInfo.of("layer.a", 2.5), INFOS[1]))
    assert other.id != file.id
    assert write_with(tmp_path / "again.aimc").id == file.id


def test_the_readers_of_the_format_page(file: WeightFile) -> None:
    blocks = FORMAT_PAGE.read_text(encoding="utf-8").split("```python\n")
    space: dict[str, Any] = {}
    for block in blocks[1:]:
        exec(block.partition("```")[0], space)
    _, matrices, tensors = space["read"](file.path)
    np.testing.assert_array_equal(matrices["layer.a"], file.weight("layer.a"), err_msg="the base alone")
    whole = space["adapted"](file.path, matrices, tensors)
    added = 2.0 * PARTS["layer.a.lora_B.weight"] @ PARTS["layer.a.lora_A.weight"]
    np.testing.assert_allclose(whole["layer.a"], file.weight("layer.a") + added, rtol=1e-6)
    np.testing.assert_array_equal(whole["layer.c"], file.weight("layer.c"))
    path = write(file.path.with_name("plain.aimc")).path
    _, matrices, tensors = space["read"](path)
    assert space["adapted"](path, matrices, tensors) == matrices


@pytest.mark.parametrize(
    ("infos", "changes", "match"),
    [
        ((INFOS[0],), {}, "no adapter of the file names"),
        ((), {}, "no adapter of the file names"),
        ((INFOS[1], INFOS[0]), {}, "order of the matrices"),
        ((INFOS[0], INFOS[0], INFOS[1]), {}, "order of the matrices"),
        ((*INFOS, AdapterInfo.of("layer.z", 1.0)), {}, "no such matrix"),
        ((*INFOS, AdapterInfo.of("layer.c", 1.0)), {}, "adapter of layer.c"),
        ((AdapterInfo("layer.a", "embed.weight", INFOS[0].b, 1.0), INFOS[1]), {}, "its tensors are named"),
        (INFOS, {"layer__a__lora_A__weight": None}, "adapter of layer.a"),
        (INFOS, {"layer__a__lora_A__weight": np.ones((2, 3), np.float32)}, r"\(r, 4\)"),
        (INFOS, {"layer__a__lora_B__weight": np.ones((3, 1), np.float32)}, r"\(3, r\)"),
        (INFOS, {"layer__a__lora_A__weight": np.ones(8, np.float32)}, r"\(r, 4\)"),
    ],
)
def test_adapters_that_do_not_fit_are_not_written(
    infos: tuple[AdapterInfo, ...], changes: dict[str, Any], match: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=match):
        write_with(tmp_path / "m.aimc", infos, **changes)
    assert not (tmp_path / "m.aimc").exists()


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Another manifest, with a fitting id where it has one."""
    with h5py.File(
        path, "r+", libver=("v110", "v110"), alignment_threshold=0, alignment_interval=ALIGNMENT
    ) as h5:
        document = json.loads(h5["manifest"][()].tobytes())
        change(document)
        del h5["manifest"]
        h5["manifest"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            h5.attrs["id"] = np.bytes_(parse_manifest(document).content_id())


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "dropped": lambda document: document.pop("adapters"),
    "half dropped": lambda document: document["adapters"].pop(),
    "empty": lambda document: document.update(adapters=[]),
    "null": lambda document: document.update(adapters=None),
    "text": lambda document: document.update(adapters="layer.a"),
    "reversed": lambda document: document["adapters"].reverse(),
    "nan": lambda document: document["adapters"][0].update(scale=float("nan")),
    "infinite": lambda document: document["adapters"][0].update(scale=float("inf")),
    "scale is text": lambda document: document["adapters"][0].update(scale="2.0"),
    "scale is true": lambda document: document["adapters"][0].update(scale=True),
    "no scale": lambda document: document["adapters"][0].pop("scale"),
    "more": lambda document: document["adapters"][0].update(dropout=0.1),
    "another matrix": lambda document: document["adapters"][0].update(matrix="layer.c"),
    "no name": lambda document: document["adapters"][0].update(matrix=3),
    "another tensor": lambda document: document["adapters"][0].update(a="layer.a.weight"),
    "a list as name": lambda document: document["adapters"][0].update(a=["x"]),
}


@pytest.mark.parametrize("name", LIES)
def test_manifests_that_lie_are_refused(name: str, file: WeightFile) -> None:
    rewrite(file.path, LIES[name])
    with pytest.raises(BadInput):
        WeightFile(file.path)


def test_an_honest_manifest_is_accepted_again(file: WeightFile) -> None:
    rewrite(file.path, lambda document: None)
    assert WeightFile(file.path).adapters == INFOS


@pytest.mark.parametrize("part", ["layer.a.lora_A.weight", "layer.a.lora_B.weight"])
def test_a_damaged_part_is_never_used(part: str, file: WeightFile) -> None:
    spoilt = bytearray(file.path.read_bytes())
    spoilt[file._layout.offsets[f"tensors/{part}"]] ^= 1
    file.path.write_bytes(spoilt)
    with pytest.raises(BadInput, match="checksum"):
        WeightFile(file.path).adapter("layer.a")


def test_parts_are_finite(tmp_path: Path) -> None:
    file = write_with(tmp_path / "m.aimc", layer__b__lora_B__weight=np.full((6, 1), np.inf, np.float32))
    with pytest.raises(BadInput, match=r"layer\.b\.lora_B.*finite"):
        file.adapter("layer.b")
