"""Sequences after prompts, whole or token by token."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nexvar.errors import NexVarError
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.core.tags import Taxonomy, phylogenetic_tag
from nexvar.inference.generate import Token, stream
from nexvar.serve import limits
from nexvar.serve.service.provenance import provenance
from nexvar.serve.service.score import finite
from nexvar.weights.load import Loaded


@dataclass(frozen=True)
class Ask:
    """What is to be generated. seed: None draws one, which the answer tells."""

    prompts: Sequence[str]
    sampling: Sampling
    seed: int | None = None


def tagged(
    prompts: Sequence[str], species: str | int | None, lineage: Mapping[str, str] | None, taxonomy: Taxonomy | None
) -> list[str]:
    """The prompts behind a phylogenetic tag: of a species in the server's taxonomy, or of a lineage."""
    if species is None and lineage is None:
        return list(prompts)
    if species is not None and lineage is not None:
        raise NexVarError("a species and a lineage", where="tag", fix="give one of them")
    if species is not None and taxonomy is None:
        fix = "give a lineage {domain, phylum, …}, or start the server with --taxonomy"
        raise NexVarError("this server has no taxonomy", where="tag.species", fix=fix)
    tag = phylogenetic_tag(lineage or {}) if taxonomy is None or species is None else taxonomy.tag(species)
    return [tag + prompt for prompt in prompts]


def generate(
    loaded: Loaded, ask: Ask, *, most_tokens: int, emit: Callable[[dict[str, Any]], None] = lambda token: None
) -> dict[str, Any]:
    """New sequences with the log-probabilities of their tokens: those of ``NexVar.generate``, by the same seed.

    emit: called with each token as it is drawn; what it raises ends the work.
    """
    if len(ask.prompts) > limits.PROMPTS:
        raise NexVarError(f"{len(ask.prompts)} prompts", where="prompts", fix=f"at most {limits.PROMPTS} at once")
    if ask.sampling.n_tokens > most_tokens:
        fix = f"at most {most_tokens:,} here (the server's --max-tokens)"
        raise NexVarError(f"n_tokens is {ask.sampling.n_tokens:,}", where="n_tokens", fix=fix)
    seed = secrets.randbits(40) if ask.seed is None else ask.seed
    tokens: list[list[Token]] = [[] for _ in ask.prompts]
    for token in stream(loaded, ask.prompts, ask.sampling, seed=seed):
        tokens[token.prompt].append(token)
        drawn = {"prompt": token.prompt, "text": token.text, "token_id": token.token_id}
        emit(drawn | {"logprob": finite(token.log_prob)})
    s = ask.sampling
    return {
        "sequences": ["".join(token.text for token in each) for each in tokens],
        "logprobs": [[finite(token.log_prob) for token in each] for each in tokens],
        "stopped": [each[-1].stopped for each in tokens],
        "left_out": [sum(not t.text and not isinstance(t.stopped, int) for t in each) for each in tokens],
        "seed": seed,
        "provenance": provenance(
            loaded, "generation", n_tokens=s.n_tokens, temperature=s.temperature, top_k=s.top_k, top_p=s.top_p,
            alphabet=s.alphabet, stop=list(s.stops), seed=seed,
        ),
    }  # fmt: skip
