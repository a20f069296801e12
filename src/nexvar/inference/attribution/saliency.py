"""Saliency: embedding x gradient of every token, and the gradient at the one-hot input through the embedding table.

One pass. A first-order estimate: what each base adds if the model were linear there (Simonyan et al. 2013,
arXiv:1312.6034; input x gradient: Shrikumar et al. 2016, arXiv:1605.01713).
"""

from __future__ import annotations

from nexvar.inference.attribution.gradient import Assigned, gradients, of_bases
from nexvar.inference.attribution.reading import Reading
from nexvar.inference.attribution.target import Target


def saliency(reading: Reading, target: Target) -> tuple[Assigned, float]:
    """What each base adds (``gradient.of_bases``), and the target's value."""
    embeds_TD = reading.embedded()
    values_1, gradient_TD = gradients(reading, target, lambda _: embeds_TD, [1.0])
    return of_bases(reading, gradient_TD), float(values_1[0])
