"""How tokens are drawn from a causal model, and the batch of sequences with its cache from which they are drawn.

Order of operations as in the official Evo 2 code: top-k, then temperature, then top-p, then a draw.
"""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nexvar import arguments
from nexvar.errors import NexVarError
from nexvar.inference.core.pieces import piece_tokens
from nexvar.inference.core.readout import next_token_log_probs
from nexvar.ops import matvec, static
from nexvar.threads import largest_matrix, threads_for
from nexvar.weights.load import Loaded

AUTO = "auto"
TINY = 1e-300  # "above 0" as a lower bound


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. top_k: 1 is greedy, 0 keeps every token; top_p: 1.0 keeps every token.

    alphabet: letters such as "ACGT": only they, and the token ids of ``stop``, are drawn. None: every token. "auto":
    A, C, G and T where the tokenizer has them. stop: strings and token ids that end a sequence; they are its last part.
    """

    n_tokens: int
    temperature: float = 1.0
    top_k: int = 4
    top_p: float = 1.0
    alphabet: str | None = None
    stop: str | int | Sequence[str | int] = ()
    cached: bool = True

    def __post_init__(self) -> None:
        checked = {
            "n_tokens": arguments.whole(self.n_tokens, "n_tokens", 1),
            "temperature": arguments.number(self.temperature, "temperature", "above 0 (top_k=1 is greedy)", TINY),
            "top_k": arguments.whole(self.top_k, "top_k", 0),
            "top_p": arguments.number(self.top_p, "top_p", "above 0 and at most 1", TINY, 1),
            "cached": arguments.flag(self.cached, "cached_generation"),
            "stop": _stops(self.stop),
        }
        if self.alphabet is not None:
            arguments.text(self.alphabet, "alphabet", "letters, such as 'ACGT', or None")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def stops(self) -> tuple[str | int, ...]:
        """``stop`` as a row."""
        return self.stop  # type: ignore[return-value]  # made one above

    def allowed(self, loaded: Loaded) -> Tensor | None:
        """The token ids that may be drawn; None for all."""
        ends = [stop for stop in self.stops if isinstance(stop, int)]
        for id_ in ends:
            if not 0 <= id_ < loaded.tokenizer.vocab_size:
                fix = f"ids are below {loaded.tokenizer.vocab_size}"
                raise NexVarError(f"{id_} is no token of {loaded.card.name}", where="stop", fix=fix)
        letters = self.alphabet
        if letters == AUTO:
            bases = loaded.tokenizer.base_ids() or {}
            letters = "ACGT" if set("ACGT") <= set(bases) else None
        if letters is None:
            return None
        drawn: list[int] = []
        for letter in dict.fromkeys(letters):
            try:
                ids = loaded.tokenizer.encode(letter, special=False).ids
            except NexVarError:  # of a letter that is in no sequence
                ids = []
            if len(ids) != 1 or loaded.tokenizer.detokenize(ids) != letter:
                raise NexVarError(f"{letter!r} is no token of {loaded.card.name}", where="alphabet", fix="'ACGT'")
            drawn += ids
        return torch.tensor(list(dict.fromkeys([*drawn, *ends])), device=loaded.device)


def _stops(stop: object) -> tuple[str | int, ...]:
    one = isinstance(stop, (str, numbers.Integral))
    given = [stop] if one else arguments.a_list(stop, "stop", "strings and token ids")
    fix = "strings of one letter or more, or token ids"
    return tuple(
        arguments.whole(each, "stop") if isinstance(each, numbers.Integral) else arguments.text(each, "stop", fix)
        for each in given
    )


class Walk:
    """A batch of sequences of equal length: the logits after them, and how they go on. Uncached: all anew, to check."""

    def __init__(self, loaded: Loaded, prompt_BL: Tensor, more: int, cached: bool) -> None:
        self.module, self.name = loaded.module, loaded.card.name
        self.largest, self.dtype = largest_matrix(loaded.module), loaded.dtype
        self.compiled = loaded.quantize != "nf4" and matvec.serves(loaded.dtype, loaded.device)
        self.ids_BL = prompt_BL  # with a cache: those that are not in it yet
        self.records = cached and static.asked_for(loaded.module)
        self.step: Callable[[Tensor], Tensor] | None = None  # a recorded step of these rows
        with torch.inference_mode():
            self.cache = self.module.new_cache(len(prompt_BL), prompt_BL.shape[1] + more) if cached else None

    @torch.inference_mode()
    def logits(self) -> Tensor:
        """(B, V) float32."""
        last = slice(-1, None)
        if self.cache is None:
            return self.module(self.ids_BL, logits=last).logits[:, -1].float().to(self.ids_BL.device)
        one, tokens = self.ids_BL.shape[1] == 1, self.ids_BL.numel()
        with threads_for(self.largest * tokens, self.dtype, self.compiled and tokens <= matvec.MOST_ROWS):
            if one and self.step is not None:
                logits = self.step(self.ids_BL)
            else:
                for piece in self.ids_BL.split(piece_tokens(self.module, self.ids_BL.shape[1]), dim=1):
                    logits = self.module(piece, cache=self.cache, logits=last).logits
                if one and self.records:
                    self._record()
        self.ids_BL = self.ids_BL[:, :0]
        return logits[:, -1].float().to(self.ids_BL.device)

    def _record(self) -> None:
        self.step = self.module.decoder(self.cache, static.cuda_graph)
        if self.step is None:
            self.records = False
            warnings.warn(f"{static.VARIABLE}=1 does nothing: {self.name} has no steps of fixed shape", stacklevel=2)

    def append(self, tokens_B: Tensor) -> None:
        self.ids_BL = torch.cat([self.ids_BL, tokens_B[:, None]], dim=1)

    @torch.inference_mode()
    def select(self, rows: Sequence[int]) -> None:
        """These rows only, in this order; repeats branch."""
        if list(rows) != list(range(len(self.ids_BL))):
            index = torch.tensor(rows, device=self.ids_BL.device)
            self.ids_BL = self.ids_BL[index]
            self.cache, self.step = None if self.cache is None else self.cache.select(index), None


def prefill(loaded: Loaded, ids: Sequence[Sequence[int]], sampling: Sampling) -> tuple[Walk, Tensor]:
    """The walk over these prompts and the logits after them; equal prompts are computed once."""
    unique = list(dict.fromkeys(map(tuple, ids)))
    walk = Walk(loaded, torch.tensor(unique, device=loaded.device), sampling.n_tokens, sampling.cached)
    logits = walk.logits()
    rows = [unique.index(tuple(one)) for one in ids]
    walk.select(rows)
    return walk, logits[rows]


def draw(
    logits_BV: Tensor, draws: Sequence[torch.Generator], allowed: Tensor | None, sampling: Sampling
) -> tuple[Tensor, Tensor]:
    """(B,) tokens and their log-probabilities under the model itself."""
    uniform_B = torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in draws]).to(logits_BV.device)
    if allowed is None:
        tokens_B = choose(logits_BV, uniform_B, sampling.temperature, sampling.top_k, sampling.top_p)
    else:
        tokens_B = allowed[
            choose(logits_BV[:, allowed], uniform_B, sampling.temperature, sampling.top_k, sampling.top_p)
        ]
    return tokens_B, next_token_log_probs(logits_BV[:, None], tokens_B[:, None])[:, 0]


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
