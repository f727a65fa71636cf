"""Plans of one text, in a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aimc_sim.evaluate.text import FileText, SelfText
from aimc_sim.evaluate.windows import default_batch
from aimc_sim.hardware import Hardware
from aimc_sim.signoff.design.plan import Plan, plan_of


def make_plan(
    *,
    hardware: Hardware | Sequence[Hardware],
    margin_nats: float,
    text: FileText | SelfText,
    context: int | None = None,
    batch: int | None = None,
    metric: str = "kl",
    **rest: Any,
) -> Plan:
    """The plan for one text; rest: as `plan_of` takes it. context: of a text file, 1,024 unless told."""
    # Samples are scored as they were drawn: one window each.
    length = text.length if isinstance(text, SelfText) else 1024 if context is None else context
    task = {
        "kind": "text",
        "text": text.model_dump(mode="json"),
        "context": length,
        "batch": default_batch(max(length, 1)) if batch is None else batch,
        "metric": metric,
        "margin_nats": margin_nats,
    }
    chips = (hardware,) if isinstance(hardware, Hardware) else tuple(hardware)
    return plan_of(hardware=chips, tasks=(task,), **rest)
