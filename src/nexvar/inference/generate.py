"""Sampling from a causal model: one loop for every architecture.

    prompts ── groups of one length ── prefill (in pieces, equal prompts once) ── cache ─┬─ logits ── choose ── token ─┐
                                                                                        └─────────────────────────────┘
How a token is drawn: core/sampling.py; with a guide: core/guidance.py. What is different from the official Evo 2 code
on purpose: a prompt's tokens depend on its own seed alone, never on the other prompts of the batch, and prompts of any
length from one token up are right with and without the cache (the original's cache is wrong below six tokens).
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from tqdm import tqdm

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.inference.core.batching import default_batch_tokens, out_of_memory, run_fitting
from nexvar.inference.core.guidance import Guidance, guided
from nexvar.inference.core.sampling import Sampling, draw, prefill
from nexvar.inference.core.sequences import clean
from nexvar.weights.load import Loaded

MOST_SEED = (1 << 44) - 1
MOST_ROWS = 64  # sequences that decode together


@dataclass
class Generation:
    """sequences: the new text alone. logprobs_mean: mean natural-log probability of the new tokens under the model
    itself (before alphabet, top-k, temperature, top-p); logprobs: of each token, (n,) float32. logits: per prompt (n,
    V) float32, if asked for. left_out: tokens of each that are no text (end of document, control characters) and do not
    show in its sequence, but for one that ended it. stopped: what ended each (a string, a token id), None:
    ``n_tokens``. guide_scores, beams: of guided generation, the best beam's score and all (text, score), best first."""

    sequences: list[str]
    logprobs_mean: list[float]
    logits: list[Tensor] | None = None
    token_ids: list[list[int]] = field(default_factory=list)
    logprobs: list[Tensor] = field(default_factory=list)
    stopped: list[str | int | None] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    guide_scores: list[float] | None = None
    beams: list[list[tuple[str, float]]] | None = None


@dataclass(frozen=True)
class Token:
    """One new token of one prompt, as ``stream`` gives them. stopped: what ends this prompt here, if anything.

    logits: those it was drawn from, before alphabet, top-k and temperature, if asked for: (V,) float32 on the CPU.
    """

    prompt: int
    text: str
    token_id: int
    log_prob: float
    stopped: str | int | None = None
    logits: Tensor | None = field(default=None, compare=False)


def generate(
    loaded: Loaded,
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    seed: int | None = None,
    guidance: Guidance | None = None,
    return_logits: bool = False,
    progress: bool = False,
) -> Generation:
    """Up to ``sampling.n_tokens`` new tokens after each prompt.

    seed: equal seeds give equal tokens, whatever else is in the batch; copies of one prompt get seed, seed + 1, …
    guidance: a beam search instead, which has no stop conditions and keeps no logits.
    """
    n_tokens, prompts = sampling.n_tokens, arguments.a_list(prompts, "prompt_seqs")
    return_logits = arguments.flag(return_logits, "return_logits")
    ids, seeds = _prepare(loaded, prompts, sampling, seed)
    if guidance is not None:
        if sampling.stops or return_logits:
            raise NexVarError("guided generation has no stop conditions and keeps no logits", where="guide")
        return _guided_all(loaded, prompts, ids, seeds, sampling, guidance, progress)

    new: list[list[Token]] = [[] for _ in prompts]
    kept: list[list[Tensor]] = [[] for _ in prompts]
    with tqdm(total=n_tokens * len(prompts), unit="token", disable=not progress, delay=2) as bar:

        def compute(rows: list[int]) -> list[None]:
            for row in rows:
                new[row], kept[row] = [], []
            for tokens, logits_BV in _sample(loaded, [ids[r] for r in rows], [seeds[r] for r in rows], rows, sampling):
                for i, token in enumerate(tokens):
                    new[token.prompt].append(token)
                    if return_logits:
                        kept[token.prompt].append(logits_BV[i].cpu())
                bar.update(len(tokens))
            return [None] * len(rows)

        for rows in _batches(loaded, ids, n_tokens):
            run_fitting(loaded, rows, compute, lambda r: [r], lambda parts: None, lambda r: len(ids[r]) + n_tokens)
    logprobs = [torch.tensor([token.log_prob for token in tokens]) for tokens in new]
    return Generation(
        sequences=["".join(token.text for token in tokens) for tokens in new],
        logprobs_mean=[float(values.double().mean()) for values in logprobs],
        logits=[torch.stack(rows) for rows in kept] if return_logits else None,
        token_ids=[[token.token_id for token in tokens] for tokens in new],
        logprobs=logprobs,
        stopped=[tokens[-1].stopped for tokens in new],
        left_out=[sum(not t.text and not isinstance(t.stopped, int) for t in tokens) for tokens in new],
    )


def left_out_line(made: Generation, every: str) -> str | None:
    """What a user must be told of tokens that are no text; None if there is nothing. every: how all were asked for."""
    if not any(made.left_out):
        return None
    tokens = sum(map(len, made.token_ids))
    return (
        f"{sum(made.left_out):,} of {tokens:,} new tokens are no letters and do not show in the sequences "
        f"(their ids are in token_ids; {every} draws every token, 'ACGT' bases only)"
    )


def stream(
    loaded: Loaded,
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    seed: int | None = None,
    return_logits: bool = False,
) -> Iterator[Token]:
    """The tokens of ``generate``, each as soon as it is drawn; prompts of one length take turns."""
    prompts = arguments.a_list(prompts, "prompt_seqs")
    ids, seeds = _prepare(loaded, prompts, sampling, seed)

    def tokens() -> Iterator[Token]:
        for rows in _batches(loaded, ids, sampling.n_tokens):
            try:
                steps = _sample(loaded, [ids[r] for r in rows], [seeds[r] for r in rows], rows, sampling)
                for drawn, logits_BV in steps:
                    if return_logits:
                        drawn = [replace(token, logits=row) for token, row in zip(drawn, logits_BV.cpu(), strict=True)]
                    yield from drawn
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                raise NexVarError(
                    f"{len(rows)} sequences of {len(ids[rows[0]]) + sampling.n_tokens:,} tokens do not fit in the "
                    f"memory of {loaded.device}",
                    fix="fewer prompts at once, or a larger device",
                ) from error

    return tokens()  # NOTE: not itself a generator, so that bad input raises at the call


def _prepare(
    loaded: Loaded, prompts: Sequence[str], sampling: Sampling, seed: int | None
) -> tuple[list[list[int]], list[int]]:
    """Token ids and seed of each prompt; NexVarError for bad ones."""
    if loaded.card.objective != "causal":
        raise NexVarError(
            f"{loaded.card.name} is a masked model and cannot generate left to right",
            where="model",
            fix="use a causal model, or `fill` a sequence with N",
        )
    loaded.need_head("generate")
    texts = [clean(loaded, prompt, f"prompt_seqs[{i}]", more=sampling.n_tokens) for i, prompt in enumerate(prompts)]
    sampling.allowed(loaded)
    return [loaded.tokenizer.encode(text, special=False).ids for text in texts], _seeds(texts, seed)


def _seeds(prompts: Sequence[str], seed: int | None) -> list[int]:
    first = secrets.randbits(40) if seed is None else arguments.whole(seed, "seed", 0, MOST_SEED)
    copies: dict[str, int] = defaultdict(int)
    seeds = []
    for prompt in prompts:
        seeds.append(first + copies[prompt])
        copies[prompt] += 1
    return seeds


def _batches(loaded: Loaded, ids: Sequence[Sequence[int]], n_tokens: int) -> Iterator[list[int]]:
    """Prompts that run together. NOTE: of equal lengths, so that no row is ever padded."""
    groups: dict[int, list[int]] = defaultdict(list)
    for row, prompt_ids in enumerate(ids):
        groups[len(prompt_ids)].append(row)
    for length, rows in groups.items():
        size = max(1, min(MOST_ROWS, 8 * default_batch_tokens(loaded) // (length + n_tokens)))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def _sample(
    loaded: Loaded, ids: Sequence[Sequence[int]], seeds: Sequence[int], names: Sequence[int], sampling: Sampling
) -> Iterator[tuple[list[Token], Tensor]]:
    """Step by step the new tokens of the prompts that go on, and the logits (B, V) they were drawn from."""
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    texts = [""] * len(ids)
    going = list(range(len(ids)))
    allowed = sampling.allowed(loaded)
    walk, logits = prefill(loaded, ids, sampling)
    for step in range(sampling.n_tokens):
        if step:
            logits = walk.logits()
        tokens_B, log_probs_B = draw(logits, [draws[row] for row in going], allowed, sampling)
        drawn = []
        for row, id_, log_prob in zip(going, tokens_B.tolist(), log_probs_B.tolist(), strict=True):
            text = loaded.tokenizer.detokenize([id_])
            texts[row] += text
            drawn.append(Token(names[row], text, id_, log_prob, _stopped(texts[row], id_, sampling.stops)))
        yield drawn, logits
        on = [i for i, token in enumerate(drawn) if token.stopped is None]
        if not on or step + 1 == sampling.n_tokens:
            return
        walk.append(tokens_B)
        walk.select(on)
        going = [going[i] for i in on]


def _stopped(text: str, id_: int, stops: Sequence[str | int]) -> str | int | None:
    return next((s for s in stops if (text.endswith(s) if isinstance(s, str) else id_ == s)), None)


def _guided_all(
    loaded: Loaded,
    prompts: Sequence[str],
    ids: list[list[int]],
    seeds: list[int],
    sampling: Sampling,
    guidance: Guidance,
    progress: bool,
) -> Generation:
    """``generate`` by beam search, prompt by prompt; what it gives of a prompt is its best beam."""
    every = []
    with tqdm(total=sampling.n_tokens * len(ids), unit="token", disable=not progress, delay=2) as bar:
        for prompt, prompt_ids, seed in zip(prompts, ids, seeds, strict=True):
            every.append(guided(loaded, prompt, prompt_ids, seed, sampling, guidance, bar))
    best = [beams[0] for beams in every]
    return Generation(
        sequences=[b.text for b in best],
        logprobs_mean=[sum(b.log_probs) / len(b.log_probs) for b in best],
        token_ids=[b.ids for b in best],
        logprobs=[torch.tensor(b.log_probs) for b in best],
        stopped=[None] * len(best),
        left_out=[sum(not loaded.tokenizer.detokenize([id_]) for id_ in b.ids) for b in best],
        guide_scores=[b.score for b in best],
        beams=[[(b.text, b.score) for b in beams] for beams in every],
    )
