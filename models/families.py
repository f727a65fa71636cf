"""Which language models are understood, and which of their matrix products have static weights."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aimc_sim.errors import BadInput

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

# Last part of a module's name -> what the matrix does. One table serves every family.
ROLES = {
    "q_proj": "q",
    "k_proj": "k",
    "v_proj": "v",
    "qkv_proj": "qkv",
    "o_proj": "o",
    "gate_proj": "gate",
    "up_proj": "up",
    "gate_up_proj": "gate_up",
    "down_proj": "down",
    "lm_head": "head",
}
# GPT-2 calls two different matrices c_proj, so its names need their parent.
GPT2_ROLES = {
    "attn.c_attn": "qkv",
    "attn.c_proj": "o",
    "mlp.c_fc": "up",
    "mlp.c_proj": "down",
    "lm_head": "head",
}

FAMILIES: dict[str, dict[str, str]] = {
    "llama": ROLES,
    "mistral": ROLES,
    "qwen2": ROLES,
    "qwen3": ROLES,
    "phi3": ROLES,
    "gemma3_text": ROLES,
    "gpt2": GPT2_ROLES,
}
HEAD = "lm_head"
# Keys of a config.json that choose code instead of describing a model. Private names ("_…") do so, too.
CODE_KEYS = frozenset(
    "attn_implementation experts_implementation auto_map trust_remote_code code_revision custom_pipelines "
    "use_kernels kernel_config allow_all_kernels".split()
)


@dataclass(frozen=True)
class Candidate:
    """A candidate is a module that multiplies its input by a static matrix, and so could live in a crossbar.

    rows: K, inputs; cols: N, outputs; layout: of its weight, "out_in" (N, K) or "in_out" (K, N).
    """

    name: str
    rows: int
    cols: int
    layout: str
    has_bias: bool
    role: str


def model_type(config: dict[str, Any]) -> str:
    """Return the supported model_type of a configuration. Raises BadInput naming the supported ones."""
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise BadInput(
            "architecture of the checkpoint (model_type)",
            got=kind,
            why="its matrix products are not known here, so none could be claimed as analog",
            do=f"use a model of one of these types: {', '.join(FAMILIES)}",
        )
    return str(kind)


def without_code(value: Any) -> Any:
    """Return a configuration without the keys that could make transformers fetch or choose code, at any depth."""
    if isinstance(value, dict):
        return {
            key: without_code(inner)
            for key, inner in value.items()
            if key not in CODE_KEYS and not str(key).startswith("_")
        }
    return [without_code(inner) for inner in value] if isinstance(value, list) else deepcopy(value)


def skeleton(config: dict[str, Any], **options: Any) -> PreTrainedModel:
    """Return the transformers model of a configuration with its parameters on the meta device, in eval mode.

    Buffers are real: a plain meta device would lose rotary tables and Gemma's embedding scale.
    options: passed to AutoModelForCausalLM.from_config; attn_implementation is "sdpa" unless given. What the
    configuration itself says about code (CODE_KEYS) is ignored, so that no file can make this load any.
    """
    kind = model_type(config)
    from accelerate import init_empty_weights
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    try:
        kind_of_config = CONFIG_MAPPING[kind]
        # transformers sets every key as an attribute: none may hide a method.
        plain = {
            key: value
            for key, value in without_code(config).items()
            if not callable(getattr(kind_of_config, key, None))
        }
        parsed = kind_of_config.from_dict(plain)
        with init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(
                parsed, **{"attn_implementation": "sdpa", "trust_remote_code": False, **options}
            )
    except BadInput:
        raise
    # A damaged config.json makes transformers raise almost anything.
    except Exception as error:
        raise BadInput(
            "model configuration",
            why=f"transformers cannot build a {kind} model from it ({error})",
            do="check config.json",
        ) from error
    return model.eval()


def generation_defaults(table: dict[str, Any]) -> GenerationConfig:
    """Return a generation_config.json as transformers' object, without anything that chooses code.
    BadInput if it is none.
    """
    from transformers import GenerationConfig

    plain = {
        key: value
        for key, value in without_code(table).items()
        if not callable(getattr(GenerationConfig, key, None))
    }
    try:
        return GenerationConfig.from_dict(plain)
    except Exception as error:
        raise BadInput(
            "generation_config.json",
            why=f"transformers cannot use it ({error})",
            do="correct it in the checkpoint and export again",
        ) from error


def candidates(model: PreTrainedModel) -> tuple[Candidate, ...]:
    """Return every matrix product with static weights, in module order, the head last. The place is the ordinal.

    Raises BadInput for a module whose role is unknown, because nothing may be bypassed in silence.
    """
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    roles = FAMILIES[model_type(model.config.to_dict())]
    modules = []
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            layout, (cols, rows) = "out_in", module.weight.shape
        elif isinstance(module, Conv1D):
            layout, (rows, cols) = "in_out", module.weight.shape
        else:
            continue
        parts = name.split(".")
        role = roles.get(parts[-1]) or roles.get(".".join(parts[-2:]))
        if role is None:
            raise BadInput(
                "module of the model",
                got=name,
                why="this family should not have such a matrix product",
                do="report the model; aimc-sim would otherwise not know what it simulates",
            )
        modules.append(Candidate(name, int(rows), int(cols), layout, module.bias is not None, role))
    return tuple(sorted(modules, key=lambda item: item.name == HEAD))
