"""A simulated chip as a model of lm-evaluation-harness, called ``aimc-sim``.

The harness finds models of other packages only where their module is imported first. So either import this module and
call ``lm_eval.simple_evaluate(model="aimc-sim", …)``, or use the harness's command line through it:

    python -m aimc_sim.evaluate --model aimc-sim --model_args file=model.h5,seed=3,time=1d --tasks arc_easy
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from aimc_sim.errors import BadInput
from aimc_sim.evaluate.bench import Bench
from aimc_sim.evaluate.continuations import TOKENS, likelihoods, name_of
from aimc_sim.evaluate.text import load_tokenizer
from aimc_sim.torch_bridge.rows import sequence_names

if TYPE_CHECKING:
    import torch

    from aimc_sim.chip import ChipState


@register_model("aimc-sim")
class AimcLM(HFLM):  # type: ignore[misc]
    """This model of the harness answers requests as one chip at one time does, or as the digital model.

    file: a weight file; hardware: a preset or TOML file, the file's own by default; seed: the chip; time: since
    programming, such as 1d; session: which draw of the 1/f noise; digital: the model without a chip. tokens: of one
    forward, whatever batch_size says: that one is for texts that are written. The rest is HFLM's.

    Answers cached with ``--use_cache`` are kept apart by chip: a file may serve many.
    """

    def __init__(
        self,
        file: str,
        hardware: str | None = None,
        seed: int = 0,
        time: str | float = "0s",
        session: int = 0,
        digital: bool = False,
        tokens: int = TOKENS,
        batch_size: int | str | None = 8,
        **rest: Any,
    ) -> None:
        for given in ("pretrained", "tokenizer", "backend"):
            if given in rest:
                raise BadInput(given, got=rest[given], why="the weight file has it", do=f"leave out {given}")
        bench = Bench(file)
        weights = bench.weight_file
        if digital:
            model, self.chip_key = bench.load_digital(), f"digital {weights.id}"
        else:
            model = bench.mount(hardware, int(seed), time, session=int(session))
            self.chip_key = chip_key(bench.state)
        self.tokens = int(tokens)
        rest.pop("device", None)  # the chip is simulated where the model lies
        super().__init__(
            pretrained=model,
            tokenizer=load_tokenizer(weights),
            backend="causal",
            batch_size=batch_size,
            **rest,
        )

    def _loglikelihood_tokens(
        self, requests: Sequence[Any], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """Score the continuations: a context is computed once for all of its own, the head only where a continuation
        is.
        """
        scores = likelihoods(
            self.model, [(each[1], each[2]) for each in requests], self.tokens, longest=self.max_length
        )
        answers = [(float(log), bool(greedy)) for log, greedy in zip(scores.log, scores.greedy, strict=True)]
        for (asked, _, _), answer in zip(requests, answers, strict=True):
            if asked is not None:
                self.cache_hook.add_partial("loglikelihood", asked, answer)
        return answers

    def _model_generate(self, context: torch.Tensor, max_length: int, stop: list[str], **how: Any) -> Any:
        pad = self.tokenizer.pad_token_id
        real = how.get("attention_mask")
        names = [
            name_of(row.tolist() if real is None else row[real[place].bool()].tolist())
            for place, row in enumerate(context)
        ]
        how.setdefault("attention_mask", (context != pad).long() if pad is not None else None)
        with sequence_names(self.model, np.array(names, np.int64)):
            return super()._model_generate(context, max_length, stop, **how)

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Keep answers in a table of the cache file that is this chip's own."""
        if cache_hook.dbdict is not None:
            _use_table(cache_hook.dbdict, self.chip_key)
        super().set_cache_hook(cache_hook)

    def get_model_info(self) -> dict[str, Any]:
        """Return what the harness writes beside its results."""
        return {**super().get_model_info(), "aimc_sim_chip": self.chip_key}


def chip_key(state: ChipState) -> str:
    """Name what decides a chip's answers: weights, hardware, converter ranges, seed, time and session."""
    chip = state.chip
    return (
        f"chip {chip.weight_file.id} {chip.hardware.id} {chip.ranges_id} seed {chip.seed} "
        f"time {state.t_s!r} session {state.session}"
    )


def _use_table(cache: Any, name: str) -> None:
    """Let an open SqliteDict read and write another table of its file."""
    cache.tablename = name
    cache.conn.execute(f'CREATE TABLE IF NOT EXISTS "{name}" (key TEXT PRIMARY KEY, value BLOB)')
    cache.conn.commit()
