"""junit.xml: what CI systems read. One suite for each task on each hardware, one case for each time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree as ET

from aimc_sim.report.words import spoken
from aimc_sim.signoff.report.figures import measure_of

# XML 1.0 has no way to write these (section 2.2), and a label or a path may hold them.
_UNWRITABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_of(documents: Sequence[dict[str, Any]]) -> str:
    """Write the XML of reports, one suite each.

    A case fails where its own bound is beyond the margin, and the worst time also where only the correction over the
    tasks fails; its message is the sentence of the verdict.
    """
    root = ET.Element("testsuites", name="aimc-sim signoff")
    sums = [0, 0, 0.0]
    for document in documents:
        suite, *counts = _suite(document)
        root.append(suite)
        sums = [a + b for a, b in zip(sums, counts, strict=True)]
    _count(root, *sums)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _count(element: ET.Element, tests: float, failures: float, seconds: float, **more: str) -> None:
    counts = {"tests": str(tests), "failures": str(failures), "errors": "0", **more, "time": f"{seconds:.3f}"}
    for name, value in counts.items():
        element.set(name, value)


def _suite(document: dict[str, Any]) -> tuple[ET.Element, int, int, float]:
    verdict, statistics, times = document["verdict"], document["statistics"], document["rows"]["times"]
    name = _clean(f"{statistics['hardware']}.{statistics['task']}")
    suite, failures, seconds = ET.Element("testsuite", name=name), 0, 0.0
    for at in times:
        took, decides = _seconds(document["timings"], at["time_s"]), at["time_s"] == verdict["worst_time_s"]
        called = f"after {spoken(at['time_s'])}"
        case = ET.SubElement(suite, "testcase", classname=name, name=called, time=f"{took:.3f}")
        seconds += took
        if not at["pass"] or (decides and not verdict["pass"]):
            failures += 1
            said = _clean(verdict["summary"] if decides else _sentence(verdict, at))
            ET.SubElement(case, "failure", message=said, type="margin").text = said
    _count(suite, len(times), failures, seconds, skipped="0")
    return suite, len(times), failures, seconds


def _sentence(verdict: dict[str, Any], at: dict[str, Any]) -> str:
    measure = measure_of(verdict["metric"])
    figure = at[measure.key]
    mean, within = measure.write(figure["mean"]), measure.span(figure["interval_95"]) or "none"
    return (
        f"After {spoken(at['time_s'])} the mean {verdict['metric_name']} is {mean} {measure.units(mean)} (95 % "
        f"interval {within}), at most {measure.write(at['upper_bound'])}: beyond the margin of "
        f"{measure.limit(verdict['margin'])}."
    ).replace("\u200b", "")


def _seconds(timings: dict[str, float], time_s: float) -> float:
    """Add up the seconds that the trials of that time took, all chips together."""
    mine = (
        took for name, took in timings.items() if name.startswith("chip/") and name.endswith(f"/{time_s}")
    )
    return sum(mine)


def _clean(text: str) -> str:
    return _UNWRITABLE.sub("\ufffd", text)
