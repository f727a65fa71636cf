"""From a configuration to shapes: which matrices a layer has, which run at the same time, what its attention costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aimc_sim.errors import BadInput


@dataclass(frozen=True)
class MatrixShape:
    """A matrix shape is one static matrix, or ``count`` equal ones (the experts of a layer), of which ``active`` work
    for one token.

    rows: K, inputs; cols: N, outputs; name: module path, for experts that of the first; stage: its place in the chain
    of its layer, equal stages run side by side; attention stands behind stage ``Layer.attention_after``.
    """

    name: str
    role: str
    rows: int
    cols: int
    stage: int
    count: int = 1
    active: int = 1
    adapter: int = 0  # rank of the low-rank adapter beside it, which is digital; 0: none

    @property
    def weights(self) -> int:
        """Return the weights of all copies."""
        return self.rows * self.cols * self.count


@dataclass(frozen=True)
class Layer:
    """A layer is a decoder block.

    attention_macs: multiply-accumulates of its attention for one token and one position of the context;
    kv_elements: numbers that its cache keeps a position; window: positions that it looks back at most.
    """

    matrices: tuple[MatrixShape, ...]
    attention_after: int
    attention_macs: int
    kv_elements: int
    window: int | None = None
    router_macs: int = 0  # the choice of experts, digital


@dataclass(frozen=True)
class ModelShapes:
    """Model shapes describe a language model: decoder blocks, then the head."""

    name: str
    family: str
    layers: tuple[Layer, ...]
    head: MatrixShape
    hidden: int
    vocabulary: int
    tied: bool  # the head's weights are the embedding's

    def matrices(self, head: bool = True) -> tuple[MatrixShape, ...]:
        """Return every matrix in module order, the head last."""
        inner = tuple(matrix for layer in self.layers for matrix in layer.matrices)
        return (*inner, self.head) if head else inner

    @property
    def parameters(self) -> int:
        """Return the weights of all matrices and of the embedding, counted once where the head shares it;
        no norms, no biases.
        """
        static = sum(matrix.weights for matrix in self.matrices(head=False))
        routers = sum(layer.router_macs for layer in self.layers)
        return static + routers + self.head.weights * (1 if self.tied else 2)


class _Config:
    """A configuration whose fields are positive whole numbers, or an error that says which is not."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.table = config

    def __call__(self, *keys: str, default: int | None = None) -> int:
        value = next((self.table[key] for key in keys if self.table.get(key) is not None), default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**40:
            raise BadInput(
                f"model configuration: {keys[0]}",
                got=value,
                why="shapes are positive whole numbers",
                do="check config.json",
            )
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.table.get(key)
        return default if value is None else bool(value)

    @property
    def heads(self) -> tuple[int, int, int]:
        """Return query heads, key and value heads, elements of one."""
        heads = self("num_attention_heads")
        width = self("head_dim", default=max(self("hidden_size") // heads, 1))
        return heads, self("num_key_value_heads", default=heads), width


def _model(c: _Config, name: str, layers: Iterable[Layer], tied: bool, hidden: int) -> ModelShapes:
    vocabulary = c("vocab_size")
    head = MatrixShape("lm_head", "head", hidden, vocabulary, 0)
    return ModelShapes(name, str(c.table["model_type"]), tuple(layers), head, hidden, vocabulary, tied)


def _split_attention(c: _Config, at: str) -> tuple[list[MatrixShape], int, int]:
    """Return q, k, v, o; MACs a position; elements that the cache keeps a position."""
    hidden, (heads, kv_heads, width) = c("hidden_size"), c.heads
    q, kv = heads * width, kv_heads * width
    matrices = [
        MatrixShape(f"{at}.self_attn.q_proj", "q", hidden, q, 0),
        MatrixShape(f"{at}.self_attn.k_proj", "k", hidden, kv, 0),
        MatrixShape(f"{at}.self_attn.v_proj", "v", hidden, kv, 0),
        MatrixShape(f"{at}.self_attn.o_proj", "o", q, hidden, 1),
    ]
    return matrices, 2 * q, 2 * kv


def _gated(
    at: str, hidden: int, inner: int, stage: int, count: int = 1, active: int = 1
) -> list[MatrixShape]:
    return [
        MatrixShape(f"{at}.gate_proj", "gate", hidden, inner, stage, count, active),
        MatrixShape(f"{at}.up_proj", "up", hidden, inner, stage, count, active),
        MatrixShape(f"{at}.down_proj", "down", inner, hidden, stage + 1, count, active),
    ]


def _window(c: _Config, layer: int) -> int | None:
    """Return positions that a layer sees; None: all."""
    window, kinds = c.table.get("sliding_window"), c.table.get("layer_types")
    if not isinstance(window, int) or not c.flag("use_sliding_window", True):
        return None
    if isinstance(kinds, list) and layer < len(kinds):
        return window if kinds[layer] == "sliding_attention" else None
    if c.table["model_type"] == "gemma3_text":  # every sixth layer sees everything
        every = c("sliding_window_pattern", "_sliding_window_pattern", default=6)
        return window if (layer + 1) % every else None
    return (
        None
        if c.table["model_type"] in ("qwen2", "qwen3") and "use_sliding_window" not in c.table
        else window
    )


def _dense(config: dict[str, Any], name: str) -> ModelShapes:
    c = _Config(config)

    def layer(i: int) -> Layer:
        at = f"model.layers.{i}"
        attention, macs, kv = _split_attention(c, at)
        mlp = _gated(f"{at}.mlp", c("hidden_size"), c("intermediate_size"), 2)
        return Layer((*attention, *mlp), 0, macs, kv, _window(c, i))

    return _model(
        c, name, map(layer, range(c("num_hidden_layers"))), c.flag("tie_word_embeddings"), c("hidden_size")
    )


def _gemma3(config: dict[str, Any], name: str) -> ModelShapes:
    """Gemma's config.json leaves out what equals the defaults of its class."""
    usual = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208}
    return _dense({**usual, "tie_word_embeddings": True, **config, "model_type": "gemma3_text"}, name)


def _phi3(config: dict[str, Any], name: str) -> ModelShapes:
    c = _Config(config)
    hidden, inner, (heads, kv_heads, width) = c("hidden_size"), c("intermediate_size"), c.heads
    q, kv = heads * width, kv_heads * width

    def layer(i: int) -> Layer:
        at = f"model.layers.{i}"
        matrices = (
            MatrixShape(f"{at}.self_attn.o_proj", "o", q, hidden, 1),
            MatrixShape(f"{at}.self_attn.qkv_proj", "qkv", hidden, q + 2 * kv, 0),
            MatrixShape(f"{at}.mlp.gate_up_proj", "gate_up", hidden, 2 * inner, 2),
            MatrixShape(f"{at}.mlp.down_proj", "down", inner, hidden, 3),
        )
        return Layer(matrices, 0, 2 * q, 2 * kv, _window(c, i))

    return _model(c, name, map(layer, range(c("num_hidden_layers"))), c.flag("tie_word_embeddings"), hidden)


def _gpt2(config: dict[str, Any], name: str) -> ModelShapes:
    """``split_qkv`` (a key of the catalogue): q, k and v are cut into tiles each for itself, not as one matrix."""
    c = _Config(config)
    hidden = c("n_embd", "hidden_size")
    inner = c("n_inner", default=4 * hidden)

    def layer(i: int) -> Layer:
        at = f"transformer.h.{i}"
        split = [MatrixShape(f"{at}.attn.{role}", role, hidden, hidden, 0) for role in ("q", "k", "v")]
        fused = [MatrixShape(f"{at}.attn.c_attn", "qkv", hidden, 3 * hidden, 0)]
        matrices = (
            *(split if c.flag("split_qkv") else fused),
            MatrixShape(f"{at}.attn.c_proj", "o", hidden, hidden, 1),
            MatrixShape(f"{at}.mlp.c_fc", "up", hidden, inner, 2),
            MatrixShape(f"{at}.mlp.c_proj", "down", inner, hidden, 3),
        )
        return Layer(matrices, 0, 2 * hidden, 2 * hidden)

    layers = c("n_layer", "num_hidden_layers")
    return _model(c, name, map(layer, range(layers)), c.flag("tie_word_embeddings", True), hidden)


def _mixture(config: dict[str, Any], name: str) -> ModelShapes:
    """Mixtral, Qwen2-MoE, Qwen3-MoE: experts instead of the gated block, in all layers or in some."""
    c = _Config(config)
    hidden, experts = c("hidden_size"), c("num_local_experts", "num_experts")
    active = c("num_experts_per_tok")
    inner = c("moe_intermediate_size", "intermediate_size")
    shared = c.table.get("shared_expert_intermediate_size")
    dense = set(c.table.get("mlp_only_layers") or ())
    step = c("decoder_sparse_step", default=1)
    at_mlp = "block_sparse_moe" if c.table["model_type"] == "mixtral" else "mlp"

    def layer(i: int) -> Layer:
        at = f"model.layers.{i}"
        matrices, macs, kv = _split_attention(c, at)
        if i in dense or (i + 1) % step:
            matrices += _gated(f"{at}.mlp", hidden, c("intermediate_size"), 2)
            return Layer(tuple(matrices), 0, macs, kv, _window(c, i))
        matrices += _gated(f"{at}.{at_mlp}.experts.0", hidden, inner, 2, experts, active)
        router = hidden * experts
        if shared:
            matrices += _gated(f"{at}.mlp.shared_expert", hidden, c("shared_expert_intermediate_size"), 2)
            router += hidden  # the gate of the shared expert
        return Layer(tuple(matrices), 0, macs, kv, _window(c, i), router)

    return _model(c, name, map(layer, range(c("num_hidden_layers"))), c.flag("tie_word_embeddings"), hidden)


def _latent(config: dict[str, Any], name: str) -> ModelShapes:
    """DeepSeek-V2/V3 and Kimi-K2: attention through a latent vector, which is all that the cache keeps.

    kv_b_proj is then applied to queries and outputs instead of to every position: the same weights, once a token.
    """
    c = _Config(config)
    hidden, heads = c("hidden_size"), c("num_attention_heads")
    latent, rope = c("kv_lora_rank"), c("qk_rope_head_dim")
    nope, value = c("qk_nope_head_dim"), c("v_head_dim")
    experts, shared = c("n_routed_experts"), config.get("n_shared_experts") or 0
    active, inner = c("num_experts_per_tok"), c("moe_intermediate_size")
    first_dense = int(config.get("first_k_dense_replace") or 0)

    def layer(i: int) -> Layer:
        at = f"model.layers.{i}"
        attn = f"{at}.self_attn"
        if config.get("q_lora_rank"):
            rank = c("q_lora_rank")
            queries = [
                MatrixShape(f"{attn}.q_a_proj", "q_a", hidden, rank, 0),
                MatrixShape(f"{attn}.q_b_proj", "q_b", rank, heads * (nope + rope), 1),
            ]
        else:
            queries = [MatrixShape(f"{attn}.q_proj", "q", hidden, heads * (nope + rope), 1)]
        matrices = [
            *queries,
            MatrixShape(f"{attn}.kv_a_proj_with_mqa", "kv_a", hidden, latent + rope, 0),
            MatrixShape(f"{attn}.kv_b_proj", "kv_b", latent, heads * (nope + value), 1),
            MatrixShape(f"{attn}.o_proj", "o", heads * value, hidden, 2),
        ]
        macs, kv = heads * (2 * latent + rope), latent + rope
        if i < first_dense:
            matrices += _gated(f"{at}.mlp", hidden, c("intermediate_size"), 3)
            return Layer(tuple(matrices), 1, macs, kv)
        matrices += _gated(f"{at}.mlp.experts.0", hidden, inner, 3, experts, active)
        if shared:
            matrices += _gated(f"{at}.mlp.shared_experts", hidden, inner * int(shared), 3)
        return Layer(tuple(matrices), 1, macs, kv, None, hidden * experts)

    return _model(c, name, map(layer, range(c("num_hidden_layers"))), c.flag("tie_word_embeddings"), hidden)


SHAPES: dict[str, Callable[[dict[str, Any], str], ModelShapes]] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3"), _dense),
    "phi3": _phi3,
    "gemma3_text": _gemma3,
    "gemma3": _gemma3,
    "gpt2": _gpt2,
    **dict.fromkeys(("mixtral", "qwen2_moe", "qwen3_moe"), _mixture),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "kimi_k2"), _latent),
}
