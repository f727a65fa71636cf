"""explain.html: one self-contained page made from the explanation's document."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from aimc_sim.attribution import plots, words
from aimc_sim.report import pages
from aimc_sim.signoff.report.words import nats, perplexity_text, sig, spoken

TEMPLATES = Path(__file__).parent / "templates"
DRAWN = {"falls": plots.falls, "apart": plots.apart, "layers": plots.layers, "clips": plots.clips}


@cache
def _template() -> Any:
    environment = pages.environment_of_pages(TEMPLATES)
    environment.filters.update(sig=sig, spoken=spoken, nats=nats, loss=words.loss, span=words.span)
    environment.filters.update(perplexity=perplexity_text, share=words.share, rare=words.rare, db=words.db)
    return environment.get_template("explain.html.j2")


def render(document: dict[str, Any]) -> str:
    """The page. It loads nothing: style and plots are inside, and there is no script."""
    from markupsafe import Markup

    styles = (pages.TEMPLATES / "report.css", TEMPLATES / "explain.css")
    css = "".join(path.read_text(encoding="utf-8") for path in styles)
    # Two drawings of each plot, for wide and for narrow screens: text in a scaled drawing would get too small.
    drawn = {
        name: [Markup(draw(document, width)) for width in (plots.WIDE, plots.NARROW)]
        for name, draw in DRAWN.items()
        if name != "clips" or document["saturation"] is not None
    }
    text: str = _template().render(d=document, css=Markup(css), plots=drawn, n=words.places(document))
    return text
