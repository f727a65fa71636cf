"""A small language model made on the spot, for a clone that has none: a Llama trained on stories from a little grammar.

The stories are simple but not flat: a name, a thing and a place come back over several sentences, pronouns agree with
names, and what was lost is what is found. Everything is drawn with the keyed generator, so the model is the same again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from aimc_sim.kernels.normal import normals
from aimc_sim.randomness import key_of
from aimc_sim.torch_bridge.sampling import uniforms

Progress = Callable[[str, int, int], None]

NAMES = {
    "Tim": "he",
    "Ben": "he",
    "Tom": "he",
    "Max": "he",
    "Lily": "she",
    "Mia": "she",
    "Sue": "she",
    "Anna": "she",
}
OBJECTIVE = {"he": "him", "she": "her"}
POSSESSIVE = {"he": "his", "she": "her"}
THINGS = (
    "ball boat book box cake car coat doll drum flag hat key kite lamp ring ship shoe toy train cup".split()
)
COLOURS = "red blue green yellow black white small big old new soft shiny".split()
PLACES = "garden park house forest school farm river beach market kitchen yard hill".split()
ANIMALS = "dog cat bird fox bear frog duck horse mouse rabbit".split()
FEELINGS = "happy sad proud scared tired brave kind angry".split()
MOVES = "ran walked went jumped hurried".split()
SEEKS = "looked searched waited asked cried".split()
ENDS = ("They were friends forever .", "It was a good day .", "Then it was time to sleep .", "The end .")
LENGTH, SEQUENCES, STEPS, RATE = 128, 16, 900, 3e-3
DRAWS = 40  # at most in one story
STORIES = 20_000


def stories(first: int, count: int, seed: int) -> list[str]:
    """Stories first … first + count − 1 of the grammar, words and punctuation apart."""
    numbers = np.arange(first, first + count, dtype=np.int64)
    table = np.stack([uniforms(numbers, position, seed) for position in range(1, DRAWS + 1)], axis=1)
    return [_story(row) for row in table]


def _story(row: npt.NDArray[np.float64]) -> str:
    draws = iter(row)

    def one(options: list[str] | tuple[str, ...]) -> str:
        return options[int(next(draws) * len(options))]

    name, friend = one(list(NAMES)), one(list(NAMES))
    he, him, his = NAMES[name], OBJECTIVE[NAMES[name]], POSSESSIVE[NAMES[name]]
    thing, colour, place, animal = one(THINGS), one(COLOURS), one(PLACES), one(ANIMALS)
    parts = [
        f"Once there was a {one(FEELINGS)} {'boy' if he == 'he' else 'girl'} named {name} .",
        f"{name} had a {colour} {thing} .",
        f"One day {he} {one(MOVES)} to the {place} with {his} {thing} .",
    ]
    if next(draws) < 0.7:
        parts.append(f"There {he} saw a {one(COLOURS)} {animal} .")
        parts.append(f"The {animal} was {one(FEELINGS)} and took the {thing} .")
        parts.append(f"{name} {one(SEEKS)} for the {colour} {thing} but the {animal} {one(MOVES)} away .")
        parts.append(f'" Please give me my {thing} , " said {name} .')
    else:
        parts.append(f"But in the {place} {name} lost the {colour} {thing} .")
        parts.append(f"{name} was {one(FEELINGS)} and {one(SEEKS)} for it .")
    if next(draws) < 0.6:
        other = NAMES[friend]
        parts.append(f"Then {friend} came to the {place} and helped {him} .")
        parts.append(
            f'" I will find your {thing} , " said {friend} and {other} {one(MOVES)} to the {one(PLACES)} .'
        )
        parts.append(f"{friend} found the {colour} {thing} and gave it to {name} .")
    else:
        parts.append(f"At last {he} found {his} {colour} {thing} near the {one(PLACES)} .")
    parts.append(f"{name} was very {one(FEELINGS)} .")
    parts.append(one(ENDS))
    return " ".join(parts)


def make(
    folder: Path,
    *,
    seed: int = 0,
    steps: int = STEPS,
    sequences: int = SEQUENCES,
    count: int = STORIES,
    progress: Progress | None = None,
) -> tuple[Path, Path]:
    """Train the model and write it as a Hugging Face folder, with stories it has not seen → (model, text)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    where, text = folder / "model", folder / "held-out.txt"
    texts = stories(0, count, seed)
    words = sorted({word for line in texts for word in line.split()})
    tokenizer = _tokenizer(words)
    config = LlamaConfig(
        vocab_size=len(words) + 3, hidden_size=64, intermediate_size=172, num_hidden_layers=4,
        num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=512,
        bos_token_id=1, eos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    _initialise(model, seed)
    ids = _rows(tokenizer, texts)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = min(50, -(-steps // 4))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / warmup) * (1 - step / steps)
        rows = ids[np.arange(step * sequences, (step + 1) * sequences) % len(ids)]
        batch = torch.from_numpy(rows.astype(np.int64))
        logits = model(input_ids=batch, use_cache=False).logits
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if progress is not None:
            progress("training a small model", step + 1, steps)
    model.eval().save_pretrained(where)
    tokenizer.save_pretrained(where)
    text.write_text("\n".join(stories(1_000_000, 150, seed)) + "\n", "utf-8")
    return where, text


def _tokenizer(words: list[str]):  # type: ignore[no-untyped-def]
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def _rows(tokenizer, texts: list[str]) -> np.ndarray:  # type: ignore[no-untyped-def,type-arg]
    """Stories one after the other, in rows that begin with BOS: (rows, LENGTH) int32."""
    found = tokenizer(texts, add_special_tokens=False)["input_ids"]
    flat = np.fromiter((token for line in found for token in line), np.int32)
    body = LENGTH - 1
    rows = flat[: len(flat) // body * body].reshape(-1, body)
    return np.concatenate([np.ones((len(rows), 1), np.int32), rows], axis=1)


@torch.no_grad()
def _initialise(model: torch.nn.Module, seed: int) -> None:
    for ordinal, parameter in enumerate(model.parameters()):
        if parameter.ndim == 1:  # norms begin at one
            parameter.fill_(1.0)
            continue
        counter = np.zeros((-(-parameter.numel() // 4), 4), np.uint32)
        counter[:, 0], counter[:, 1] = np.arange(len(counter)), ordinal
        z = normals(counter, key_of(seed)).ravel()[: parameter.numel()].reshape(parameter.shape)
        parameter.copy_(torch.from_numpy(z * 0.05))
