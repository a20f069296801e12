"""Sampling from a causal model: one loop for every architecture.

Order of operations as in the official Evo 2 code: top-k, then temperature, then top-p, then a draw. What is different
on purpose: a prompt's tokens depend on its own seed alone, never on the other prompts of the batch, and prompts of any
length from one token up are right with and without the cache (the original's cache is wrong below six tokens).
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm

from nexvar.engine import CHUNK
from nexvar.errors import NexVarError
from nexvar.load import Loaded
from nexvar.readout import next_token_log_probs


@dataclass
class Generation:
    """sequences: the new text alone. logprobs_mean: mean natural-log probability of the new tokens under the model
    itself (before top-k, temperature, top-p). logits: per prompt (n_tokens, V) float32, if asked for."""

    sequences: list[str]
    logprobs_mean: list[float]
    logits: list[Tensor] | None = None
    token_ids: list[list[int]] = field(default_factory=list)


def generate(
    loaded: Loaded,
    prompts: Sequence[str],
    *,
    n_tokens: int,
    temperature: float = 1.0,
    top_k: int = 4,
    top_p: float = 1.0,
    seed: int | None = None,
    cached: bool = True,
    return_logits: bool = False,
    progress: bool = False,
) -> Generation:
    """``n_tokens`` new tokens after each prompt (it never stops early, as the official code).

    top_k: 1 is greedy, 0 keeps every token. top_p: 1.0 keeps every token.
    seed: equal seeds give equal tokens, whatever else is in the batch; copies of one prompt get seed, seed + 1, …
    cached: False recomputes everything at each token, to check the cache.
    """
    _check(loaded, prompts, n_tokens, temperature, top_k, top_p)
    ids = [loaded.tokenizer.encode(prompt, special=False).ids for prompt in prompts]
    seeds = _seeds(prompts, secrets.randbits(48) if seed is None else seed)
    groups: dict[int, list[int]] = defaultdict(list)  # NOTE: equal lengths share a batch, so no row is ever padded
    for row, prompt_ids in enumerate(ids):
        groups[len(prompt_ids)].append(row)

    new: list[list[int]] = [[] for _ in prompts]
    means = [0.0] * len(prompts)
    kept: list[Tensor] = [torch.empty(0)] * len(prompts)
    with tqdm(total=n_tokens * len(groups), unit="token", disable=not progress, delay=2) as bar:
        for rows in groups.values():
            prompt_BL = torch.tensor([ids[row] for row in rows], device=loaded.device)
            draws = [torch.Generator().manual_seed(seeds[row]) for row in rows]
            tokens_BN, log_probs_BN, logits_BNV = _sample(
                loaded, prompt_BL, n_tokens, temperature, top_k, top_p, draws, cached, return_logits, bar
            )
            for i, row in enumerate(rows):
                new[row], means[row] = tokens_BN[i].tolist(), float(log_probs_BN[i].double().mean())
                if logits_BNV is not None:
                    kept[row] = logits_BNV[i]
    texts = [loaded.tokenizer.detokenize(tokens) for tokens in new]
    return Generation(texts, means, kept if return_logits else None, new)


@torch.inference_mode()
def _sample(
    loaded: Loaded,
    prompt_BL: Tensor,
    n_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    draws: list[torch.Generator],
    cached: bool,
    return_logits: bool,
    bar: tqdm,
) -> tuple[Tensor, Tensor, Tensor | None]:
    module, L = loaded.module, prompt_BL.shape[1]
    cache = module.new_cache(len(prompt_BL), L + n_tokens) if cached else None
    sequence, step = prompt_BL, prompt_BL
    log_probs, logits_kept = [], []
    for _ in range(n_tokens):
        if cached:
            for piece in (step,) if getattr(module, "bounded_forward", False) else step.split(CHUNK, dim=1):
                logits = module(piece, cache=cache, logits=slice(-1, None)).logits[:, -1].float()
        else:
            logits = module(sequence, logits=slice(-1, None)).logits[:, -1].float()
        uniform = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in draws])
        step = choose(logits, uniform.to(logits.device), temperature, top_k, top_p)[:, None]
        sequence = torch.cat([sequence, step], dim=1)
        log_probs.append(next_token_log_probs(logits[:, None], step)[:, 0])
        if return_logits:
            logits_kept.append(logits.cpu())
        bar.update()
    kept = torch.stack(logits_kept, dim=1) if return_logits else None
    return sequence[:, L:], torch.stack(log_probs, dim=1), kept


def choose(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """(B,) token ids: the inverse of the cumulative distribution at ``uniform_B`` (float64 in [0, 1))."""
    logits = torch.nan_to_num(logits_BV.float())
    if top_k == 1:
        return logits.argmax(-1)
    ordered, tokens = logits.sort(dim=-1, descending=True, stable=True)
    if top_k > 0:
        ordered, tokens = ordered[:, :top_k], tokens[:, :top_k]
    probabilities = (ordered.double() / temperature).softmax(-1)
    if top_p < 1.0:
        mass_before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.masked_fill(mass_before >= top_p, 0.0)
    cumulative = probabilities.cumsum(-1)
    pick = (cumulative < (uniform_B.double() * cumulative[:, -1])[:, None]).sum(-1)
    return tokens.gather(1, pick[:, None])[:, 0]


def _seeds(prompts: Sequence[str], seed: int) -> list[int]:
    copies: dict[str, int] = defaultdict(int)
    seeds = []
    for prompt in prompts:
        seeds.append(seed + copies[prompt])
        copies[prompt] += 1
    return seeds


def _check(
    loaded: Loaded, prompts: Sequence[str], n_tokens: int, temperature: float, top_k: int, top_p: float
) -> None:
    if isinstance(prompts, str):
        raise NexVarError("prompt_seqs is one string", where="prompt_seqs", fix="give a list of strings")
    if loaded.card.objective != "causal":
        raise NexVarError(
            f"{loaded.card.name} is a masked model and cannot generate left to right", fix="use a causal model"
        )
    for i, prompt in enumerate(prompts):
        if not prompt:
            raise NexVarError("empty prompt", where=f"prompt_seqs[{i}]", fix="give at least one base")
        if len(prompt) + n_tokens > loaded.card.context:
            raise NexVarError(
                f"{len(prompt):,} prompt bases and {n_tokens:,} new ones exceed the context of"
                f" {loaded.card.context:,}",
                where=f"prompt_seqs[{i}]",
                fix="shorten the prompt or n_tokens",
            )
    for name, value, good, allowed in (
        ("n_tokens", n_tokens, n_tokens >= 1, "at least 1"),
        ("temperature", temperature, 0 < temperature < float("inf"), "above 0 (top_k=1 is greedy)"),
        ("top_k", top_k, top_k >= 0, "0 (no limit) or more"),
        ("top_p", top_p, 0 < top_p <= 1, "above 0 and at most 1"),
    ):
        if not good:
            raise NexVarError(f"{name} is {value}", where=name, fix=f"it must be {allowed}")
