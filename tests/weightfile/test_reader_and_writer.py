"""The weight file: lossless, mappable, complete or absent, and safe to open when a stranger wrote it."""

from __future__ import annotations

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

import numpy as np
import pytest

import aimc_sim.weightfile.writer
from aimc_sim.errors import BadInput
from aimc_sim.weightfile import Calibration, MatrixInfo, WeightFile
from aimc_sim.weightfile.layout import ALIGNMENT
from aimc_sim.weightfile.writer import WeightFileWriter
from helpers.tiny_weightfiles import MATRICES, arrays, fill, write

FORMAT_PAGE = Path(__file__).parents[2] / "docs" / "format.md"


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
    assert np.shares_memory(file.weight("layer.a"), np.frombuffer(file._fixed, np.uint8))
    assert np.shares_memory(file.tensor("embed.weight").bits, file._map)
    assert file.weight("layer.a").ctypes.data % ALIGNMENT == 0
    before = file.path.read_bytes()
    file.tensor("embed.weight").bits[:] = 0  # private memory: torch may write, the file stays
    assert file.path.read_bytes() == before


def test_documents_tokenizer_and_calibration(file: WeightFile) -> None:
    assert file.config == {"model_type": "none", "vocab_size": 7}
    assert file.generation_config == {}
    assert file.provenance == {"files": []}
    assert file.hardware.name == "plain"
    assert file.tokenizer() == {"tokenizer.json": b'{"a": 1}'}
    assert file.calibration.source == "a test"
    np.testing.assert_array_equal(file.calibration.token_ids, np.arange(12).reshape(3, 4) % 7)
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
    written = int(time.time())
    while int(time.time()) == written:  # HDF5 counts time in seconds
        time.sleep(0.01)
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
    assert (tmp_path / "model.aimc").stat().st_mode & 0o777 == 0o666 & ~aimc_sim.weightfile.writer._umask()


WRITER_PROCESS = """
import sys
import numpy as np
from aimc_sim.weightfile.writer import WeightFileWriter
with WeightFileWriter(sys.argv[1]) as writer:
    for index in range(6):
        writer.add_tensor(f"layer.{index}.weight", np.ones((64, 64), np.float32), "float32")
    print("written", flush=True)
    sys.stdin.readline()
    writer.finish()
"""


@pytest.mark.under_load
def test_a_killed_export_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER_PROCESS, str(tmp_path / "model.aimc")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.kill()
    assert process.returncode == -9
    assert not (tmp_path / "model.aimc").exists()
    (partial,) = tmp_path.iterdir()
    assert partial.name.startswith(".model.aimc.")
    assert partial.suffix == ".partial"
    with pytest.raises(BadInput):
        WeightFile(partial)


def test_too_little_space_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**8))
    with pytest.raises(BadInput, match=r"0\.10 GB free.*needs 5\.03 GB"):
        WeightFileWriter(tmp_path / "model.aimc", expected_bytes=5 * 10**9)
    assert leftovers(tmp_path) == []


FULL_DISK = """
import resource, signal, sys
import numpy as np
from aimc_sim.errors import BadInput
from aimc_sim.weightfile.writer import WeightFileWriter
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
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "model.aimc"), str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
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
        writer.set_matrices(
            (MatrixInfo("a", 0, 1 << 13, 1 << 12, "float32", "out_in", False, "q", "a.weight"),)
        )
        writer.finish()
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "big.aimc")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 60_000  # KiB; the matrix has 131,072


def test_pages_given_back_are_read_again(file: WeightFile) -> None:
    for matrix in file.matrices:
        held = file.weight(matrix.name)
        before = held.copy()
        file.release(matrix.name)
        np.testing.assert_array_equal(held, before)
        np.testing.assert_array_equal(file.weight(matrix.name), before)
    with pytest.raises(BadInput, match="no such matrix"):
        file.release("nothing")


def test_what_is_done_to_a_digital_tensor_reaches_no_chip(file: WeightFile) -> None:
    before = file.weight("layer.a").copy()
    file.tensor("layer.a.weight").bits[...] = 0
    np.testing.assert_array_equal(file.weight("layer.a"), before)
