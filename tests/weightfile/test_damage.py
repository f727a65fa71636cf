"""Damaged and hostile weight files: refused with the reason, and every flipped byte is noticed."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimc_sim.errors import BadInput
from aimc_sim.weightfile import WeightFile
from aimc_sim.weightfile.layout import ALIGNMENT
from helpers.tiny_weightfiles import write


@pytest.fixture
def file(tmp_path: Path) -> WeightFile:
    return write(tmp_path / "model.aimc")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("sound") / "model.aimc").path.read_bytes()


# -- damage -----------------------------------------------------------------------------------------------------


def test_verify_names_the_dataset_of_any_flipped_byte(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.aimc"
    path.write_bytes(sound)
    file = WeightFile(path)
    for name, offset in file._layout.offsets.items():
        spoilt = bytearray(sound)
        spoilt[offset] ^= 1
        path.write_bytes(spoilt)
        (problem,) = WeightFile(path).verify()
        assert problem.startswith(f"{name}: ")


def test_damaged_small_datasets_are_never_used(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.aimc"
    path.write_bytes(sound)
    offsets = WeightFile(path)._layout.offsets
    spoilt = bytearray(sound)
    for name in ("documents/config.json", "tokenizer/tokenizer.json", "calibration/token_ids"):
        spoilt[offsets[name]] ^= 1
    path.write_bytes(spoilt)
    file = WeightFile(path)
    with pytest.raises(BadInput, match=r"documents/config\.json.*checksum"):
        _ = file.config
    with pytest.raises(BadInput, match=r"tokenizer/tokenizer\.json.*checksum"):
        file.tokenizer()
    with pytest.raises(BadInput, match=r"calibration/token_ids.*checksum"):
        _ = file.calibration


@given(data=st.data())
def test_any_flipped_byte_is_named_or_refused(
    sound: bytes, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spoilt = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 3))):
        spoilt[data.draw(st.integers(0, len(sound) - 1))] ^= data.draw(st.integers(1, 255))
    if bytes(spoilt) == sound:
        return
    path = tmp_path_factory.getbasetemp() / "flipped.aimc"
    path.write_bytes(spoilt)
    try:
        problems = WeightFile(path).verify()
    except BadInput:
        return
    assert problems


@pytest.mark.parametrize("kept", [0, 7, 8, 48, 100, 5000, -64, -1])
def test_a_truncated_file_is_refused(sound: bytes, kept: int, tmp_path: Path) -> None:
    path = tmp_path / "model.aimc"
    path.write_bytes(sound[:kept])
    with pytest.raises(BadInput, match=str(path)):
        WeightFile(path)


def test_other_files(tmp_path: Path, file: WeightFile) -> None:
    with pytest.raises(BadInput, match="there is no such file"):
        WeightFile(tmp_path / "missing.aimc")
    (tmp_path / "text").write_text("a longer text than eight bytes")
    with pytest.raises(BadInput, match="signature"):
        WeightFile(tmp_path / "text")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = 1
    with pytest.raises(BadInput, match="another kind"):
        WeightFile(tmp_path / "other.h5")
    if os.geteuid() != 0:
        file.path.chmod(0)
        with pytest.raises(BadInput):
            WeightFile(file.path)


# -- hostile files: valid HDF5 that a stranger arranged -----------------------------------------------------------


def external_link(file: h5py.File) -> None:
    file["tensors/stolen"] = h5py.ExternalLink("/etc/passwd", "/")


def soft_link(file: h5py.File) -> None:
    file["tensors/alias"] = h5py.SoftLink("/manifest")


def hard_link(file: h5py.File) -> None:
    file["tensors/twin"] = file["tensors/embed.weight"]


def cycle(file: h5py.File) -> None:
    file["tensors/loop"] = file["/"]


def another_group(file: h5py.File) -> None:
    file.create_group("extra")


def another_dataset(file: h5py.File) -> None:
    file["tensors/extra"] = np.ones(3, np.float32)
    file["tensors/extra"].attrs["dtype"] = np.bytes_("float32")


def references(file: h5py.File) -> None:
    file.create_dataset("tensors/ref", data=[file["manifest"].ref], dtype=h5py.ref_dtype)


def strings(file: h5py.File) -> None:
    file.create_dataset("tensors/text", data=["x"], dtype=h5py.string_dtype())


def named_type(file: h5py.File) -> None:
    file["tensors/type"] = np.dtype("<f4")


def external_storage(file: h5py.File) -> None:
    file.create_dataset("tensors/outside", (3,), "<f4", external=[("/etc/passwd", 0, 12)])


def virtual_storage(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "<f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3,))
    file.create_virtual_dataset("tensors/virtual", layout)


def filtered(file: h5py.File) -> None:
    file.create_dataset("tensors/bomb", (1 << 20,), "<f4", compression="gzip")


def never_allocated(file: h5py.File) -> None:
    file.create_dataset("tensors/void", (1 << 40,), "<f4")


def scalar(file: h5py.File) -> None:
    file["tensors/scalar"] = np.float32(1)


def null(file: h5py.File) -> None:
    file["tensors/null"] = h5py.Empty("<f4")


def long_attribute(file: h5py.File) -> None:
    file.attrs["format"] = "variable length"


def array_attribute(file: h5py.File) -> None:
    file.attrs["schema"] = np.arange(1000)


def more_attributes(file: h5py.File) -> None:
    file["tensors"].attrs["x"] = 1


def attribute_on_data(file: h5py.File) -> None:
    file["manifest"].attrs["x"] = 1


def other_dtype_label(file: h5py.File) -> None:
    file["tensors/layer.a.weight"].attrs["dtype"] = np.bytes_("bfloat16")


def no_manifest(file: h5py.File) -> None:
    del file["manifest"]


def missing_tensor(file: h5py.File) -> None:
    del file["tensors/layer.a.weight"]


def schema_zero(file: h5py.File) -> None:
    file.attrs["schema"] = np.int64(0)


def no_id(file: h5py.File) -> None:
    del file.attrs["id"]


def wrong_id(file: h5py.File) -> None:
    file.attrs["id"] = np.bytes_("0" * 64)


HOSTILE: dict[Callable[[h5py.File], None], str] = {
    external_link: "soft or external link",
    soft_link: "soft or external link",
    hard_link: "overlaps",
    cycle: "no such group",
    another_group: "no such group",
    another_dataset: "not in the manifest",
    references: "data type",
    strings: "data type",
    named_type: "neither a group nor a dataset",
    external_storage: "only contiguous",
    virtual_storage: "only contiguous",
    filtered: "only contiguous",
    never_allocated: "0 are stored",
    scalar: "not an array",
    null: "not an array",
    long_attribute: "fixed-length",
    array_attribute: "one integer",
    more_attributes: "no attributes",
    attribute_on_data: "unexpected attributes",
    other_dtype_label: "dtype attribute is 'bfloat16'",
    no_manifest: "never finished",
    missing_tensor: "not in the file",
    schema_zero: "not a version",
    no_id: "expected format, schema and id",
    wrong_id: "does not match the manifest",
}


@pytest.mark.parametrize("attack", HOSTILE, ids=lambda attack: attack.__name__)
def test_hostile_files_are_refused(attack: Callable[[h5py.File], None], file: WeightFile) -> None:
    with h5py.File(
        file.path, "r+", libver=("v110", "v110"), alignment_threshold=0, alignment_interval=ALIGNMENT
    ) as h5:
        attack(h5)
    with pytest.raises(BadInput, match=HOSTILE[attack]):
        WeightFile(file.path)


def test_a_newer_schema_asks_for_an_upgrade(file: WeightFile) -> None:
    with h5py.File(file.path, "r+", libver=("v110", "v110")) as h5:
        h5.attrs["schema"] = np.int64(2)
    with pytest.raises(BadInput, match=r"got 2.*newer aimc-sim.*upgrade"):
        WeightFile(file.path)


def rewrite_manifest(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Replace the manifest by a changed one (or by bytes), with a fitting id: only the contents are wrong."""
    from aimc_sim.weightfile.layout import parse_manifest

    with h5py.File(
        path, "r+", libver=("v110", "v110"), alignment_threshold=0, alignment_interval=ALIGNMENT
    ) as h5:
        document = json.loads(h5["manifest"][()].tobytes())
        result = change(document)
        data = result if isinstance(result, bytes) else json.dumps(document).encode()
        del h5["manifest"]
        h5["manifest"] = np.frombuffer(data, np.uint8)
        with contextlib.suppress(ValueError, TypeError, KeyError):
            h5.attrs["id"] = np.bytes_(parse_manifest(document).content_id())


def entry(document: dict[str, Any], name: str = "tensors/layer.a.weight") -> dict[str, Any]:
    found: dict[str, Any] = document["datasets"][name]
    return found


MANIFESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "not JSON": lambda document: b"\xff{",
    "a list": lambda document: b"[]",
    "deep": lambda document: b"[" * 100_000,
    "shape": lambda document: entry(document).update(shape=[4, 3]),
    "huge shape": lambda document: entry(document).update(shape=[1 << 60, 1 << 60]),
    "negative shape": lambda document: entry(document).update(shape=[-3, 4]),
    "boolean shape": lambda document: entry(document).update(shape=[True, 4]),
    "shape is text": lambda document: entry(document).update(shape="34"),
    "dtype": lambda document: entry(document).update(dtype="float16"),
    "unknown dtype": lambda document: entry(document).update(dtype="float8"),
    "no checksum": lambda document: entry(document).pop("sha256"),
    "matrix rows": lambda document: document["matrices"][0].update(rows=3),
    "matrix dtype": lambda document: document["matrices"][0].update(dtype="float16"),
    "matrix tensor": lambda document: document["matrices"][0].update(tensor="nothing"),
    "matrix type": lambda document: document["matrices"][0].update(rows="4"),
    "matrix field": lambda document: document["matrices"][0].update(more=1),
    "matrix layout": lambda document: document["matrices"][0].update(layout="diagonal"),
    "ordinals": lambda document: document["matrices"].reverse(),
    "twins": lambda document: document["matrices"][1].update(document["matrices"][0], ordinal=1),
    "moments": lambda document: entry(document, "calibration/moments/layer.a").update(shape=[12]),
    "source": lambda document: document["calibration"].update(source=3),
    "format": lambda document: document.update(format="other"),
    "missing key": lambda document: document.pop("matrices"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_that_lie_are_refused(name: str, file: WeightFile) -> None:
    rewrite_manifest(file.path, MANIFESTS[name])
    with pytest.raises(BadInput):
        WeightFile(file.path)


def test_an_honest_manifest_is_accepted_again(file: WeightFile) -> None:
    """The control of the tests above: rewriting alone does no harm, except that the seal is broken."""
    rewrite_manifest(file.path, lambda document: None)
    (problem,) = WeightFile(file.path).verify()
    assert problem.startswith("seal: ")
