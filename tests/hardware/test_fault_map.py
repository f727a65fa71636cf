"""Fault maps: what a file may say, what it does to cells and lines, and that its content names the chip."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from aimc_sim import BadInput, Hardware, WeightFile, program
from aimc_sim.chip.fault_sites import mapped_faults
from aimc_sim.chip.mapping import tile_map
from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.execute import tile_matmul, tile_matmul_reference
from aimc_sim.hardware import fault_map
from aimc_sim.testing import assert_bits
from helpers import gaussian

HEAD = "matrix,row,column,polarity,state\n"
CELLS = HEAD + "a,3,5,+,high\na,7,5,-,high\na,90,69,+,low\nb,1,1,+,low\n"
LINES = HEAD + "a,40,11,,dead_column\na,,12,,dead_column\na,60,50,,dead_row\na,61,,,dead_row\n"
ADC = {"bits": 8, "full_scale": {"rule": "lambda", "lambda_": 8.0}}


W, X = gaussian((70, 100), 1), gaussian((9, 100), 2)


def written(folder: Path, text: str, name: str = "map.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def matrix(path: Path | None, device: object = "pcm-hermes-2", name: str = "a", **tables: Any) -> CellMatrix:
    faults = {**tables.pop("faults", {}), **({"map": str(path)} if path else {})}
    data = {"device": device, "tile": {"rows": 32, "cols": 48}, "faults": faults, **tables}
    return CellMatrix(W, Hardware.load(data), seed=4, ordinal=3, t_s=3600.0, name=name)


def test_named_cells_are_stuck_and_all_others_are_what_they_were(tmp_path: Path) -> None:
    m, plain = matrix(written(tmp_path, CELLS)), matrix(None)
    now, before = m.cells().now, plain.cells().now
    named = np.zeros(now.shape, np.bool_)
    for plane, column, row, state in ((0, 5, 3, 20.7), (1, 5, 7, 20.7), (0, 69, 90, 0.0)):
        named[plane, column, row] = True
        assert now[plane, column, row] == np.float32(state)
    assert_bits(now[~named], before[~named])
    assert_bits(m.effective_weights(), m.cells().effective)
    assert_bits(matrix(tmp_path / "map.csv", name="c").effective_weights(), plain.effective_weights())


def test_the_map_wins_over_what_is_drawn(tmp_path: Path) -> None:
    m = matrix(written(tmp_path, HEAD + "a,9,9,+,low\n"), faults={"stuck_high_rate": 1.0})
    cells = m.cells().now[0]
    assert cells[9, 9] == 0
    assert np.count_nonzero(cells == np.float32(20.7)) == cells.size - 1
    assert_bits(m.effective_weights(), m.cells().effective)


@pytest.mark.parametrize("converters", [{}, {"dac": {}, "adc": ADC}])
def test_dead_lines_give_nothing_where_the_map_says(tmp_path: Path, converters: dict[str, Any]) -> None:
    """Column 11 in the row tile of row 40, column 12 in all; row 60 in the column tile of column 50, row 61 in all."""
    m = matrix(written(tmp_path, LINES), "ideal", **converters)
    expected = W.copy()
    expected[11, 32:64] = 0
    expected[12] = 0
    expected[48:, 60] = 0
    expected[:, 61] = 0
    y = tile_matmul(X, m.tiles())
    still = CellMatrix(expected, matrix(None, "ideal", **converters).hardware, 4, 3600.0, 3)
    if converters:  # the ranges of the inputs know nothing of dead rows
        tiles = m.tiles()
        assert_bits(y, tile_matmul_reference(X, tiles))
        assert np.abs(y - X @ expected.T).max() < 1.0
        assert (y[:, 12] == 0).all()
    else:
        np.testing.assert_allclose(y, tile_matmul(X, still.tiles()), rtol=1e-3, atol=2e-3)


def test_csv_and_hdf5_in_any_order_are_one_map(tmp_path: Path) -> None:
    rows = [*CELLS.splitlines()[1:], *LINES.splitlines()[1:]]
    one = fault_map.load(written(tmp_path, HEAD + "\n".join(rows)))
    turned = fault_map.load(written(tmp_path, HEAD + "\n".join(rows[::-1]) + "\n", "turned.csv"))
    with h5py.File(tmp_path / "map.h5", "w") as file:
        for name, faults in turned.matrices.items():
            for field, values in zip(fault_map.FIELDS, faults.T, strict=True):
                if field != "slice":
                    file[f"{name}/{field}"] = values[::-1]
    again = fault_map.load(tmp_path / "map.h5")
    assert one.sha256 == turned.sha256 == again.sha256
    assert fault_map.load(written(tmp_path, CELLS, "other.csv")).sha256 != one.sha256


def test_the_content_names_the_chip_not_the_path(tmp_path: Path) -> None:
    one, moved = (matrix(written(tmp_path, CELLS, name)).hardware for name in ("x.csv", "y.csv"))
    other = matrix(written(tmp_path, CELLS.replace("3,5", "4,5"), "z.csv")).hardware
    assert one.id == moved.id
    assert len({one.id, other.id, matrix(None).hardware.id}) == 3
    described = written(tmp_path, one.to_toml(), "chip.toml")
    assert Hardware.load(described) == one
    (tmp_path / "sub").mkdir()
    beside = written(tmp_path / "sub", 'device = "pcm-hermes-2"\n[faults]\nmap = "../x.csv"\n', "c.toml")
    assert Hardware.load(beside).faults.map.sha256 == one.faults.map.sha256  # type: ignore[union-attr]


def test_a_file_that_says_something_else_by_now_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, CELLS)
    m = matrix(path)
    path.write_text(CELLS + "a,8,8,+,low\n")
    os.utime(path, ns=(1, 1))
    with pytest.raises(BadInput, match="another map is another chip"):
        m.effective_weights()
    path.unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        matrix(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("row,column,polarity,state\n", "'matrix' is missing"),
        (HEAD.replace("state", "state,size"), "no column 'size'"),
        (HEAD + "a,3,5,*,high\n", "line 2: polarity"),
        (HEAD + "a,3,5,+,stuck\n", "'dead_row'"),
        (HEAD + "a,-3,5,+,low\n", "line 2: row"),
        (HEAD + "a,3.5,5,+,low\n", "whole numbers"),
        (HEAD + "a,99999999999999999999,5,+,low\n", "whole numbers"),
        (HEAD + ",3,5,+,low\n", "lies in a matrix"),
        (HEAD + "a,,5,+,low\n", "needs row"),
        (HEAD + "a,3,5,,low\n", "needs polarity"),
        (HEAD + "a,3,5,+,dead_row\n", "has no polarity"),
        (HEAD + "a,3,,,dead_column\n", "needs column"),
        (HEAD + "a,3,5,+,low,1\n", "line 2: got .'1'..*names fewer fields"),
        (HEAD.replace("row", "row,row") + "a,3,4,5,+,low\n", "column 'row' is there twice"),
        (HEAD + "a,3,5,+,low\na,3,5,+,high\n", "more than once"),
        (HEAD + "a,3,5,+,low\na,3,5,+,low\n", "more than once"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        fault_map.load(written(tmp_path, text))


def test_files_of_no_use_are_refused(tmp_path: Path) -> None:
    for name, said in (("map.txt", "kind is not known"), ("map.h5", "as HDF5")):
        with pytest.raises(BadInput, match=said):
            fault_map.load(written(tmp_path, "nothing", name))
    (tmp_path / "latin.csv").write_bytes(HEAD.encode() + b"\xff,1,1,+,low\n")
    with pytest.raises(BadInput, match="not UTF-8"):
        fault_map.load(tmp_path / "latin.csv")
    for k, (field, value) in enumerate(
        (("state", [9]), ("row", [[1]]), ("polarity", [0.5]), ("column", [1, 2]))
    ):
        with h5py.File(tmp_path / f"bad{k}.h5", "w") as file:
            good: dict[str, Any] = {"row": [1], "column": [1], "polarity": [0], "state": [0]}
            for name, numbers in {**good, field: value}.items():
                file[f"a/{name}"] = np.array(numbers)
        with pytest.raises(BadInput, match="as HDF5"):
            fault_map.load(tmp_path / f"bad{k}.h5")


def test_coordinates_outside_a_matrix_are_refused(tmp_path: Path) -> None:
    for k, line in enumerate(("a,100,5,+,low", "a,5,70,+,low", "a,,70,,dead_column")):
        with pytest.raises(BadInput, match="100 rows and 70 columns"):
            matrix(written(tmp_path, HEAD + line + "\n", f"{k}.csv")).effective_weights()
    sliced = matrix(written(tmp_path, HEAD.replace("\n", ",slice\n") + "a,5,5,+,low,1\n", "s.csv"))
    with pytest.raises(BadInput, match="slice of a"):
        sliced.effective_weights()
    with pytest.raises(BadInput, match="acts on the weight itself"):
        matrix(written(tmp_path, CELLS), "gaussian")


def test_names_that_the_model_does_not_have_are_refused(tmp_path: Path) -> None:
    found = fault_map.load(written(tmp_path, CELLS))
    found.check_names({"a", "b", "c"})
    with pytest.raises(BadInput, match="no such matrix"):
        found.check_names({"a", "bb"})


def test_slices_have_faults_of_their_own(tmp_path: Path) -> None:
    text = HEAD.replace("\n", ",slice\n") + "a,5,6,+,high,1\n"
    weights = {"bits": 4, "cell_bits": 1}
    m = matrix(written(tmp_path, text), "ideal", weights=weights)
    plain = matrix(None, "ideal", weights=weights)
    for k, (array, other) in enumerate(zip(m.arrays, plain.arrays, strict=True)):
        same = array.reference().now == other.reference().now
        assert same.sum() >= same.size - 1
        assert k == 1 or same.all()
    assert m.arrays[1].reference().now[0, 6, 5] == np.float32(25.0)


@pytest.mark.parametrize("subtract", ["analog", "digital"])
def test_a_slice_has_dead_columns_of_its_own(tmp_path: Path, subtract: str) -> None:
    """Its converters give nothing, those of the other slices what they gave; a dead row is dead for all."""
    weights = {"bits": 7, "cell_bits": 2, "subtract": subtract}
    tables: dict[str, Any] = {"weights": weights, "dac": {}, "adc": ADC}
    columns = 2 if subtract == "digital" else 1
    path = written(tmp_path, HEAD.replace("\n", ",slice\n") + "a,,6,,dead_column,1\na,9,,,dead_row,2\n")
    tiles = matrix(path, "ideal", **tables).tiles()
    plain = matrix(None, "ideal", **tables).tiles()
    for part, (found, other) in enumerate(zip((tiles, *tiles.parts), (plain, *plain.parts), strict=True)):
        alive = np.ones(len(W), np.bool_)
        alive[6] = part // columns != 1
        assert_bits(found.scale[:, alive], other.scale[:, alive])
        assert (found.scale[:, ~alive] == 0).all()
        high, low = found.planes()[0]
        assert (256 * high[:, 9].astype(np.int32) + low[:, 9] + 128 == 0).all()
    y, expected = tile_matmul(X, tiles), W.copy()
    assert_bits(y, tile_matmul_reference(X, tiles))
    expected[:, 9] = 0
    assert np.abs(y - X @ expected.T)[:, 6].max() > 3 * np.abs(np.delete(y - X @ expected.T, 6, axis=1)).max()


@pytest.mark.parametrize(
    "converters", [{}, {"weights": {"bits": 7, "cell_bits": 2, "slice_sum": "analog"}, "adc": ADC}]
)
def test_slices_that_are_converted_together_die_together(tmp_path: Path, converters: dict[str, Any]) -> None:
    path = written(tmp_path, HEAD.replace("\n", ",slice\n") + "a,,6,,dead_column,1\n")
    tables = {"weights": {"bits": 7, "cell_bits": 2}, "dac": {}, **converters}
    y = tile_matmul(X, matrix(path, "ideal", **tables).tiles())
    assert (y[:, 6] == 0).all()
    assert (y[:, 7] != 0).any()


def test_a_copy_has_dead_rows_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD.replace("\n", ",slice\n") + "a,9,,,dead_row,1\na,,6,,dead_column,1\n")
    tables: dict[str, Any] = {"weights": {"copies": 2}, "dac": {}, "adc": ADC}
    found, plain = (matrix(where, "ideal", **tables).tiles() for where in (path, None))
    assert found.panels is not None
    assert plain.panels is not None
    assert_bits(found.panels, plain.panels)
    assert_bits(found.scale, plain.scale)
    high, low = found.parts[0].planes()[0]
    assert (256 * high[:, 9].astype(np.int32) + low[:, 9] + 128 == 0).all()
    assert (found.parts[0].scale[:, 6] == 0).all()


def test_spare_columns_may_be_named(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + "a,5,71,+,high\na,60,72,,dead_row\na,,73,,dead_column\n")
    hardware = matrix(path, repair={"spare_columns": 2}).hardware
    mapped = mapped_faults(hardware, tile_map(100, 70, hardware.tile), "a")
    assert mapped is not None
    assert mapped.dead_columns()[:, 73].all()
    assert mapped.dead_rows()[:, 60].tolist() == [False, True]
    listed, ends = mapped.cells(np.array([70, 71, 0], np.uint32), 0)
    assert listed.tolist() == [[5, 0, 1]]
    assert ends.tolist() == [0, 0, 1, 1]


def test_a_chip_is_programmed_with_its_map(tiny_weights: Path, tmp_path: Path) -> None:
    opened = WeightFile(tiny_weights)
    name = opened.matrices[0].name
    table = {"device": "pcm-hermes-2", "tile": {"rows": 32, "cols": 32}}
    path = written(tmp_path, HEAD + f"{name},3,4,+,high\n")
    chip = program(opened, 3, {**table, "faults": {"map": str(path)}})
    plain = program(opened, 3, table)
    assert chip.id != plain.id
    changed = chip.at(60.0).matrix(name).cells().now != plain.at(60.0).matrix(name).cells().now
    assert np.argwhere(changed).tolist() == [[0, 4, 3]]
    for line, said in ((f"{name}x,3,4,+,high", "no such matrix"), (f"{name},99999,4,+,high", "rows and")):
        wrong = {**table, "faults": {"map": str(written(tmp_path, HEAD + line + "\n", f"{len(line)}.csv"))}}
        with pytest.raises(BadInput, match=said):
            program(opened, 3, wrong)
