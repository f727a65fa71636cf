"""Where every random number comes from: one 64-bit seed and an injective 128-bit counter.

Philox4x32-10 maps (counter, key) to four 32-bit words. The key is the seed. The counter names the thing
that is random, so equal things draw equal numbers whoever asks, in whatever order:

    word 3   stream (6 bits) | matrix ordinal (20 bits) | device plane (6 bits)
    word 2   event, high 32 bits
    word 1   cells: column of the matrix;   per product: event, low 32 bits
    word 0   cells: row block;              per product: row tile (12 bits) | column block (20 bits)

For a *cell* (stream PROGRAMMING, DRIFT, FLICKER, TRAINING) the event is the programming cycle, the session, or the
training step (32 bits). For noise that is fresh in every *product* (stream READ) the event is the 64-bit row id:
sequence (31 bits), position (24 bits), draw (8 bits).

One call serves four cells. Row r of a column lies in row block ``(r >> 6) << 4 | (r & 15)`` and takes lane
``(r >> 4) & 3``: sixteen neighbours share a lane, so that vector units fill whole registers.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

from aimc_sim.errors import BadInput

ORDINAL_BITS, PLANE_BITS = 20, 6
MAX_ROWS = 1 << 32
MAX_ROW_TILES = 1 << 12  # bits of word 0 per product


class Stream(IntEnum):
    """A stream says what a random number is for. A number once given is never reused for another purpose."""

    PROGRAMMING = 1
    DRIFT = 2
    FLICKER = 3
    READ = 4
    TRAINING = 5
    DIE = 6
    PERIPHERY = 7
    FAULT = 8
    TEXT = 9  # sampled text: word 2 the sequence, word 0 the position
    CALIBRATION = 11  # inputs of drift compensation; the key is 0, so that every chip is given the same
    ROTATION = 10  # signs of a Hadamard rotation; the key is the transform's, not a chip's


def key_of(seed: int) -> npt.NDArray[np.uint32]:
    """Return the Philox key of a seed: (2,) uint32, low word first. Raises BadInput outside [0, 2^64)."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= int(seed) < 1 << 64:
        raise BadInput(
            "seed",
            got=seed,
            why="a seed is one unsigned 64-bit integer",
            do="choose a whole number from 0 to 18446744073709551615",
        )
    return np.array([int(seed) & 0xFFFFFFFF, int(seed) >> 32], dtype=np.uint32)


def site_word(stream: Stream, ordinal: int, plane: int = 0) -> int:
    """Return counter word 3. Raises BadInput when a coordinate needs more bits than it has."""
    for what, value, bits in (("matrix ordinal", ordinal, ORDINAL_BITS), ("device plane", plane, PLANE_BITS)):
        if not 0 <= value < 1 << bits:
            raise BadInput(
                what, got=value, why=f"the counter has {bits} bits for it", do=f"keep it below {1 << bits}"
            )
    return int(stream) << (ORDINAL_BITS + PLANE_BITS) | ordinal << PLANE_BITS | plane


def event_word(event: int, what: str = "session") -> int:
    """Return counter word 2 of a cell: a programming cycle or a session, 32 bits."""
    if isinstance(event, bool) or not isinstance(event, (int, np.integer)) or not 0 <= int(event) < 1 << 32:
        raise BadInput(
            what, got=event, why="the counter has 32 bits for it", do=f"choose 0 to {(1 << 32) - 1}"
        )
    return int(event)


def row_ids(sequence: npt.ArrayLike, position: npt.ArrayLike, draw: int = 0) -> npt.NDArray[np.int64]:
    """Return the names of rows, int64, broadcast: sequence · 2³² + position · 2⁸ + draw.
    Raises BadInput outside their bits.
    """
    parts = []
    for what, value, bits in (("sequence id", sequence, 31), ("position", position, 24), ("draw", draw, 8)):
        array = np.asarray(value, dtype=np.int64)
        if array.size and (array.min() < 0 or array.max() >= 1 << bits):
            raise BadInput(
                what,
                got=int(array.max() if array.min() >= 0 else array.min()),
                why=f"a row id has {bits} bits for it",
                do=f"keep it from 0 to {(1 << bits) - 1}",
            )
        parts.append(array)
    return np.asarray(parts[0] << 32 | parts[1] << 8 | parts[2])


def cell_counters(
    rows: npt.ArrayLike, column: int, stream: Stream, ordinal: int, plane: int = 0, event: int = 0
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.intp]]:
    """Return the counters (n, 4) uint32 and lanes (n,) of the cells at ``rows`` of one matrix column."""
    r = np.asarray(rows, dtype=np.int64)
    counter = np.empty((r.size, 4), np.uint32)
    counter[:, 0] = (r >> 6) << 4 | (r & 15)
    counter[:, 1] = column
    counter[:, 2] = event_word(event)
    counter[:, 3] = site_word(stream, ordinal, plane)
    return counter, ((r >> 4) & 3).astype(np.intp)
