"""junit.xml: what CI systems read. One suite for each task on each hardware, one case for each time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from aimc_sim.signoff.report.figures import measure_of
from aimc_sim.signoff.report.headline import interval_of
from aimc_sim.signoff.report.words import sig, spoken

# XML 1.0 has no way to write these (section 2.2), and a label or a path may hold them.
_UNWRITABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_of(documents: Sequence[dict[str, Any]]) -> str:
    """The XML of reports, one suite each.

    A case fails where its own bound is beyond the margin, and the worst time also where only the correction over the
    tasks fails; its message is the sentence of the verdict.
    """
    root = ET.Element("testsuites", name="aimc-sim signoff")
    counts = [0, 0, 0.0]
    for document in documents:
        suite, tests, failures, seconds = _suite(document)
        root.append(suite)
        counts = [counts[0] + tests, counts[1] + failures, counts[2] + seconds]
    root.set("tests", str(counts[0]))
    root.set("failures", str(counts[1]))
    root.set("errors", "0")
    root.set("time", f"{counts[2]:.3f}")
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(document: dict[str, Any]) -> tuple[ET.Element, int, int, float]:
    verdict, statistics = document["verdict"], document["statistics"]
    name = _clean(f"{statistics['hardware']}.{statistics['task']}")
    times = document["rows"]["times"]
    seconds = [_seconds(document["timings"], at["time_s"]) for at in times]
    failed = [
        not at["pass"] or (at["time_s"] == verdict["worst_time_s"] and not verdict["pass"]) for at in times
    ]
    suite = ET.Element(
        "testsuite", name=name, tests=str(len(times)), failures=str(sum(failed)), errors="0", skipped="0",
        time=f"{sum(seconds):.3f}",
    )  # fmt: skip
    for at, took, wrong in zip(times, seconds, failed, strict=True):
        case = ET.SubElement(
            suite, "testcase", classname=name, name=f"after {spoken(at['time_s'])}", time=f"{took:.3f}"
        )
        if wrong:
            decides = at["time_s"] == verdict["worst_time_s"]
            said = _clean(verdict["summary"] if decides else _sentence(verdict, at))
            ET.SubElement(case, "failure", message=said, type="margin").text = said
    return suite, len(times), sum(failed), sum(seconds)


def _sentence(verdict: dict[str, Any], at: dict[str, Any]) -> str:
    measure = measure_of(verdict["metric"])
    found = at[measure.key]
    mean, bound = (
        sig(measure.scale * found["mean"]),
        sig(None if at["upper_bound"] is None else measure.scale * at["upper_bound"]),
    )
    within = interval_of(found["interval_95"], measure.scale) or "none"
    return (
        f"After {spoken(at['time_s'])} the mean {verdict['metric_name']} is {mean} {measure.units(mean)} (95 % "
        f"interval {within}), at most {bound}: beyond the margin of {measure.scale * verdict['margin']:g}."
    ).replace("\u200b", "")


def _seconds(timings: dict[str, float], time_s: float) -> float:
    """What the trials of that time took, all chips together."""
    mine = (
        took for name, took in timings.items() if name.startswith("chip/") and name.endswith(f"/{time_s}")
    )
    return sum(mine)


def _clean(text: str) -> str:
    return _UNWRITABLE.sub("\ufffd", text)
