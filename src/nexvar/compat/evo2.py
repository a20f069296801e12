"""The ``evo2`` package's class (github.com/ArcInstitute/evo2): ``from nexvar.compat.evo2 import Evo2``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nexvar import arguments
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.generate import Generation, generate
from nexvar.nexvar import NexVar


class Evo2(NexVar):
    """An Evo 2 checkpoint by its official name, such as ``evo2_7b``.

    local_path: weights that are already here: the ``.pt`` of ``model_name`` (or the first of its parts), or a folder
    with config.json and weights. options: those of ``NexVar``; the device is chosen if none is given.

    What differs: prompts of different lengths need no ``batched=False``, prompts shorter than six bases are right
    with the cache too, and log-likelihoods are sums of float32 whatever the weights' dtype.
    """

    def __init__(self, model_name: str = "evo2_7b", local_path: str | Path | None = None, **options: Any) -> None:
        path = None if local_path is None else arguments.path(local_path, "local_path")
        if path is not None and path.is_dir():
            super().__init__(path, **options)
        else:
            super().__init__(model_name, weights=path, **options)

    def generate(  # type: ignore[override]  # the original's signature
        self,
        prompt_seqs: Sequence[str],
        n_tokens: int = 500,
        temperature: float = 1.0,
        top_k: int = 4,
        top_p: float = 1.0,
        batched: bool = True,
        cached_generation: bool = True,
        verbose: int = 1,
        force_prompt_threshold: int | None = None,
        *,
        seed: int | None = None,
    ) -> Generation:
        """As the original's: every token may be drawn, and each is one character of the text (``original_text``).

        batched, verbose and force_prompt_threshold change no result here and are ignored.
        """
        made = generate(
            self.loaded,
            prompt_seqs,
            Sampling(n_tokens, temperature, top_k, top_p, cached=cached_generation),
            seed=seed,
        )
        return original_text(made)


def original_text(made: Generation) -> Generation:
    """The sequences as the original's tokenizer writes them: token i is the character max(i, 32), so that as many
    characters come back as were asked for; what is no letter (end of document, control characters) is a space."""
    texts = ["".join(chr(max(id_, 32)) for id_ in ids) for ids in made.token_ids]
    return replace(made, sequences=texts, left_out=[0] * len(texts))
