"""What each effect of a hardware costs, as one value that shows itself."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aimc_sim.aliases import Progress
from aimc_sim.attribution.report import document_of, write
from aimc_sim.attribution.run import run_study
from aimc_sim.attribution.study import Study, make_study
from aimc_sim.errors import BadInput, options_as_arguments
from aimc_sim.evaluate.text import file_text
from aimc_sim.hardware import Hardware
from aimc_sim.report.pages import prepare_folder
from aimc_sim.report.shown import Shown
from aimc_sim.report.words import db, fixed, percent, perplexity, places, rare
from aimc_sim.units import exact_duration, parse_duration
from aimc_sim.weightfile import WeightFile

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

BAR = 24  # characters of a bar's track
WIDE = 110  # columns of a console from which on bars are drawn


@dataclass(frozen=True, repr=False)
class Explanation(Shown):
    """An explanation says where the loss on a hardware comes from, as explain.json holds it; paths: files written.

    >>> import aimc_sim
    >>> explained = aimc_sim.explain("model.h5", seeds=1, tokens=64)
    >>> sorted(explained.to_dict())[:2]
    ['arithmetic', 'command']
    """

    document: dict[str, Any]
    paths: tuple[Path, ...] = ()

    @property
    def summary(self) -> str:
        """What costs most, and what an ideal part would win back."""
        return str(self.document["summary"])

    def to_dict(self) -> dict[str, Any]:
        """Return the content of explain.json as plain data."""
        return self.document

    def print_on(self, console: Console) -> None:
        """Print the waterfall, the ratios of signal to noise, what clips, the notes, and where the files are."""
        document, bar = self.document, console.width >= WIDE
        tables = {
            "KL from the digital model, nats per token, ± half of its 95 % interval over chips": _waterfall(
                document, bar
            ),
            "SNR of the products, dB: median over the matrices of a role, each effect alone and all": _ratios(
                document
            ),
        }
        clips = document["saturation"]
        if clips is not None:
            first = f"chip {clips['seed']}, first {clips['tokens']:,} tokens"
            tables[f"What clips with all effects on: {first}"] = _clips(clips["roles"], bar)
        console.print(self.summary)
        console.print()
        for title, table in tables.items():
            console.print(title, style="italic")
            console.print(table)
            console.print()
        for note in document["notes"]:
            console.print(f"note: {note}", style="dim")
        for path in reversed(self.paths):
            console.print(str(path), soft_wrap=True)


@options_as_arguments
def explain(
    weights: str | Path | WeightFile,
    *,
    hardware: Hardware | Mapping[str, Any] | str | Path | None = None,
    seeds: int = 3,
    time: str | float = "1d",
    tokens: int | None = None,
    text: str | Path | None = None,
    context: int | None = None,
    seed: int = 0,
    session: int = 0,
    batch: int | None = None,
    output: str | Path | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Show what each effect of a hardware costs, as a waterfall: `aimc-sim explain` as a function.

    weights: a weight file. hardware: a preset, a TOML file or tables, instead of the file's own. seeds: how many chips,
    the same for every set of effects. time: since programming, as "1d" or in seconds. tokens: of the text; of the
    calibration text 1,024 unless told. text: a file to score, not the calibration text; context: tokens a window of it.
    seed: of the first chip. session: the draw of the frozen 1/f noise. batch: windows a forward. output: a folder for
    explain.html, explain.json, effects.csv and matrices.csv. progress(stage, done, total) is called as work gets done.

    Raises BadInput, before anything runs, for a hardware without effects or a time outside the device's range.

    >>> import aimc_sim
    >>> explained = aimc_sim.explain("model.h5", seeds=1, time="1h", tokens=64)
    >>> "programming" in str(explained).lower()
    True
    """
    time_s = parse_duration(time)
    if context is not None and text is None:
        raise BadInput(
            "--context",
            got=context,
            why="the calibration text has windows of its own",
            do="leave it out, or give --text",
        )
    file = WeightFile.of(weights)
    study = make_study(
        file, file.hardware if hardware is None else Hardware.load(hardware), seeds=seeds, first_seed=seed,
        time_s=time_s, tokens=tokens, session=session, batch=batch,
        text=None if text is None else file_text(text, tokens), context_tokens=context,
    )  # fmt: skip
    folder = None if output is None else Path(output)
    if folder is not None:
        prepare_folder(folder)
    named = isinstance(hardware, (str, Path, type(None)))
    command = _command_line(file.path, study, hardware, text) if named else ""
    document = document_of(run_study(study, file, text_path=text, progress=progress), file, command)
    return Explanation(document, () if folder is None else write(document, folder))


def _command_line(file: Path, study: Study, hardware: object, text: str | Path | None) -> str:
    """Write the line that makes the same files again."""
    count = study.tokens if study.text is None else study.text.limit_tokens
    options = {
        "seeds": len(study.seeds),
        "time": exact_duration(study.time_s),
        "hardware": hardware,
        "text": text,
        "context": None if text is None else study.context,
        "tokens": count,
        "seed": study.seeds[0] or None,
        "session": study.session or None,
        "batch": study.batch,
    }
    words = [
        word for name, value in options.items() if value is not None for word in (f"--{name}", str(value))
    ]
    return shlex.join(["aimc-sim", "explain", str(file), *words, "-o", "OUT"])


def _table(
    columns: Sequence[str], left: Sequence[int] = (0,), without: Sequence[int] = ()
) -> tuple[Table, Any]:
    """Make an empty table, and what adds a row to it. left: columns of text; without: columns that are left out."""
    # late: rich takes a while to load, and results are computed without it
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        if index not in without:
            table.add_column(column, justify="left" if index in left else "right")

    def add(*cells: str, style: str = "") -> None:
        table.add_row(*(cell for index, cell in enumerate(cells) if index not in without), style=style)

    return table, add


def _waterfall(document: dict[str, Any], bar: bool) -> Table:
    """Fill the table of effects; ``bar``: with the waterfall drawn beside their names."""
    kl, effects = document["kl_nats"], document["effects"]
    decimals = places(kl["total"]["mean"])
    columns = ("effect", "", "step", "share", "perplexity", "alone", "won back")
    table, add = _table(columns, (0, 1), () if bar else (1,))

    def error(figure: dict[str, Any]) -> str:
        return _with_error(figure, decimals)

    before = kl["start"]["mean"]
    top = max([kl["total"]["mean"], *(effect["kl_nats"]["total"]["mean"] for effect in effects)])
    add("exact tiles", "", error(kl["start"]), "", perplexity(document["perplexity"]["digital"]), "", "")
    for effect in effects:
        part = effect["kl_nats"]
        after = part["total"]["mean"]
        add(
            effect["name"], _bar(before, after, top), error(part["step"]), percent(effect["share"]),
            perplexity(effect["perplexity"]), error(part["alone"]), error(part["won_back"]),
        )  # fmt: skip
        before = after
    ends = (error(kl["total"]), "", perplexity(document["perplexity"]["chip"]), error(kl["alone_sum"]), "")
    add("total", _bar(0.0, kl["total"]["mean"], top), *ends, style="bold")
    add("interaction", "", "", "", "", error(kl["interaction"]), "")
    return table


def _ratios(document: dict[str, Any]) -> Table:
    """Fill the table of ratios: a column a role, a row an effect."""
    roles = document["snr_db"]["roles"]
    table, add = _table(("effect", *(role["role"] for role in roles)))
    for effect in document["effects"]:
        add(effect["name"], *(db(role["alone"][effect["effect"]]["median"]) for role in roles))
    add("all", *(db(role["all"]["median"]) for role in roles), style="bold")
    add("all, worst", *(db(role["all"]["worst"]) for role in roles))
    return table


def _clips(roles: Sequence[dict[str, Any]], bar: bool) -> Table:
    """Fill the table of what clips: a row a role; ``bar``: with the share of saturated conversions drawn."""
    columns = ("role", "inputs", "conversions", "", "worst tile", "of matrix", "row, column")
    table, add = _table(columns, (0, 3, 5, 6), () if bar else (3,))
    top = max((role["conversions_saturated"] or 0.0 for role in roles), default=0.0)
    for role in roles:
        worst, share = role["worst"], role["conversions_saturated"]
        tile = worst["worst_tile_saturated"]
        where = (worst["matrix"], "{}, {}".format(*worst["worst_tile"])) if tile else ("", "")
        drawn = _bar(0.0, share, top) if share else ""
        add(role["role"], rare(role["inputs_clipped"]), rare(share), drawn, rare(tile), *where)
    return table


def _with_error(figure: dict[str, Any], decimals: int) -> str:
    """Write 0.849 ± 0.137; without chance or from one chip, the mean alone."""
    low, high = figure["interval_95"]
    mean = fixed(figure["mean"], decimals)
    return mean if low is None or high == low else f"{mean} ± {fixed((high - low) / 2, decimals)}"


def _bar(before: float, after: float, top: float) -> str:
    """Draw a bar from one value to another on a track from 0 to ``top``, to an eighth of a character at its end."""
    if top <= 0:
        return ""
    low, high = (min(max(value / top, 0.0), 1.0) * BAR for value in sorted((before, after)))
    start = min(int(low), BAR - 1)
    full, rest = divmod(max(round(8 * (high - low)), 1), 8)
    return " " * start + "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
