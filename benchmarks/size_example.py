"""From "Llama-3.2-1B, 100 tokens a second, below 1 W" to a tile: the plots of docs/how-to/size-a-chip.md.

    python -m benchmarks.size_example docs/how-to/images

Needs `pip install "aimc-sim[report]"`. Prints the figures that the page quotes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aimc_sim.sizing import Designs, Scenario, Workload, evaluate
from aimc_sim.sizing.cost.analog import Cost
from benchmarks.harness import command_line

MODEL, HARDWARE, RATE, WATTS = "Llama-3.2-1B", "hermes-256", 100.0, 1.0
SIDES, BITS, SHARES = (128, 256, 512, 1024), (6, 7, 8), (1, 4, 16)
COLOURS = ("#9ec9e2", "#4a98c9", "#1764ab", "#08306b")
INK, SOFT, ACCENT = "#1d2733", "#66727f", "#c8511b"
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Study:
    """All points of the example, and the one that is chosen: the least area below the bar."""

    designs: Designs
    cost: Cost
    chosen: int
    work: Workload

    @classmethod
    def run(cls) -> Study:
        """36 points of closed forms; milliseconds."""
        side, bits, share = (axis.ravel() for axis in np.meshgrid(SIDES, BITS, SHARES))
        designs = Designs.of(HARDWARE, rows=side, cols=side, adc_bits=bits, adcs_per_tile=side // share)
        work = Workload.of(MODEL)
        cost = evaluate(designs, work, Scenario(rate=RATE))
        good = np.flatnonzero((cost.power_w < WATTS) & (cost.tokens_per_s >= RATE))
        return cls(designs, cost, int(good[np.argmin(cost.area_total_mm2[good])]), work)

    def power_of_idle(self, idle_mw: F64) -> F64:
        """W at the asked rate if a tile that waits draws so much: the band of the profile has no value for it."""
        busy = float(self.cost.power_w[self.chosen])
        return np.asarray(busy + float(self.cost.tiles[self.chosen]) * idle_mw * 1e-3)


def plots(study: Study, folder: Path) -> list[Path]:
    """Write three SVG files, the same bytes every time."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({
        "svg.hashsalt": "size", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10,
        "font.sans-serif": ["Inter", "Helvetica", "Arial", "DejaVu Sans"],
        "axes.edgecolor": SOFT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": SOFT, "ytick.color": SOFT,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titleweight": "bold", "axes.titlesize": 11,
        "axes.titlelocation": "left",
    })  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in (("design-space", _space), ("energy-of-a-token", _energy), ("idle-power", _idle)):
        figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
        draw(study, axes)
        path = folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None}, facecolor="white")
        plt.close(figure)
        written.append(path)
    return written


def _space(study: Study, axes: Any) -> None:
    area, power, best = study.cost.area_total_mm2, 1e3 * study.cost.power_w, study.chosen
    for side, colour in zip(SIDES, COLOURS, strict=True):
        at = study.designs.rows == side
        axes.scatter(
            area[at], power[at], s=34, color=colour, label=f"{side} × {side}", zorder=3, linewidths=0
        )
    axes.scatter(area[best], power[best], s=150, facecolors="none", edgecolors=ACCENT, linewidths=2, zorder=4)
    axes.annotate(
        f"{int(study.designs.rows[best])} × {int(study.designs.rows[best])}, "
        f"{int(study.designs.adc_bits[best])} bits, {int(study.designs.adcs_per_tile[best])} converters a tile",
        (area[best], power[best]), xytext=(-60, 92), ha="center", textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": ACCENT, "shrinkB": 8}, color=ACCENT,
    )  # fmt: skip
    axes.set(
        xscale="log",
        xlabel="area, mm²",
        ylabel="power at 100 tokens/s, mW",
        title="All designs stay far below 1 W",
    )
    axes.set_ylim(0, None)
    axes.set_xticks([1000, 2000, 5000, 10000, 20000], ["1,000", "2,000", "5,000", "10,000", "20,000"])
    axes.minorticks_off()
    axes.grid(color="#e6eaee", zorder=0)
    axes.legend(frameon=False, title="tile", loc="upper left", bbox_to_anchor=(1, 1))


def _energy(study: Study, axes: Any) -> None:
    joules = {name: 1e6 * float(value[study.chosen]) for name, value in study.cost.energy_j.items()}
    shown = sorted((value, name) for name, value in joules.items() if value > 0.005 * sum(joules.values()))
    values, names = [value for value, _ in shown], [name for _, name in shown]
    axes.barh(names, values, color=COLOURS[2], height=0.6, zorder=3)
    for value, name in shown:
        axes.annotate(
            f"{value:,.0f} µJ", (value, name), xytext=(5, 0), textcoords="offset points", va="center"
        )
    axes.set(xlabel="µJ a token", title="Where the energy of a token goes")
    axes.set_xlim(0, 1.18 * max(values))
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(axis="x", color="#e6eaee", zorder=0)


def _idle(study: Study, axes: Any) -> None:
    idle = np.geomspace(0.001, 5, 200)
    power = study.power_of_idle(idle)
    axes.plot(idle, power, color=COLOURS[2], linewidth=2.2, zorder=3)
    axes.axhline(WATTS, color=ACCENT, linewidth=1.4, linestyle="--", zorder=2)
    limit = float(np.interp(WATTS, power, idle))
    axes.annotate(
        f"1 W is spent at {1e3 * limit:,.0f} µW a tile", (limit, WATTS), xytext=(-8, 14), textcoords="offset points",
        color=ACCENT, ha="right",
    )  # fmt: skip
    axes.scatter(limit, WATTS, color=ACCENT, s=30, zorder=4)
    axes.set(
        xscale="log", yscale="log", xlabel="power of a tile that waits, mW (log)", ylabel="power at 100 tokens/s, W",
        title="What a waiting tile draws decides",
    )  # fmt: skip
    axes.set_xticks([0.001, 0.01, 0.1, 1], ["0.001", "0.01", "0.1", "1"])
    axes.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    axes.minorticks_off()
    axes.grid(color="#e6eaee", zorder=0)


def main() -> None:
    """Command line."""
    parser = command_line(__doc__ or "", globals())
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    study = Study.run()
    cost, designs, best = study.cost, study.designs, study.chosen
    below = int((cost.power_w < WATTS).sum())
    print(f"{below} of {len(designs)} designs stay below {WATTS:g} W")
    print(
        f"{designs.rows[best]:.0f} × {designs.cols[best]:.0f}, {designs.adc_bits[best]:.0f} bits, "
        f"{designs.adcs_per_tile[best]:.0f} converters a tile: {cost.tiles[best]:,.0f} tiles, "
        f"{cost.area_total_mm2[best]:,.0f} mm², {1e3 * cost.power_w[best]:.1f} mW, "
        f"{1e6 * cost.token_path_s[best]:.0f} µs a token, {cost.chips[best]:.0f} chips"
    )
    limit = (WATTS - float(cost.power_w[best])) / float(cost.tiles[best]) * 1e6
    print(f"a waiting tile may draw {limit:.0f} µW")
    for path in plots(study, folder):
        print(f"{path} {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
