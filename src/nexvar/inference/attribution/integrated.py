"""Integrated gradients: the gradient averaged on the straight line from a baseline to the sequence, times the way.

What all bases add is f(sequence) - f(baseline), but for the error of the sum over ``steps`` points (Gauss-Legendre).
Sundararajan et al. 2017, arXiv:1703.01365. Baselines, in place of the embeddings of the sequence's own tokens (special
and begin tokens stay):

    zeros      all zeros: no token at all
    N          the embedding of N at every base
    shuffled   the mean over ``shuffles`` sequences with the same dinucleotides, shuffled (Altschul & Erickson 1985)
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from nexvar.errors import NexVarError
from nexvar.inference.attribution.gradient import Assigned, gradients, of_bases
from nexvar.inference.attribution.reading import Reading, read
from nexvar.inference.attribution.target import Target

BASELINES = ("zeros", "N", "shuffled")


def integrated(
    reading: Reading, target: Target, baseline: str, steps: int, shuffles: int, seed: int
) -> tuple[Assigned, float, float]:
    """What each base adds, the target's value and that of the baseline (the mean over shuffles)."""
    found = [_along(reading, target, from_TD, steps) for from_TD in _baselines(reading, baseline, shuffles, seed)]
    values_L = np.mean([values for (values, _), _, _ in found], axis=0)
    others = [others_L4 for (_, others_L4), _, _ in found if others_L4 is not None]
    hypothetical_L4 = np.mean(others, axis=0) if others else None
    return (values_L, hypothetical_L4), found[0][1], float(np.mean([of_baseline for _, _, of_baseline in found]))


def _along(reading: Reading, target: Target, from_TD: Tensor, steps: int) -> tuple[Assigned, float, float]:
    """What each base adds on the way from one baseline, the target's value and the baseline's."""
    embeds_TD = reading.embedded()
    nodes_S, weights_S = np.polynomial.legendre.leggauss(steps)
    ways = [1.0, 0.0, *((nodes_S + 1) / 2).tolist()]  # the sequence, the baseline, points between them

    def point(n: int) -> Tensor:
        return torch.lerp(from_TD, embeds_TD, ways[n])

    values_N, mean_TD = gradients(reading, target, point, [0.0, 0.0, *(weights_S / 2).tolist()])
    return of_bases(reading, mean_TD, from_TD.float()), float(values_N[0]), float(values_N[1])


def _baselines(reading: Reading, name: str, shuffles: int, seed: int) -> list[Tensor]:
    """(T, D) each."""
    loaded, own_TD = reading.loaded, reading.embedded()
    is_base_T1 = torch.as_tensor(reading.is_base_T, device=own_TD.device)[:, None]
    if name == "zeros":
        return [torch.where(is_base_T1, 0.0, own_TD)]
    if name == "N":
        ids = loaded.tokenizer.encode("N", special=False).ids
        if len(ids) != 1 or loaded.tokenizer.base_ids() is None and not reading.tokens_of_bases:
            what = f"{loaded.card.name} has no token for N"
            raise NexVarError(what, where="baseline", fix="'zeros'")
        return [reading.embedded(np.where(reading.is_base_T, ids[0], reading.ids_T))]
    rng = random.Random(seed)
    others = [read(loaded, shuffled(reading.text, rng)) for _ in range(shuffles)]
    if any(other.spans_T != reading.spans_T for other in others):
        what = f"{loaded.card.name} cuts shuffled sequences into other tokens"
        raise NexVarError(what, where="baseline", fix="'zeros', or 'N' where there is such a token")
    return [other.embedded() for other in others]


def shuffled(text: str, rng: random.Random) -> str:
    """Another order of the letters in which every pair of neighbours is as frequent; first and last letter stay.

    A random Eulerian path through the graph of pairs: of every letter a random last edge, such that these lead to the
    end; the other edges in random order (Altschul & Erickson 1985, Mol Biol Evol 2:526).
    """
    followers: dict[str, list[str]] = {}
    for one, two in zip(text, text[1:], strict=False):
        followers.setdefault(one, []).append(two)
    last: dict[str, str] = {}
    while not all(_leads_to(text[-1], last, letter) for letter in followers):
        last = {letter: rng.choice(next_) for letter, next_ in followers.items() if letter != text[-1]}
    for letter, next_ in followers.items():
        if letter in last:
            next_.remove(last[letter])
        rng.shuffle(next_)
        next_ += [last[letter]] if letter in last else []
    made, at = [text[0]], dict.fromkeys(followers, 0)
    while len(made) < len(text):
        letter = made[-1]
        made.append(followers[letter][at[letter]])
        at[letter] += 1
    return "".join(made)


def _leads_to(end: str, last: dict[str, str], letter: str) -> bool:
    seen: set[str] = set()
    while letter != end and letter in last and letter not in seen:
        seen.add(letter)
        letter = last[letter]
    return letter == end
