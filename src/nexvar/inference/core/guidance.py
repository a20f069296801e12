"""Beam search in chunks (Brixi et al. 2025, "inference-time search"): the model proposes, a guide alone chooses.

beams ── each continued `branches` times by `chunk` sampled tokens ── guide scores all the new text ── best `beam` go on
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.inference.core.sampling import Sampling, draw, prefill
from nexvar.weights.load import Loaded

# What a guide is: (prompt, candidates) -> a score for each candidate; higher is better.
Guide = Callable[[str, list[str]], Sequence[float]]


@dataclass(frozen=True)
class Guidance:
    """Every ``chunk`` tokens each of ``beam`` sequences has ``branches`` continuations; the guide says which go on."""

    guide: Guide
    beam: int = 2
    branches: int = 4
    chunk: int = 128

    def __post_init__(self) -> None:
        if not callable(self.guide):
            raise NexVarError(f"guide is {arguments.described(self.guide)}", where="guide", fix="give a function")
        for name in ("beam", "branches", "chunk"):
            object.__setattr__(self, name, arguments.whole(getattr(self, name), name, 1))


@dataclass
class Beam:
    """New text after a prompt, so far. log_probs: of each token under the model; score: the guide's."""

    text: str
    ids: list[int]
    log_probs: list[float]
    score: float = 0.0


def guided(
    loaded: Loaded,
    prompt: str,
    prompt_ids: Sequence[int],
    seed: int,
    sampling: Sampling,
    guidance: Guidance,
    bar: tqdm,
) -> list[Beam]:
    """The beams after one prompt, best first. bar: goes on by one for each token of a beam's length."""
    allowed = sampling.allowed(loaded)
    slots = guidance.beam * guidance.branches
    draws = [torch.Generator().manual_seed((seed << 16) + slot) for slot in range(slots)]
    walk, logits = prefill(loaded, [prompt_ids], sampling)
    beams = [Beam("", [], [])]
    while (done := len(beams[0].ids)) < sampling.n_tokens:
        rows = [row for row in range(len(beams)) for _ in range(guidance.branches)]
        walk.select(rows)
        logits = logits[rows]
        candidates = [Beam(beams[row].text, list(beams[row].ids), list(beams[row].log_probs)) for row in rows]
        for step in range(min(guidance.chunk, sampling.n_tokens - done)):
            if step:
                logits = walk.logits()
            tokens_B, log_probs_B = draw(logits, draws[: len(rows)], allowed, sampling)
            walk.append(tokens_B)
            for one, id_, log_prob in zip(candidates, tokens_B.tolist(), log_probs_B.tolist(), strict=True):
                one.ids.append(id_)
                one.log_probs.append(log_prob)
                one.text += loaded.tokenizer.detokenize([id_])
            bar.update(1)
        for one, score in zip(candidates, _scores(guidance.guide, prompt, [c.text for c in candidates]), strict=True):
            one.score = score
        best = sorted(range(len(candidates)), key=lambda i: -candidates[i].score)[: guidance.beam]
        beams = [candidates[i] for i in best]
        if len(beams[0].ids) < sampling.n_tokens:
            walk.select(best)
            logits = walk.logits()
    return beams


def _scores(guide: Guide, prompt: str, texts: list[str]) -> list[float]:
    scores = [float(score) for score in guide(prompt, texts)]
    if len(scores) != len(texts) or any(score != score for score in scores):
        raise NexVarError(
            f"the guide gave {len(scores)} scores for {len(texts)} candidates, or one that is no number",
            where="guide",
            fix="guide(prompt, candidates) returns one number for each candidate",
        )
    return scores
