"""Two sign-offs, paired on what they share (the same chips, by seed, on the same items), as one document.

A difference of two studies of the same items is far surer than the two studies are, because how hard an item is and
much of what a chip does cancels. Only per-item scores in their report.json files are used: nothing is run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from aimc_sim.aliases import F64
from aimc_sim.errors import BadInput
from aimc_sim.report.words import spoken
from aimc_sim.signoff.design.margins import check_share
from aimc_sim.signoff.execution.scores import TrialScores
from aimc_sim.signoff.report.answer_flips import flips_of_one
from aimc_sim.signoff.report.figures import measure_of
from aimc_sim.signoff.report.judgement import what_could_decide
from aimc_sim.signoff.report.saved import Document, Side
from aimc_sim.signoff.statistics import NonInferiority, holm, non_inferior
from aimc_sim.units import format_duration

CHANGES = {
    "kl": "increase of the KL divergence from the digital model",
    "loss": "increase of the negative log-likelihood",
}
BROAD = 1e300  # a margin that every finite loss is within, where none was asked for


def comparison_of(
    before: Side, after: Side, *, margin: float | None = None, alpha: float = 0.025, task: str | None = None
) -> Document:
    """Return the comparison as plain data, keys in a fixed order; docs/signoff.md says which.

    margin: largest acceptable worsening from `before` to `after`, in the unit of the task (nats per token, or a share
    of questions); None: no verdict. task: only that one. Raises BadInput where items or metrics differ, or no task,
    chip or time is shared.
    """
    pairs, left_out = matched(before, after, task)
    units = {one["verdict"]["unit"] for one, _ in pairs}
    if margin is not None and len(units) > 1:
        raise BadInput(
            "--margin",
            got=margin,
            why=f"the tasks have different units: {', '.join(sorted(units))}",
            do="compare one task at a time with --task",
        )
    if margin is not None and "share of questions" in units:
        check_share(margin)
    parts = [compare_part(one, two, margin, alpha) for one, two in pairs]
    _correct(parts, margin, alpha)
    passed = None if margin is None else all(part["pass"] for part in parts)
    return {
        "format": "aimc-sim comparison",
        "schema_version": 1,
        "pass": passed,
        "undecided": passed is False and all(part["pass"] or part["undecided"] for part in parts),
        "margin": margin,
        "alpha": alpha,
        "before": side_of(before, [one for one, _ in pairs]),
        "after": side_of(after, [two for _, two in pairs]),
        "parts": parts,
        "notes": [*left_out, *dict.fromkeys(note for part in parts for note in part.pop("notes"))],
    }


def _key(report: Document) -> tuple[str, str]:
    return report["statistics"]["hardware"], report["statistics"]["task"]


def matched(before: Side, after: Side, task: str | None) -> tuple[list[tuple[Document, Document]], list[str]]:
    """Pair reports of the same task on the same hardware, in the order of `after`; and what has no partner. One
    hardware on each side is one pair whatever they are called, because the hardware may be what has changed.
    """
    sides = [
        {_key(report): report for report in side.reports if task in (None, report["statistics"]["task"])}
        for side in (before, after)
    ]
    if all(len({hardware for hardware, _ in side}) == 1 for side in sides):
        sides = [{("", name): report for (_, name), report in side.items()} for side in sides]
    old, new = sides
    pairs = [(old[key], report) for key, report in new.items() if key in old]
    if not pairs:
        raise BadInput(
            "sign-offs" if task is None else "--task",
            got=" and ".join(_listed(side) for side in (before, after)) if task is None else task,
            why="no task on the same hardware is in both",
            do="compare sign-offs of the same tasks",
        )
    alone = [
        f"{' on '.join(part for part in reversed(key) if part)} is in {side.name} only"
        for side, mine, other in ((before, old, new), (after, new, old))
        for key in mine
        if key not in other
    ]
    return pairs, alone


def _listed(side: Side) -> str:
    return ", ".join(f"{task} on {hardware}" for hardware, task in map(_key, side.reports))


def compare_part(one: Document, two: Document, margin: float | None, alpha: float) -> Document:
    """Compare one task on one hardware."""
    name = name_of(one, two)
    _check_items(one, two)
    check_metric(one, two)
    old, new = (_by_chip(report) for report in (one, two))
    seeds, times = shared(one, two)
    metric = two["verdict"]["metric"]
    # A divergence is from each one's own digital model: a release whose digital model is worse may have less of it.
    by_loss = metric == "kl" and one["plan"]["weights"] != two["plan"]["weights"]
    metric = "loss" if by_loss else metric
    better = metric not in CHANGES
    weights = np.asarray(one["windows"]["tokens"], np.float64) if "windows" in one else None
    gates, rows = [], []
    for time_s in times:
        scores = [
            np.array([_scores(side[seed, time_s], metric, weights) for seed in seeds]) for side in (old, new)
        ]
        gate = non_inferior(
            scores[1], scores[0], BROAD if margin is None else margin, alpha, higher_is_better=better, weights=weights,
            marks=weights is None,
        )  # fmt: skip
        gates.append(gate)
        chips = [_chip(old[seed, time_s], new[seed, time_s], better) for seed in seeds]
        rows.append(_at_time(time_s, gate, scores, weights, seeds, chips, margin))
    worst = max(range(len(times)), key=lambda at: (gates[at].bound, gates[at].loss.mean))
    notes = [f"{name}: {gates[worst].loss.caveat}"] if gates[worst].loss.caveat else []
    if by_loss:
        notes.append(
            f"{name}: the weights differ, and each sign-off measured the divergence from its own digital model: "
            "compared is the chips' negative log-likelihood"
        )
    apart = len(one["plan"]["seeds"]) + len(two["plan"]["seeds"]) - 2 * len(seeds)
    if apart:
        notes.append(
            f"{name}: {apart} {'chip is' if apart == 1 else 'chips are'} in one sign-off only and left out"
        )
    return {
        "name": name,
        "hardware": [one["statistics"]["hardware"], two["statistics"]["hardware"]],
        "task": two["statistics"]["task"],
        "metric": metric,
        "metric_name": CHANGES.get(metric, "loss of accuracy"),
        "unit": two["verdict"]["unit"],
        "chips": len(seeds),
        "items": gates[worst].loss.items,
        "pass": None if margin is None else gates[worst].passed,
        "undecided": margin is not None and gates[worst].straddles,
        "summary": _summary(metric, gates[worst], times[worst], len(times), margin),
        "worst_time_s": times[worst],
        "p_value": None if margin is None else max(gate.p_value for gate in gates),
        "times": rows,
        "notes": notes,
    }


def name_of(one: Document, two: Document) -> str:
    """Name a pair."""
    (old, task), (new, _) = _key(one), _key(two)
    return f"{task} on {new}" if old == new else f"{task}, {old} to {new}"


def shared(one: Document, two: Document) -> tuple[list[int], list[float]]:
    """Return the seeds and times that both have. Raises BadInput where there are none."""
    common = []
    for what, key in (("chips", "seeds"), ("times", "times_s")):
        mine = [each for each in one["plan"][key] if each in two["plan"][key]]
        if not mine:
            raise BadInput(
                f"{what} of {name_of(one, two)}",
                got=f"{one['plan'][key]} and {two['plan'][key]}",
                why=f"no {what} are shared, so nothing is paired",
                do="run the new sign-off with the --seed and --times of the old one",
            )
        common.append(mine)
    return common[0], common[1]


def check_metric(one: Document, two: Document) -> None:
    """Refuse another metric."""
    metrics = [report["verdict"]["metric"] for report in (one, two)]
    if metrics[0] != metrics[1]:
        raise BadInput(
            f"metric of {name_of(one, two)}",
            got=" and ".join(metrics),
            why="the two were judged by different metrics",
            do="run the new sign-off with the --metric of the old one",
        )


def _check_items(one: Document, two: Document) -> None:
    kinds = ["questions" if "questions" in report else "text" for report in (one, two)]
    ids = [report[kind]["id"] for report, kind in zip((one, two), kinds, strict=True)]
    if kinds[0] != kinds[1] or ids[0] != ids[1]:
        own = any("text" in report and report["plan"]["text"]["kind"] == "self" for report in (one, two))
        refuse_items(one, two, [f"{kind} {each}" for kind, each in zip(kinds, ids, strict=True)], own)


def refuse_items(one: Document, two: Document, items: Sequence[str], own: bool = False) -> NoReturn:
    """Raise the BadInput for other items. own: whether a model has written them."""
    if own:
        why = "the two were scored on different items"
        do = "score both on the same --text FILE; samples of a model change with its weights"
    else:
        why, do = _other_items(one["plan"], two["plan"])
    raise BadInput(
        f"items of {name_of(one, two)}",
        got=" and ".join(items),
        why=f"{why}, so their scores are no pairs",
        do=do,
    )


def _other_items(old: Document, new: Document) -> tuple[str, str]:
    """Say why the items of two plans are others, as far as the plans say, and what to do."""
    do = "run the new sign-off on the items of the old one"
    if "questions" not in old or "questions" not in new:
        return "the two were scored on different items", do
    shots, counts = ([each.get(key) for each in (old, new)] for key in ("num_fewshot", "questions"))
    differ = []
    if shots[0] != shots[1]:
        told = ("the task's own number of" if each is None else each for each in shots)
        differ.append(f"with {' and '.join(map(str, told))} worked examples")
        do += ", with its --num-fewshot"
    if counts[0] != counts[1]:
        differ.append(f"{counts[0]:,} and {counts[1]:,} questions")
        do += ", with its --limit"
    marked = [each.get("configuration") for each in (old, new)]
    if None in marked:
        said = f" ({'; '.join(differ)})" if differ else ""
        return f"the two were asked different questions, or marked in different ways{said}", do
    if marked[0] != marked[1] and shots[0] == shots[1]:
        differ.append(f"{marked[0]}; {marked[1]}")
        why = f"the two were asked or marked in different ways ({'; '.join(differ)})"
        return why, f"{do}, with the same YAML files and harness"
    if differ:
        return f"the two were asked differently ({'; '.join(differ)})", do
    return "the two were asked as many questions in the same way, of different rows", do


def _by_chip(report: Document) -> dict[tuple[int, float], Document]:
    chips = report["windows" if "windows" in report else "answers"]["chips"]
    return {(chip["seed"], chip["time_s"]): chip for chip in chips}


def _scores(chip: Document, metric: str, weights: F64 | None) -> F64:
    """Return the scores (items,) of one chip: nats per token, or marks."""
    values = np.asarray(chip[{"kl": "kl", "loss": "nll"}.get(metric, "acc")], np.float64)
    return values if weights is None else np.asarray(values / weights)


def _chip(old: Document, new: Document, answers: bool) -> Document:
    """Test one chip by McNemar's test; nothing where items are not questions."""
    if not answers:
        return {}
    one, two = (TrialScores({"acc": np.asarray(chip["acc"])}) for chip in (old, new))
    return flips_of_one(two, one)


def _at_time(
    time_s: float,
    gate: NonInferiority,
    scores: Sequence[F64],
    weights: F64 | None,
    seeds: Sequence[int],
    chips: Sequence[Document],
    margin: float | None,
) -> Document:
    low, high = gate.loss.interval
    known = math.isfinite(low) and math.isfinite(high)
    before, after = (np.average(table, axis=1, weights=weights) for table in scores)
    return {
        "time": format_duration(time_s),
        "time_s": time_s,
        "before": float(before.mean()),
        "after": float(after.mean()),
        "mean": gate.loss.mean,
        "interval_95": [low, high] if known else [None, None],
        "upper_bound": gate.bound if known else None,
        "pass": None if margin is None else gate.passed,
        "chips": [
            {
                "seed": seed,
                "before": float(before[row]),
                "after": float(after[row]),
                "worse_by": gate.loss.chip_means[row],
                **chips[row],
            }
            for row, seed in enumerate(seeds)
        ],
    }


def _correct(parts: list[Document], margin: float | None, alpha: float) -> None:
    """Apply Holm's correction over the tasks of one hardware, as in a sign-off."""
    if margin is None:
        return
    for hardware in {tuple(part["hardware"]) for part in parts}:
        mine = [part for part in parts if tuple(part["hardware"]) == hardware]
        for part, p_holm in zip(mine, holm([part["p_value"] for part in mine]), strict=True):
            if part["pass"] and p_holm > alpha:
                part["pass"], part["undecided"] = False, True
                part["summary"] += " Counted together with the other tasks (Holm) that is not shown."


def _summary(metric: str, gate: NonInferiority, time_s: float, times: int, margin: float | None) -> str:
    """Write one plain sentence that stands on its own."""
    measure, loss = measure_of(metric), gate.loss
    name, mean = CHANGES.get(metric, "loss of accuracy"), measure.write(loss.mean)
    among = f", the worst of {times} shared times," if times > 1 else ""
    start = f"After {spoken(time_s)}{among} the mean {name} is {mean} {measure.units(mean)}"
    low, high = loss.interval
    within = measure.span(loss.interval).replace("\u200b", "")
    if not within:
        return f"{start}, from one chip on one item, which gives no interval."
    if margin is None:
        said = "worse" if low > 0 else "better" if high < 0 else "no difference shown"
        if loss.mean == 0 == loss.half_width(gate.alpha):
            said = f"the same on every {measure.item}"
        return f"{start} (95 % interval {within}): {said}."
    limit, bound = measure.limit(margin), measure.write(gate.bound)
    if gate.passed:
        sure = f"with {100 * (1 - gate.alpha):g} % confidence"
        return f"{start} and {sure} at most {bound}: within the margin of {limit}."
    if gate.straddles:
        return (
            f"Not shown to be within the margin of {limit}: {start[0].lower()}{start[1:]}, but it may be as high as "
            f"{bound}. {what_could_decide([gate], measure.item + 's', 'shared chips')}"
        )
    return f"{start}, beyond the margin of {limit} even at the low end of its interval."


def side_of(side: Side, reports: Sequence[Document]) -> Document:
    return {
        "name": side.name,
        "plan_ids": [report["plan"]["id"] for report in reports],
        "weights": reports[0]["plan"]["weights"],
        "weight_file": reports[0]["provenance"]["weight_file"],
        "hardware_ids": list(dict.fromkeys(report["plan"]["hardware_id"] for report in reports)),
        "versions": reports[0]["provenance"]["versions"],
    }
