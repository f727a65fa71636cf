"""How do the simulators that pip can install compare: the same layers, the same settings, the same run?

    python -m benchmarks.peers [--json] [--venv DIR] [--rounds N] [--build]

Rivals: aihwkit and aihwkit-lightning, in a virtual environment of their own that this command makes and reuses. Each
simulator's product is timed against float32 linear in its own process, in turn, and the simulators take turns too.
Goals: those of benchmarks.tile_product, at least as fast as every peer, and programming and drift in an eighth of
aihwkit's time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any, Protocol

import numpy as np

from aimc_sim.chip.matrix import CellMatrix
from aimc_sim.errors import BadInput
from aimc_sim.execute import tile_matmul
from aimc_sim.hardware import Hardware
from aimc_sim.randomness import row_ids
from benchmarks import tile_product
from benchmarks.harness import Row, command_line, machine, seconds, show
from benchmarks.peers_install import Environment, default_folder, environment
from benchmarks.peers_worker import DAY_S, MAKERS, peak_mib, timed

THREADS = 2
SIZE, TILE_ROWS = 2048, 512
CASES = [(batch, noise) for noise in (False, True) for batch in (512, 128, 32, 1)]
LAYER = 4096  # programmed and drifted: 64 MiB of float32
ROUNDS, BUDGET_S, LIMIT_S = 5, 0.5, 600.0
BUSY = 0.5  # load at which a process of THREADS threads no longer has the machine to itself
FASTER = 8.0  # than aihwkit, programming and drift one after the other
SMALLEST = {
    "SIZE": 64,
    "CASES": [(3, False), (3, True)],
    "LAYER": 64,
    "TILE_ROWS": 32,
    "ROUNDS": 1,
    "BUDGET_S": 0.0,
}
OURS = "aimc-sim"
SIMULATORS = (OURS, *MAKERS)
INSTEAD = {  # of read noise from every cell, which the others have
    "aihwkit, Torch tile": "one σ for all outputs",
    "aihwkit-lightning": "one σ, training mode",
}
HINTS = {"aihwkit, C++ tile": "its wheel is made for another torch: --build compiles it for this one"}
Found = list[dict[str, Any]]


class Contestant(Protocol):
    """A simulator; every answer is a dict, with ``failed`` where it has none."""

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """One request of `peers_worker.Worker`."""


class Peer:
    """A process in the peers' environment, which works only while it is asked."""

    def __init__(self, command: Sequence[str | Path], limit_s: float = LIMIT_S) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(THREADS))
        self.limit_s = limit_s
        self.process = subprocess.Popen(
            [*command],
            cwd=Path(__file__).parents[1],
            env={**os.environ, **threads, "PYTHONWARNINGS": "ignore"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """One line there, one back. A process that dies or takes longer than the limit has failed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        watchdog = Timer(self.limit_s, self.process.kill)
        watchdog.start()
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            return dict(json.loads(self.process.stdout.readline()))
        except (OSError, ValueError):
            return {"failed": f"its process ended with code {self.process.wait()}"}
        finally:
            watchdog.cancel()

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


class Ours:
    """This simulator, in this process."""

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """As `peers_worker.Worker`."""
        return dict(getattr(self, do)(**request))

    def prepare(self, maker: str, w: str, x: str, tile_rows: int, read_noise: bool) -> dict[str, Any]:
        """The layer of benchmarks.tile_product, with its relative error against the digital one."""
        import torch

        self.x = np.load(x)
        tiles = tile_product.layer(self.x.shape[1], np.load(w).shape[0], tile_rows, read_noise)
        self.tiles, self.ids = tiles, row_ids(np.arange(len(self.x)), 0)
        self.tw, self.tx = torch.from_numpy(np.load(w)), torch.from_numpy(self.x)
        exact = torch.nn.functional.linear(self.tx, self.tw).numpy()
        y = tile_matmul(self.x, tiles, self.ids)
        return {"error": float(np.linalg.norm(y - exact) / np.linalg.norm(exact))}

    def round(self, budget_s: float) -> dict[str, Any]:
        """The layer against float32 linear, in turn."""
        import torch

        with torch.inference_mode():
            pair = timed(
                lambda: tile_matmul(self.x, self.tiles, self.ids),
                lambda: torch.nn.functional.linear(self.tx, self.tw),
                budget_s,
            )
        return {"a_s": pair.a_s, "b_s": pair.b_s, "ratio": pair.ratio}

    def program(self, w: str, scratch: bool) -> dict[str, Any]:
        """Programming alone, and programming with a day of drift and 1/f noise, of the device that aihwkit has.

        Seconds each; or MiB of scratch each, beside the weights that come out.
        """
        weights = np.load(w)
        device = {"base": "pcm-ibm2019"}
        steps = {"programming": (0.0, {**device, "flicker": False}), "both": (DAY_S, device)}
        answer: dict[str, Any] = {}
        for name, (t_s, table) in steps.items():
            hardware = Hardware.load({"device": table, "tile": {"rows": TILE_ROWS, "cols": TILE_ROWS}})
            matrix = CellMatrix(weights, hardware, seed=1, t_s=t_s)
            if scratch:
                found = peak_mib(matrix.effective_weights)
                answer[name] = None if found is None else max(0.0, found[1] - weights.nbytes / 2**20)
            else:
                answer[name] = seconds(matrix.effective_weights)
        return answer


@dataclass(frozen=True)
class Inputs:
    """Where the arrays lie that every simulator reads: w (N, K) and, by batch, x (B, K), float32, standard normal."""

    folder: Path

    def file(self, rows: int, cols: int, seed: int) -> str:
        """Path of a standard normal array, made on first use."""
        path = self.folder / f"{rows}x{cols}-{seed}.npy"
        if not path.exists():
            np.save(path, tile_product.gaussian((rows, cols), seed))
        return str(path)


@contextmanager
def contestants(peers: Environment) -> Iterator[dict[str, Contestant]]:
    """Ours, and one process for each way of a peer; those not installed are left out."""
    with ExitStack() as stack:
        found: dict[str, Contestant] = {OURS: Ours()}
        for name in MAKERS:
            if name.split(",")[0] in peers.versions:
                peer = Peer([peers.python, "-m", "benchmarks.peers_worker", str(THREADS)])
                stack.callback(peer.close)
                found[name] = peer
        yield found


def products(field: Mapping[str, Contestant], inputs: Inputs, rounds: int) -> Found:
    """Every case: one entry a simulator, with the medians over the rounds."""
    found = []
    for batch, read_noise in CASES:
        arrays = {"w": inputs.file(SIZE, SIZE, 1), "x": inputs.file(batch, SIZE, 2)}
        entries: dict[str, dict[str, Any]] = {}
        for name, one in field.items():
            ready = one.ask(do="prepare", maker=name, tile_rows=TILE_ROWS, read_noise=read_noise, **arrays)
            entries[name] = {"batch": batch, "k": SIZE, "n": SIZE, "rows": TILE_ROWS, "read_noise": read_noise,
                             "simulator": name, "ratio": None, **ready}  # fmt: skip
        times: dict[str, Found] = {name: [] for name in field}
        for _ in range(rounds):
            for name, one in field.items():
                if "failed" not in entries[name]:
                    answer = one.ask(do="round", budget_s=BUDGET_S)
                    times[name].append(answer)
                    entries[name] |= {key: answer[key] for key in ("failed",) if key in answer}
        for name, entry in entries.items():
            if "failed" not in entry:
                keys = {"ratio": "ratio", "ms": "a_s", "linear_ms": "b_s"}
                medians = {key: statistics.median(t[of] for t in times[name]) for key, of in keys.items()}
                entry |= {key: m * (1e3 if key.endswith("ms") else 1) for key, m in medians.items()}
            found.append(entry)
    return found


def programming(field: Mapping[str, Contestant], inputs: Inputs, rounds: int) -> dict[str, Any]:
    """Seconds a step (medians) and MiB of scratch, ours and aihwkit's, or aihwkit's reason."""
    rival = field.get("aihwkit, Torch tile")
    if rival is None:
        return {"failed": "not installed"}
    w = inputs.file(LAYER, LAYER, 3)
    sides = {"ours": field[OURS], "aihwkit": rival}
    answers: dict[str, Found] = {name: [] for name in sides}
    for _ in range(rounds + 1):  # the first round warms up
        for name, one in sides.items():
            answers[name].append(one.ask(do="program", w=w, scratch=False))
    result: dict[str, Any] = {}
    for name, one in sides.items():
        for answer in answers[name]:
            if "failed" in answer:
                return answer
        kept = answers[name][1:]
        result[name] = {step: statistics.median(a[step] for a in kept) for step in kept[0]}
        result[f"{name} scratch"] = one.ask(do="program", w=w, scratch=True)
    return result


def product_rows(found: Found, peers: Environment) -> list[Row]:
    """The table of products: each simulator's ratio, how far ahead of the fastest peer we are, and who did not run."""
    goals = {
        (batch, noise): goal
        for batch, k, n, rows, noise, goal in tile_product.CASES
        if (k, n, rows) == (SIZE, SIZE, TILE_ROWS)
    }
    rows = []
    for batch, noise in CASES:
        here = {e["simulator"]: e for e in found if (e["batch"], e["read_noise"]) == (batch, noise)}
        ratios = {name: here[name]["ratio"] for name in SIMULATORS if here.get(name, {}).get("ratio")}
        for name, ratio in ratios.items():
            title = f"{batch} × {SIZE} × {SIZE}{', read noise' * noise}: {OURS}"
            if name != OURS:
                title = f"    {titled(name, peers)}" + (
                    f" ({INSTEAD[name]})" if noise and name in INSTEAD else ""
                )
            rows.append(
                Row(title, ratio, "of float32 linear", goals.get((batch, noise)) if name == OURS else None)
            )
        theirs = [ratio for name, ratio in ratios.items() if name != OURS]
        if theirs and OURS in ratios:
            rows.append(
                Row("    fastest of them", min(theirs) / ratios[OURS], "times ours", 1.0, at_least=True)
            )
    return rows


def absent_rows(found: Found, peers: Environment) -> list[Row]:
    """Who is not in the table, and why: a row without a figure."""
    rows = [Row(name, float("nan"), f"not installable: {why}") for name, why in peers.reasons.items()]
    for name in SIMULATORS:
        entries = [entry for entry in found if entry["simulator"] == name]
        for entry in entries:
            if "failed" in entry:
                everywhere = all("failed" in other for other in entries)
                case = "" if everywhere else f" ({entry['batch']}{', read noise' * entry['read_noise']})"
                hint = f"; {HINTS[name]}" if name in HINTS else ""
                rows.append(
                    Row(f"{titled(name, peers)}{case}", float("nan"), f"did not run: {entry['failed']}{hint}")
                )
                if everywhere:
                    break
    return rows


def programming_rows(result: dict[str, Any], peers: Environment) -> list[Row]:
    """Rates, scratch and their ratios; `aihwkit` draws the drift exponents while programming, we draw all at once."""
    aihwkit, millions = titled("aihwkit", peers), LAYER * LAYER / 1e6
    if "failed" in result:
        return [Row(f"programming and drift, {aihwkit}", float("nan"), f"not measured: {result['failed']}")]
    ours, theirs = result["ours"], result["aihwkit"]
    both = theirs["programming"] + theirs["drift"]
    size = f"{LAYER} × {LAYER}"
    rows = [
        Row(f"{size}, programming alone: {OURS}", millions / ours["programming"], "M weights/s"),
        Row(f"    {aihwkit}", millions / theirs["programming"], "M weights/s"),
        Row("    faster", theirs["programming"] / ours["programming"], "times"),
        Row(
            f"{size}, drift and 1/f noise: {OURS}, programming included",
            millions / ours["both"],
            "M weights/s",
        ),
        Row(f"    {aihwkit}, from programmed weights", millions / theirs["drift"], "M weights/s"),
        Row("    faster", theirs["drift"] / ours["both"], "times"),
        Row(f"{size}, one step after the other: {OURS}", millions / ours["both"], "M weights/s"),
        Row(f"    {aihwkit}", millions / both, "M weights/s"),
        Row("    faster", both / ours["both"], "times", FASTER, at_least=True),
    ]
    layer = LAYER * LAYER * 4 / 2**20
    tile = TILE_ROWS * TILE_ROWS * 4 / 2**20
    for side, name in (("ours", OURS), ("aihwkit", aihwkit)):
        scratch = [mib for mib in result[f"{side} scratch"].values() if isinstance(mib, float)]
        if scratch:
            title = f"scratch for this layer of {layer:g} MiB: {name}" if side == "ours" else f"    {name}"
            rows.append(Row(title, max(scratch), "MiB", tile if side == "ours" else None))
    return rows


def titled(name: str, peers: Environment) -> str:
    """A simulator's name with its version."""
    package, _, way = name.partition(",")
    return (
        package + (f" {peers.versions[package]}" if package in peers.versions else "") + (way and f",{way}")
    )


def measure(peers: Environment, rounds: int = ROUNDS) -> tuple[list[Row], dict[str, Any]]:
    """The table, and the same as JSON."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        with tempfile.TemporaryDirectory(prefix="aimc-peers-") as folder, contestants(peers) as field:
            found = products(field, Inputs(Path(folder)), rounds)
            programmed = programming(field, Inputs(Path(folder)), max(1, rounds - 2))
    finally:
        torch.set_num_threads(before)
    rows = [*product_rows(found, peers), *programming_rows(programmed, peers), *absent_rows(found, peers)]
    environment_of = {"python": sys.version.split()[0], "torch": peers.torch, **peers.versions}
    data = {"peers": environment_of, "reasons": peers.reasons, "products": found, "programming": programmed}
    return rows, data


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    question = (__doc__ or "").splitlines()[0]
    parser = command_line(question, globals(), arguments)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--venv", type=Path, help="folder of the peers' environment; default: below the cache folder"
    )
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="rounds of the simulators; default: %(default)s"
    )
    parser.add_argument(
        "--build", action="store_true", help="compile the newest aihwkit, once: needs a C++ compiler"
    )
    options = parser.parse_args(arguments)
    folder = (options.venv or default_folder()).expanduser().absolute()
    try:
        if options.rounds < 1:
            raise BadInput("--rounds", got=options.rounds, why="a median needs a value", do="give 1 or more")
        print(f"The peers' environment: {folder}", file=sys.stderr)
        peers = environment(folder, options.build, install=not options.smoke)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > BUSY:
        print(
            f"This machine is busy (load {os.getloadavg()[0]:.1f}): the figures will be too high.",
            file=sys.stderr,
        )
    rows, data = measure(peers, options.rounds)
    if options.json:
        print(json.dumps(data))
    else:
        print(machine())
        print(f"Peers: torch {peers.torch}, {THREADS} threads; {folder}")
        show(question, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
