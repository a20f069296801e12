"""New tokens after one sequence, with the time that each took."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from nexvar.errors import NexVarError
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.core.sequences import clean
from nexvar.inference.generate import Token, stream
from nexvar.serve.errors import TimedOut
from nexvar.weights.load import Loaded


@dataclass(frozen=True)
class Drawn:
    """The new tokens, milliseconds of each, and the model they are from."""

    loaded: Loaded
    tokens: list[Token]
    ms: list[float]

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)


def drawn(loaded: Loaded, sequence: str, sampling: Sampling, *, seed: int | None = None, logits: bool = False) -> Drawn:
    """``sampling.n_tokens`` tokens after ``sequence``.

    logits: keep those that each token was drawn from. Raises NexVarError, with "sequence" as its place; TimedOut that
    says at which token.
    """
    text = clean(loaded, sequence, "sequence", more=sampling.n_tokens)
    tokens: list[Token] = []
    ms: list[float] = []
    began = time.perf_counter()
    try:
        for token in stream(loaded, [text], sampling, seed=seed, return_logits=logits):
            now = time.perf_counter()
            if not math.isfinite(token.log_prob):
                dtype = str(loaded.dtype).removeprefix("torch.")
                raise NexVarError(f"{loaded.card.name} overflows in {dtype}", where="sequence", fix="serve in float32")
            tokens.append(token)
            ms.append(1000 * (now - began))
            began = now
    except TimedOut as error:
        raise TimedOut(f"Timed out on token {len(tokens) + 1}: {error.what}", fix=error.fix) from None
    return Drawn(loaded, tokens, ms)
