"""The weight file: lossless, mappable, complete or absent, and safe to open when a stranger wrote it."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import aimc_sim.weightfile_write
from aimc_sim.errors import BadInput
from aimc_sim.weightfile import Calibration, MatrixInfo, Moments, WeightFile
from aimc_sim.weightfile_layout import ALIGNMENT
from aimc_sim.weightfile_write import WeightFileWriter

FORMAT_PAGE = Path(__file__).parents[1] / "docs" / "format.md"
MATRICES = (
    MatrixInfo("layer.a", 0, 4, 3, "float32", "out_in", True, "q", "layer.a.weight"),
    MatrixInfo("layer.b", 1, 5, 6, "bfloat16", "in_out", False, "o", "layer.b.weight"),
    MatrixInfo("layer.c", 2, 3, 2, "float16", "out_in", False, "up", "layer.c.weight"),
    MatrixInfo("lm_head", 3, 4, 7, "bfloat16", "out_in", False, "head", "embed.weight"),
)


def arrays() -> dict[str, tuple[np.ndarray[Any, Any], str]]:
    """Tensors of every dtype, with bit patterns that a conversion would not keep (subnormals, -0)."""
    return {
        "embed.weight": (np.arange(28, dtype=np.uint16).reshape(7, 4) * 37 + 0x3F00, "bfloat16"),
        "layer.a.weight": (np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4), "float32"),
        "layer.a.bias": (np.array([1e-45, -0.0, 3.0], np.float32), "float32"),
        "layer.b.weight": (np.arange(30, dtype=np.uint16).reshape(5, 6) * 11 + 0xBF00, "bfloat16"),
        "layer.c.weight": (np.array([[6e-8, -0.0, 1], [2, 3, -4]], np.float16), "float16"),
    }


def fill(writer: WeightFileWriter, *, calibrated: bool = True) -> None:
    for name, (bits, dtype) in arrays().items():
        writer.add_tensor(name, bits, dtype)
    writer.set_matrices(MATRICES)
    writer.add_document("config.json", {"model_type": "none", "vocab_size": 7})
    writer.add_document("generation_config.json", {})
    writer.add_document("provenance.json", {"files": []})
    writer.add_document("hardware.toml", b'name = "plain"\ndevice = "ideal"\n')
    writer.add_tokenizer_file("tokenizer.json", b'{"a": 1}')
    writer.add_tokenizer_file("empty.txt", b"")
    if calibrated:
        writer.add_calibration(Calibration(np.arange(12, dtype=np.int32).reshape(3, 4), "a test"))
        for matrix in MATRICES:
            table = np.arange(3 * matrix.rows, dtype=np.float32).reshape(3, -1)
            writer.add_moments(matrix.name, Moments(*table))


def write(path: Path, **options: Any) -> WeightFile:
    with WeightFileWriter(path) as writer:
        fill(writer, **options)
        return writer.finish()


@pytest.fixture
def file(tmp_path: Path) -> WeightFile:
    return write(tmp_path / "model.aimc")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("sound") / "model.aimc").path.read_bytes()


# -- reading back -----------------------------------------------------------------------------------------------


def test_every_bit_comes_back(file: WeightFile) -> None:
    for name, (bits, dtype) in arrays().items():
        stored = file.tensor(name)
        assert stored.dtype == dtype
        assert stored.bits.dtype == bits.dtype
        assert stored.bits.tobytes() == bits.tobytes()
        assert stored.bits.shape == bits.shape
    assert file.matrices == MATRICES
    assert file.digital_names == ("embed.weight", "layer.a.bias")
    assert file.tied


def test_weights_are_outputs_by_inputs_in_float32(file: WeightFile) -> None:
    values = arrays()
    np.testing.assert_array_equal(file.weight("layer.a"), values["layer.a.weight"][0])
    np.testing.assert_array_equal(file.weight("layer.c"), values["layer.c.weight"][0].astype(np.float32))
    widened = (values["layer.b.weight"][0].astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(file.weight("layer.b"), widened.T)
    for matrix in MATRICES:
        weight = file.weight(matrix.name)
        assert weight.shape == (matrix.cols, matrix.rows)
        assert weight.dtype == np.float32
        assert weight.flags.c_contiguous
        assert not weight.flags.writeable
    np.testing.assert_array_equal(file.raw("lm_head"), file.tensor("embed.weight").bits)
    np.testing.assert_array_equal(file.raw("layer.b"), values["layer.b.weight"][0])


def test_arrays_are_views_of_the_mapped_file_at_aligned_offsets(file: WeightFile) -> None:
    assert np.shares_memory(file.weight("layer.a"), file._map)
    assert np.shares_memory(file.digital("embed.weight").bits, file._map)
    assert file.weight("layer.a").ctypes.data % ALIGNMENT == 0
    before = file.path.read_bytes()
    file.digital("embed.weight").bits[:] = 0  # private memory: torch may write, the file stays
    assert file.path.read_bytes() == before


def test_documents_tokenizer_and_calibration(file: WeightFile) -> None:
    assert file.config == {"model_type": "none", "vocab_size": 7}
    assert file.generation_config == {}
    assert file.provenance == {"files": []}
    assert file.hardware.name == "plain"
    assert file.tokenizer() == {"tokenizer.json": b'{"a": 1}'}
    assert file.calibration.source == "a test"
    np.testing.assert_array_equal(file.calibration.token_ids, np.arange(12).reshape(3, 4))
    moments = file.moments("layer.b")
    np.testing.assert_array_equal(moments.second_moment, np.arange(10, 15))
    assert file.ranges("layer.a") is None
    assert file.schema_version == 1
    assert file.verify() == []


def test_names_that_do_not_exist(file: WeightFile) -> None:
    with pytest.raises(BadInput, match=r"nearest is 'layer\.a'"):
        file.matrix("layer.aa")
    with pytest.raises(BadInput, match=r"nearest is 'embed\.weight'"):
        file.tensor("embed.weigh")


def test_a_file_without_calibration_says_so(tmp_path: Path) -> None:
    file = write(tmp_path / "model.aimc", calibrated=False)
    with pytest.raises(BadInput, match="without calibration"):
        _ = file.calibration
    with pytest.raises(BadInput, match="without them"):
        file.moments("layer.a")


def test_learned_ranges(tmp_path: Path) -> None:
    with WeightFileWriter(tmp_path / "model.aimc") as writer:
        fill(writer)
        writer.add_ranges("layer.a", np.array([1.5, 2.5], np.float32))
        file = writer.finish()
    np.testing.assert_array_equal(file.ranges("layer.a"), [1.5, 2.5])
    assert file.ranges("layer.b") is None
    assert file.verify() == []


def test_the_id_knows_content_and_nothing_else(tmp_path: Path) -> None:
    first = write(tmp_path / "one.aimc")
    time.sleep(1.1)  # HDF5 counts time in seconds
    second = write(tmp_path / "two.aimc")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.id == second.id == WeightFile(first.path).id

    def variant(name: str, change: Callable[[WeightFileWriter], None]) -> str:
        with WeightFileWriter(tmp_path / name) as writer:
            for tensor, (bits, dtype) in arrays().items():
                writer.add_tensor(tensor, bits, dtype)
            writer.set_matrices(MATRICES)
            change(writer)
            return writer.finish().id

    base = variant("base", lambda writer: None)
    assert variant("provenance", lambda writer: writer.add_document("provenance.json", {"x": 1})) == base
    assert variant("config", lambda writer: writer.add_document("config.json", {"x": 1})) != base
    assert variant("tensor", lambda writer: writer.add_tensor("x", np.ones(1, np.float32), "float32")) != base


def test_an_open_file_travels_to_other_processes(file: WeightFile) -> None:
    copy = pickle.loads(pickle.dumps(file))
    assert copy.id == file.id
    np.testing.assert_array_equal(copy.weight("layer.a"), file.weight("layer.a"))


def test_the_reader_in_the_documentation(file: WeightFile) -> None:
    code = re.search(r"```python\n(.*?)```", FORMAT_PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    assert len([line for line in code[1].splitlines() if line.strip()]) <= 15
    namespace: dict[str, Any] = {}
    exec(code[1], namespace)
    config, matrices, tensors = namespace["read"](file.path)
    assert config == file.config
    assert matrices.keys() == {matrix.name for matrix in MATRICES}
    for name, weight in matrices.items():
        np.testing.assert_array_equal(weight.astype(np.float32), file.weight(name))
    assert tensors["layer.c.weight"].dtype == np.float16


# -- writing ----------------------------------------------------------------------------------------------------


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_and_stop(path: Path, error: type[BaseException]) -> None:
    with WeightFileWriter(path) as writer:
        fill(writer)
        raise error


def test_a_preview_reads_what_is_there_while_more_is_added(tmp_path: Path) -> None:
    with WeightFileWriter(tmp_path / "model.aimc") as writer:
        for name, (bits, dtype) in arrays().items():
            writer.add_tensor(name, bits, dtype)
        writer.set_matrices(MATRICES)
        writer.add_document("config.json", {"a": 1})
        preview = writer.preview()
        weight = preview.weight("layer.a")
        assert preview.config == {"a": 1}
        writer.add_calibration(Calibration(np.ones((1, 2), np.int32), "later"))
        file = writer.finish()
    np.testing.assert_array_equal(weight, file.weight("layer.a"))
    assert file.verify() == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_export_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    with pytest.raises(error):
        write_and_stop(tmp_path / "model.aimc", error)
    assert leftovers(tmp_path) == []


def test_an_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    old = write(tmp_path / "model.aimc", calibrated=False).path.read_bytes()
    with pytest.raises(RuntimeError):
        write_and_stop(tmp_path / "model.aimc", RuntimeError)
    assert (tmp_path / "model.aimc").read_bytes() == old
    write(tmp_path / "model.aimc")
    assert (tmp_path / "model.aimc").read_bytes() != old
    assert (tmp_path / "model.aimc").stat().st_mode & 0o777 == 0o666 & ~aimc_sim.weightfile_write._umask()


WRITER_PROCESS = """
import sys, time
import numpy as np
from aimc_sim.weightfile_write import WeightFileWriter
with WeightFileWriter(sys.argv[1]) as writer:
    for index in range(1000):
        writer.add_tensor(f"layer.{index}.weight", np.ones((64, 64), np.float32), "float32")
        print(index, flush=True)
        time.sleep(0.01)
    writer.finish()
"""


def test_a_killed_export_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER_PROCESS, str(tmp_path / "model.aimc")],
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 5:
                break
        process.kill()
    assert process.returncode == -9
    assert not (tmp_path / "model.aimc").exists()
    (partial,) = tmp_path.iterdir()
    assert partial.name.startswith(".model.aimc.")
    assert partial.suffix == ".partial"
    with pytest.raises(BadInput):
        WeightFile(partial)


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**8))
    with pytest.raises(BadInput, match=r"0\.10 GB free.*needs 5\.03 GB"):
        WeightFileWriter(tmp_path / "model.aimc", expected_bytes=5 * 10**9)
    assert leftovers(tmp_path) == []


FULL_DISK = """
import resource, signal, sys
import numpy as np
from aimc_sim.errors import BadInput
from aimc_sim.weightfile_write import WeightFileWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    with WeightFileWriter(sys.argv[1]) as writer:
        for index in range(100):
            writer.add_tensor(f"layer.{index}.weight", np.ones((64, 64), np.float32), "float32")
        writer.finish()
except BadInput as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [100, 3_000, 50_000, 1_640_000])
def test_a_disk_that_fills_up(limit: int, tmp_path: Path) -> None:
    """A limit on the file's size fails like a full disk: at the first block, among the data, and at the end."""
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path / "model.aimc"), str(limit)],
                          capture_output=True, text=True, check=True)
    assert done.stdout.startswith("disk space: got '"), done.stdout
    assert "needs 0.03 GB" in done.stdout
    assert done.stderr == ""
    assert leftovers(tmp_path) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not exist"):
        WeightFileWriter(tmp_path / "nowhere" / "model.aimc")
    with pytest.raises(BadInput, match="it is a folder"):
        WeightFileWriter(tmp_path)


def test_what_cannot_be_stored(tmp_path: Path) -> None:
    with WeightFileWriter(tmp_path / "model.aimc") as writer:
        one = np.ones(1, np.float32)
        with pytest.raises(BadInput, match="float64"):
            writer.add_tensor("x", np.ones(1), "float64")
        with pytest.raises(BadInput, match="without elements"):
            writer.add_tensor("x", np.ones((0, 3), np.float32), "float32")
        writer.add_tensor("x", one, "float32")
        for name in ("x", "a/b", "", "..", "."):
            with pytest.raises(BadInput, match="name of a dataset"):
                writer.add_tensor(name, one, "float32")
        writer.set_matrices((MATRICES[0],))
        with pytest.raises(BadInput, match=r"matrix layer\.a"):
            writer.finish()


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
    with h5py.File(file.path, "r+", libver=("v110", "v110"), alignment_threshold=0, alignment_interval=ALIGNMENT) as h5:
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
    from aimc_sim.weightfile_layout import parse_manifest

    with h5py.File(path, "r+", libver=("v110", "v110"), alignment_threshold=0, alignment_interval=ALIGNMENT) as h5:
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


def test_opening_needs_no_memory_for_the_data(tmp_path: Path) -> None:
    """A gigabyte of (sparse) weights opens within a small address space."""
    program = textwrap.dedent("""
        import os, resource, sys
        from aimc_sim.weightfile import WeightFile
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        file = WeightFile(sys.argv[1])
        file.weight("a")[0, :10].sum()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """)
    with WeightFileWriter(tmp_path / "big.aimc") as writer:
        writer.add_tensor("a.weight", np.zeros((1 << 12, 1 << 13), np.float32), "float32")
        writer.set_matrices((MatrixInfo("a", 0, 1 << 13, 1 << 12, "float32", "out_in", False, "q", "a.weight"),))
        writer.finish()
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "big.aimc")], capture_output=True, text=True,
                          check=True)
    assert int(done.stdout) < 60_000  # KiB; the matrix has 131,072


