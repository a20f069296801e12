"""Filling in the N of a sequence with a masked model: the most certain ones first, or all at once.

    ACGTNNNACGT ── tokens, those over an N masked ── model ── p(base | all the rest) ── best or drawn ── ACGTCCAACGT
                         └── repeated: the tokens that are filled in become known ──┘

Single-base tokenizers: one mask for each N. k-mer tokenizers (Nucleotide Transformer): the sequence keeps the frame it
would have without any N, a k-mer over an N is masked as a whole, and only k-mers that agree with its known bases count.
BPE (DNABERT-2): one mask for each N, filled with the four tokens of one base; longer tokens are not considered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.inference.core.batching import run_fitting
from nexvar.inference.core.sequences import clean
from nexvar.tokenizers import BpeTokenizer, KmerTokenizer
from nexvar.weights.load import Loaded

BASES = "ACGT"


@dataclass(frozen=True)
class Filled:
    """One sequence without its N.

    positions: where they were, from 0. probabilities: (n, 4), of A, C, G, T at each, given what was known when it was
    filled. log_probs: (n,) natural log of the chosen base's. score: sum over the tokens of log p(what was chosen), the
    known bases of a k-mer being given.
    """

    sequence: str
    positions: list[int]
    probabilities: np.ndarray
    log_probs: np.ndarray
    score: float


@dataclass(frozen=True)
class _Unknown:
    """A token to fill: its index, the bases it covers, and the choices: token ids with their texts."""

    token: int
    start: int
    choices: list[tuple[int, str]]


def fill(
    loaded: Loaded,
    seqs: Sequence[str],
    *,
    steps: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[Filled]:
    """Every N of every sequence replaced by A, C, G or T.

    steps: forwards a sequence; 1 fills everything at once, None one token at a time, the most certain first.
    temperature: 0 takes the most probable; otherwise drawn from p^(1 / temperature), by ``seed``.
    Raises NexVarError: a causal model, a sequence without N, bad sequences.
    """
    seqs = arguments.a_list(seqs, "seqs")
    if loaded.card.objective != "masked":
        what = f"{loaded.card.name} is a causal model and cannot fill in"
        raise NexVarError(what, where="model", fix="use a masked model, or `generate`")
    loaded.need_head("fill")
    steps = None if steps is None else arguments.whole(steps, "steps", 1)
    temperature = arguments.number(temperature, "temperature", "0 or more", 0)
    seed = arguments.whole(seed, "seed", 0, (1 << 63) - 1)
    texts = [clean(loaded, seq, f"seqs[{i}]") for i, seq in enumerate(seqs)]
    for i, text in enumerate(texts):
        if set(text) - set("ACGTN") or "N" not in text:
            what = "there is no N to fill in" if "N" not in text else "special tokens"
            raise NexVarError(what, where=f"seqs[{i}]", fix="bases, and N where one is to be filled in")

    def compute(batch: list[str]) -> list[Filled]:
        return [_fill_one(loaded, text, steps, temperature, torch.Generator().manual_seed(seed)) for text in batch]

    return [run_fitting(loaded, [t], compute, lambda j: [j], lambda parts: parts[0], len)[0] for t in texts]


@torch.inference_mode()
def _fill_one(loaded: Loaded, text: str, steps: int | None, temperature: float, draw: torch.Generator) -> Filled:
    """Each round fills the tokens that the model is surest of, so many that ``steps`` rounds are enough."""
    ids, unknown = _mask(loaded, text)
    rounds = len(unknown) if steps is None else min(steps, len(unknown))
    letters = list(text)
    probabilities: dict[int, Tensor] = {}
    score = 0.0
    ids_1L = torch.tensor([ids], device=loaded.device)
    for round_ in range(rounds):
        logits = loaded.module(ids_1L).logits[0]
        distributions = [_distribution(logits[u.token], u) for u in unknown]
        count = math.ceil(len(unknown) / (rounds - round_))
        surest = sorted(range(len(unknown)), key=lambda i: -float(distributions[i].max()))[:count]
        for i in surest:
            u, p = unknown[i], distributions[i]
            pick = _pick(p, temperature, draw)
            token, piece = u.choices[pick]
            ids_1L[0, u.token] = token
            score += float(p[pick].log())
            for offset, letter in enumerate(piece):
                if text[u.start + offset] == "N":
                    letters[u.start + offset] = letter
                    probabilities[u.start + offset] = _of_base(p, u, offset)
        unknown = [u for i, u in enumerate(unknown) if i not in surest]
    positions = [i for i, letter in enumerate(text) if letter == "N"]
    table = torch.stack([probabilities[i] for i in positions]).numpy()
    chosen = np.array([BASES.index(letters[i]) for i in positions])
    log_probs = np.log(np.maximum(table[np.arange(len(positions)), chosen], 1e-300))
    return Filled("".join(letters), positions, table, log_probs, score)


def _mask(loaded: Loaded, text: str) -> tuple[list[int], list[_Unknown]]:
    """Token ids with masks, and what each mask may become."""
    tokenizer, special = loaded.tokenizer, loaded.card.special_tokens
    mask = tokenizer.mask_id
    if mask is None:
        raise NexVarError(f"the tokenizer of {loaded.card.name} has no mask token", fix="another model")
    if isinstance(tokenizer, KmerTokenizer):
        encoded = tokenizer.encode(text.replace("N", "A"), special=special)
        ids = list(encoded.ids)
        unknown = []
        for i, (start, end) in enumerate(encoded.spans):
            if "N" in text[start:end]:
                ids[i] = mask
                unknown.append(_Unknown(i, start, _kmers(tokenizer, text[start:end])))
        return ids, unknown
    if isinstance(tokenizer, BpeTokenizer):
        single = [(tokenizer.encode(base, special=False).ids, base) for base in BASES]
        choices = [(ids[0], base) for ids, base in single if len(ids) == 1]
        encoded = tokenizer.encode(text.replace("N", "[MASK]"), special=special)
        places = [i for i, letter in enumerate(text) if letter == "N"]
        masked = [i for i, id_ in enumerate(encoded.ids) if id_ == mask]
        if len(choices) < len(BASES) or len(masked) != len(places):
            raise NexVarError(f"the vocabulary of {loaded.card.name} lacks single bases", fix="another model")
        return list(encoded.ids), [_Unknown(i, place, choices) for i, place in zip(masked, places, strict=True)]
    bases = tokenizer.base_ids()
    assert bases is not None  # every other tokenizer has one token a base
    encoded = tokenizer.encode(text, special=special)
    over = {start: i for i, (start, end) in enumerate(encoded.spans) if end > start}
    ids = list(encoded.ids)
    unknown = []
    for place, letter in enumerate(text):
        if letter == "N":
            ids[over[place]] = mask
            unknown.append(_Unknown(over[place], place, [(bases[base], base) for base in BASES]))
    return ids, unknown


def _kmers(tokenizer: KmerTokenizer, pattern: str) -> list[tuple[int, str]]:
    """The tokens of this length that agree with the known bases of ``pattern``."""
    texts = [""]
    for letter in pattern:
        texts = [text + base for text in texts for base in (BASES if letter == "N" else letter)]
    return [(tokenizer.ids[text], text) for text in texts]


def _distribution(logits_V: Tensor, unknown: _Unknown) -> Tensor:
    """(choices,) float64 on the CPU: the softmax over the choices alone."""
    ids = torch.tensor([id_ for id_, _ in unknown.choices], device=logits_V.device)
    return logits_V[ids].double().cpu().softmax(-1)


def _pick(probabilities: Tensor, temperature: float, draw: torch.Generator) -> int:
    if temperature == 0:
        return int(probabilities.argmax())
    return int(torch.multinomial((probabilities.log() / temperature).softmax(-1), 1, generator=draw))


def _of_base(probabilities: Tensor, unknown: _Unknown, offset: int) -> Tensor:
    """(4,): the probability of A, C, G, T at one offset of the token, the others summed out."""
    letters = torch.tensor([BASES.index(text[offset]) for _, text in unknown.choices])
    return torch.zeros(4, dtype=torch.float64).index_add(0, letters, probabilities)
