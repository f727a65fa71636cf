"""The kit of charts: scales, ticks, rows, and that nothing is drawn outside."""

from __future__ import annotations

import re

import pytest

from aimc_sim.report.charts import NARROW, WIDE, Chart, Rows, Scale, ticks


def test_a_scale_maps_both_ends_and_holds_what_is_outside_at_them() -> None:
    linear, log = Scale(-1.0, 3.0, 100.0, 0.0), Scale(0.01, 100.0, 0.0, 40.0, log=True)
    assert [linear(value) for value in (-1.0, 0.0, 3.0, -9.0, 9.0)] == [100.0, 75.0, 0.0, 100.0, 0.0]
    assert [log(value) for value in (0.01, 1.0, 100.0, 0.0)] == [0.0, 20.0, 40.0, 0.0]
    assert [log.holds(value) for value in (0.001, 0.01, 100.0, 101.0)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("scale", "numbers"),
    [
        (Scale(0.0, 1.06, 0, 1), [0.0, 0.5, 1.0]),
        (Scale(-1.2, 3.0, 0, 1), [-1.0, 0.0, 1.0, 2.0, 3.0]),
        (Scale(0.05, 40.0, 0, 1, log=True), [0.1, 0.3, 1.0, 3.0, 10.0, 30.0]),
        (Scale(1e-4, 100.0, 0, 1, log=True), [1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0, 100.0]),
    ],
)
def test_ticks_are_round_and_few(scale: Scale, numbers: list[float]) -> None:
    assert ticks(scale) == numbers


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_long_names_stand_above_their_rows_where_the_screen_is_narrow(width: int) -> None:
    chart = Rows("n", "title", width, ["a name of a hardware, long", "b"], 30)
    x = chart.x_scale(0.0, 1.0)
    chart.x_axis(x, "unit")
    chart.name_rows()
    drawn = chart.svg("said")
    assert chart.above == (width == NARROW)
    assert chart.left == 8 if chart.above else chart.left > 150
    base = re.findall(r'class="base" x1="(\S+)" x2="\1" y1="(\S+)" y2="(\S+)"', drawn)
    assert len(base) == (2 if chart.above else 1)
    names = [float(y) for y in re.findall(r'class="name" x="\S+" y="(\S+)"', drawn)]
    if chart.above:
        assert not any(float(low) <= y <= float(high) for y in names for _, low, high in base), (
            "struck through"
        )


def test_the_name_of_a_limit_stays_inside_the_drawing() -> None:
    chart = Chart("n", "title", NARROW, 100)
    for x in (0.0, 100.0, float(NARROW)):
        chart.limit(x, "margin 0.5")
    assert re.findall(r'x="(\S+)" y="\S+" text-anchor="(\w+)"', chart.svg("")) == [
        ("0", "start"), ("100", "middle"), (str(NARROW), "end"),
    ]  # fmt: skip


def test_text_is_escaped_and_a_drawing_is_said_in_words() -> None:
    chart = Chart("n", "<t>", WIDE, 100)
    chart.text("label", 0, 0, "<script>")
    chart.bar("heat", (3.0, 1.0), 0, 10, title="a & b")
    drawn = chart.svg('"d"')
    assert "<script>" not in drawn
    assert '<title id="n-720-t">&lt;t&gt;</title><desc id="n-720-d">&quot;d&quot;</desc>' in drawn
    assert 'x="1" y="0" width="2"' in drawn
    assert "<title>a &amp; b</title></rect>" in drawn
