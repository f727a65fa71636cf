"""Pages that load nothing: styles and charts are inside, and there is no script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from aimc_sim.report import words
from aimc_sim.report.charts import NARROW, WIDE
from aimc_sim.report.pages import TEMPLATES, environment_of_pages

FILTERS: dict[str, Callable[..., str]] = {
    "span": lambda bounds, decimals: words.interval(bounds, partial(words.fixed, decimals=decimals)),
    **{of.__name__: of for of in (
        words.db, words.fixed, words.interval, words.macs, words.nats, words.percent, words.perplexity, words.rare,
        words.shape, words.sig, words.spoken, words.whole,
    )},
}  # fmt: skip


@cache
def _template(folder: Path, name: str) -> Any:
    environment = environment_of_pages(folder)
    environment.filters.update(FILTERS)
    return environment.get_template(name)


def page(template: Path, charts: Mapping[str, Callable[[int], str]], **values: Any) -> str:
    """Render a page. charts: by name, each drawn for a width in pixels, here for wide and for narrow screens."""
    # late: markupsafe comes with jinja2, which is of an extra
    from markupsafe import Markup

    css = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    drawn = {name: [Markup(draw(width)) for width in (WIDE, NARROW)] for name, draw in charts.items()}
    text: str = _template(template.parent, template.name).render(css=Markup(css), plots=drawn, **values)
    return text
