"""Fault maps: which cells are stuck and which lines are dead on one chip, by their coordinates, from a file.

CSV with a header, one fault a row:

    matrix,row,column,polarity,state
    model.layers.0.mlp.up_proj,17,203,+,high
    model.layers.0.mlp.up_proj,18,7,-,low
    model.layers.0.mlp.up_proj,,99,,dead_column
    model.layers.0.mlp.up_proj,300,,,dead_row

``row`` is an input and ``column`` an output of the matrix, from 0, as they lie without any permutation. ``low``: a
cell is stuck at g_min, ``high``: at g_max. ``dead_column``: its ADC gives nothing, in the tile of ``row``, or without a
row in all its tiles; ``dead_row``: it passes no input in the tile of ``column``, or without one in all. A column
``slice`` (0 if absent) names the array of a sliced weight; slices that are not converted one by one share the dead
columns of all, and slices always share their rows. Slice k of copy c is c·slices + k, and copies share nothing. With
spare columns, spare s of column tile c is column N + c·spares + s of N outputs; with offset columns, the one of column
tile c is polarity - of column c.

HDF5: a group a matrix with datasets ``row``, ``column``, ``polarity`` (0: +, 1: -), ``state`` (0: low, 1: high,
2: dead_column, 3: dead_row) and optionally ``slice``, whole numbers of one length; -1 stands for an empty field.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from aimc_sim.aliases import I64
from aimc_sim.errors import BadInput
from aimc_sim.files import reading
from aimc_sim.spec import nearest

FIELDS = ("row", "column", "polarity", "slice", "state")
ROW, COLUMN, POLARITY, SLICE, STATE = range(5)
STATES = ("low", "high", "dead_column", "dead_row")
LOW, HIGH, DEAD_COLUMN, DEAD_ROW = range(4)
HEADER = ("matrix", "row", "column", "polarity", "state")
POLARITIES = {"+": 0, "-": 1, "": -1}
_LARGEST = 2**31


@dataclass(frozen=True)
class FaultMap:
    """A fault map holds the faults of each matrix, (faults, 5) int64 with the columns of ``FIELDS``, sorted,
    -1 where a field is empty.
    """

    path: str
    matrices: Mapping[str, I64]

    @property
    def sha256(self) -> str:
        """Return the hex digest of the faults, whatever file and order they came in."""
        digest = hashlib.sha256()
        for name in sorted(self.matrices):
            digest.update(f"{name} {len(self.matrices[name])} ".encode())
            digest.update(np.ascontiguousarray(self.matrices[name], "<i8").tobytes())
        return digest.hexdigest()

    def of(self, name: str, rows: int, columns: int, lines: int, slices: int = 1) -> I64:
        """Return the faults of a matrix of ``rows`` inputs and ``columns`` outputs; ``lines``: its columns and spare
        columns.

        Raises BadInput for a fault outside of it.
        """
        faults = self.matrices.get(name, np.empty((0, 5), np.int64))
        for field, limit in ((ROW, rows), (COLUMN, lines), (SLICE, slices)):
            if (faults[:, field] >= limit).any():
                spares = f" and {lines - columns} spare columns" if lines > columns else ""
                raise BadInput(
                    f"{self.path}: {FIELDS[field]} of {name}",
                    got=int(faults[:, field].max()),
                    why=f"the matrix has {rows} rows and {columns} columns{spares}, in {slices} slices, from 0",
                    do="correct the coordinate; a row is an input, a column an output",
                )
        return faults

    def check_names(self, known: Mapping[str, object] | set[str]) -> None:
        """Raise BadInput for a matrix that is not among the known names."""
        for name in self.matrices:
            if name not in known:
                raise BadInput(
                    f"{self.path}: matrix",
                    got=name,
                    why="the model has no such matrix",
                    do=nearest(name, known),
                )


def load(path: str | Path) -> FaultMap:
    """Return the fault map in a ``.csv``, ``.h5`` or ``.hdf5`` file.
    Raises BadInput, with the line, for what is wrong.
    """
    path = Path(path)
    with reading(path, "fault map"):
        stat = path.stat()
    return _load(path, stat.st_mtime_ns, stat.st_size)


def recall(source: str, sha256: str) -> FaultMap:
    """Return the map that a hardware names. Raises BadInput where the file says something else by now."""
    fault_map = load(source)
    if fault_map.sha256 != sha256:
        raise BadInput(
            "fault map",
            got=source,
            why="its faults are not those that the hardware was described with",
            do="restore the file, or describe the hardware again: another map is another chip",
        )
    return fault_map


@lru_cache(maxsize=8)
def _load(path: Path, changed_ns: int, size: int) -> FaultMap:
    readers = {".csv": _read_csv, ".h5": _read_hdf5, ".hdf5": _read_hdf5}
    if path.suffix not in readers:
        raise BadInput(
            "fault map", got=str(path), why="its kind is not known", do="name it .csv, .h5 or .hdf5"
        )
    matrices = {}
    for name, (faults, lines) in readers[path.suffix](path).items():
        _check(path, name, faults, lines)
        matrices[name] = faults[np.lexsort(faults.T[::-1])]
    return FaultMap(str(path), matrices)


def _check(path: Path, name: str, faults: I64, lines: I64) -> None:
    """Each fault has the coordinates that it needs and no others, and none is given twice."""
    state = faults[:, STATE]
    cell = state <= HIGH
    needs = {
        "row": (cell | (state == DEAD_ROW), cell | (state >= DEAD_COLUMN), faults[:, ROW] >= 0),
        "column": (cell | (state == DEAD_COLUMN), cell | (state >= DEAD_COLUMN), faults[:, COLUMN] >= 0),
        "polarity": (cell, cell, faults[:, POLARITY] >= 0),
    }
    for field, (needed, allowed, given) in needs.items():
        wrong = (needed & ~given) | (given & ~allowed)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            word = STATES[state[at]]
            raise BadInput(
                f"{path}, {name}, entry {int(lines[at])}: {field}",
                got=None if needed[at] else int(faults[at, FIELDS.index(field)]),
                why=f"a fault of state {word!r} {'needs' if needed[at] else 'has no'} {field}",
                do="cells need row, column and polarity; dead_column a column, dead_row a row",
            )
    sites = faults[:, :STATE].copy()
    sites = np.column_stack([sites, np.where(cell, 0, state)])
    _, first, count = np.unique(sites, axis=0, return_index=True, return_counts=True)
    if (count > 1).any():
        at = int(first[np.flatnonzero(count > 1)[0]])
        raise BadInput(
            f"{path}, {name}",
            got=dict(zip(FIELDS[:4], faults[at, :4].tolist(), strict=True)),
            why="this fault is given more than once",
            do="keep one of the entries",
        )


def _read_csv(path: Path) -> dict[str, tuple[I64, I64]]:
    entries: dict[str, list[tuple[int, ...]]] = {}
    with (
        reading(path, "fault map", kind="a CSV file", mend="save it as UTF-8 with commas"),
        path.open(newline="", encoding="utf-8-sig") as file,
    ):
        reader = csv.DictReader(file)
        header = reader.fieldnames or []
        missing = [field for field in HEADER if field not in header]
        unknown = [field for field in header if field not in (*HEADER, "slice")]
        twice = [field for field in header if list(header).count(field) > 1]
        if missing or unknown or twice:
            why = f"column {missing[0]!r} is missing" if missing else ""
            why = why or (
                f"there is no column {unknown[0]!r}" if unknown else f"column {twice[0]!r} is there twice"
            )
            raise BadInput(
                f"{path}: header",
                got=",".join(header),
                why=why,
                do=f"start the file with {','.join(HEADER)}, and slice if weights are sliced",
            )
        for line, row in enumerate(reader, start=2):
            where = f"{path}, line {line}"
            if None in row:  # what lies beyond the header
                raise BadInput(
                    where,
                    got=row[None],
                    why="the header names fewer fields",
                    do="remove what is too much",
                )
            name, fault = _fault(where, row)
            entries.setdefault(name, []).append((*fault, line))
    tables = {name: np.array(found, np.int64) for name, found in entries.items()}
    return {name: (table[:, :5], table[:, 5]) for name, table in tables.items()}


def _fault(where: str, row: Mapping[str, str | None]) -> tuple[str, tuple[int, ...]]:
    """Return the matrix and the five numbers of a line of CSV."""
    text = {field: (row.get(field) or "").strip() for field in (*HEADER, "slice")}
    if not text["matrix"]:
        raise BadInput(f"{where}: matrix", got="", why="every fault lies in a matrix", do="write its name")
    for field, known in (("polarity", POLARITIES), ("state", STATES)):
        if text[field] not in known:
            raise BadInput(
                f"{where}: {field}",
                got=text[field],
                why="it is not a word that a fault map has for it",
                do=f"write one of {', '.join(repr(word) for word in known)}",
            )
    numbers = {}
    for field, empty in (("row", -1), ("column", -1), ("slice", 0)):
        if text[field] and not (
            text[field].isascii() and text[field].isdigit() and int(text[field]) < _LARGEST
        ):
            raise BadInput(
                f"{where}: {field}",
                got=text[field],
                why="coordinates are whole numbers from 0",
                do="correct it",
            )
        numbers[field] = int(text[field]) if text[field] else empty
    fault = (numbers["row"], numbers["column"], POLARITIES[text["polarity"]], numbers["slice"])
    return text["matrix"], (*fault, STATES.index(text["state"]))


def _read_hdf5(path: Path) -> dict[str, tuple[I64, I64]]:
    import h5py

    tables = {}
    do = "see aimc_sim.hardware.fault_map"
    with (
        reading(path, "fault map", kind="one as HDF5", mend=do, errors=(OSError, ValueError)),
        h5py.File(path, "r") as file,
    ):
        for name, group in file.items():
            if not isinstance(group, h5py.Group):
                raise ValueError(f"{name!r} is not a group")
            columns: list[I64] = []
            for field in FIELDS:
                if field == "slice" and field not in group:
                    columns.append(np.zeros(columns[0].shape, np.int64))
                    continue
                data = group.get(field)
                if not isinstance(data, h5py.Dataset) or data.ndim != 1 or data.dtype.kind not in "iu":
                    raise ValueError(f"{name}/{field} is not a list of whole numbers")
                columns.append(data[()].astype(np.int64))
            if len({column.size for column in columns}) > 1:
                raise ValueError(f"the datasets of {name} have different lengths")
            table = np.column_stack(columns)
            if (table < -1).any() or (table[:, STATE] < 0).any() or (table[:, SLICE] < 0).any():
                raise ValueError(f"{name} holds numbers below what they may be")
            if (table[:, STATE] > DEAD_ROW).any() or (table[:, POLARITY] > 1).any():
                raise ValueError(f"{name} holds a state above 3 or a polarity above 1")
            if table.size:
                tables[name] = (table, np.arange(len(table)))
    return tables
