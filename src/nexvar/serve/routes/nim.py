"""Evo 2 as NVIDIA's NIM answers: /biology/arc/evo2/{generate,forward}; see docs/serving.md for what is different here.

Whatever model a path names, the server's first causal model answers; the header X-NexVar-Model says which that is.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import torch
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from nexvar.errors import NexVarError
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.core.sequences import clean
from nexvar.inference.generate import MOST_SEED
from nexvar.serve.errors import BAD_INPUT, Busy, Malformed, TimedOut, status_of
from nexvar.serve.routes import nim_layers
from nexvar.serve.routes.bodies import Real, Whole, answer
from nexvar.serve.running import server_of, with_model
from nexvar.serve.service.drawing import Drawn, drawn
from nexvar.weights.load import Loaded

T = TypeVar("T")
MODELS = ("evo2", "evo2-7b", "evo2-40b")
MOST_LETTERS = 4_000_000
router = APIRouter(tags=["Evo 2 NIM"])

Sequence = Annotated[str, Field(min_length=1, max_length=MOST_LETTERS)]


class GenerateRequest(BaseModel):
    """null stands for the default."""

    model_config = ConfigDict(extra="forbid")

    sequence: Sequence
    num_tokens: Annotated[Whole | None, Field(ge=1)] = 100
    temperature: Annotated[Real | None, Field(gt=0, le=1.3)] = 0.7
    top_k: Annotated[Whole | None, Field(ge=0, le=6, description="0: every token")] = 3
    top_p: Annotated[Real | None, Field(ge=0, le=1, description="0: not used")] = 0.0
    random_seed: Whole | None = None
    enable_logits: StrictBool = False
    enable_sampled_probs: StrictBool = False
    enable_elapsed_ms_per_token: StrictBool = False

    def sampling(self, alphabet: str | None) -> Sampling:
        return Sampling(
            n_tokens=self.num_tokens or 100,
            temperature=self.temperature or 0.7,
            top_k=3 if self.top_k is None else self.top_k,
            top_p=self.top_p or 1.0,
            alphabet=alphabet,
        )

    @property
    def seed(self) -> int | None:
        return None if self.random_seed is None else self.random_seed % (MOST_SEED + 1)


class GenerateAnswer(BaseModel):
    """sequence: the new bases. What was not asked for is null. logits: num_tokens x 512, of ASCII codes, raw."""

    sequence: str
    logits: list[list[float]] | None
    sampled_probs: list[float] | None
    elapsed_ms: int
    elapsed_ms_per_token: list[int] | None


class ForwardRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sequence: Sequence
    output_layers: Annotated[list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=100)]


class ForwardAnswer(BaseModel):
    """data: an .npz in base64, ``<layer>.output`` -> float32."""

    data: str
    elapsed_ms: int


async def generate(request: Request, asked: GenerateRequest) -> Response:
    """Continue a sequence."""
    server = server_of(request)
    settings = server.settings
    sampling = asked.sampling(settings.nim.letters)
    if sampling.n_tokens > settings.max_tokens:
        what = f"{sampling.n_tokens:,} tokens, {settings.max_tokens:,} at most"
        raise Malformed(what, where="num_tokens", fix="ask for fewer, or start the server with --max-tokens")

    def verb(loaded: Loaded) -> Drawn:
        return drawn(loaded, _raised(asked.sequence), sampling, seed=asked.seed, logits=asked.enable_logits)

    made = await _asked(request, verb)
    server.metrics.add("tokens", len(made.tokens))
    return await answer(lambda: _generated(made, asked), _named(made.loaded))


def _raised(sequence: str) -> str:
    """In upper case, tags too; other letters than ASCII, which may become two, are left for ``clean`` to refuse."""
    return sequence.upper() if sequence.isascii() else sequence


def _generated(made: Drawn, asked: GenerateRequest) -> dict[str, Any]:
    """``GenerateAnswer`` of new tokens."""
    logits = [token.logits for token in made.tokens if token.logits is not None]
    log_probs = torch.tensor([token.log_prob for token in made.tokens])
    return {
        "sequence": made.text,
        "logits": nim_layers.ascii_logits(made.loaded, torch.stack(logits)).tolist() if logits else None,
        "sampled_probs": log_probs.exp().clamp(max=1).tolist() if asked.enable_sampled_probs else None,
        "elapsed_ms": round(sum(made.ms)),
        "elapsed_ms_per_token": [round(ms) for ms in made.ms] if asked.enable_elapsed_ms_per_token else None,
    }


async def forward(request: Request, asked: ForwardRequest) -> Response:
    """Outputs of layers, by the names of the NIM (``decoder.layers.3.mlp``) or of Evo 2 (``blocks.3.mlp``)."""
    settings = server_of(request).settings.nim

    def verb(loaded: Loaded) -> tuple[Loaded, dict[str, Any], int]:
        began = time.perf_counter()
        wanted = nim_layers.layers(loaded, asked.output_layers)
        text = clean(loaded, _raised(asked.sequence), "sequence")
        arrays = nim_layers.forward(loaded, text, wanted, settings.max_mb * 1_000_000)
        return loaded, arrays, round(1000 * (time.perf_counter() - began))

    loaded, arrays, ms = await _asked(request, verb)

    def packed() -> dict[str, Any]:
        data = base64.b64encode(nim_layers.archive(arrays, compress=settings.compress))
        return {"data": data.decode("ascii"), "elapsed_ms": ms}

    return await answer(packed, _named(loaded))


def _named(loaded: Loaded) -> dict[str, str]:
    return {"X-NexVar-Model": loaded.card.name}


async def _asked(request: Request, verb: Callable[[Loaded], T]) -> T:
    """``verb`` of the first causal model, with the NIM's time limit and statuses: bad input and time-outs are 422."""
    settings = server_of(request).settings.nim
    try:
        return await with_model(request, None, verb, "causal", seconds=settings.seconds)
    except Busy as error:
        if settings.too_busy:
            raise Malformed(f"Too Busy: {error.what}", fix=error.fix) from error
        raise
    except NexVarError as error:
        if isinstance(error, TimedOut) or status_of(error) == BAD_INPUT:
            raise Malformed(error.what, where=error.where, fix=error.fix) from error
        raise


for _prefix in ("", "/v1"):
    for _model in MODELS:
        _documented = (_prefix, _model) == ("", "evo2")
        for _verb, _handler, _body in (("generate", generate, GenerateAnswer), ("forward", forward, ForwardAnswer)):
            router.add_api_route(
                f"{_prefix}/biology/arc/{_model}/{_verb}",
                _handler,
                methods=["POST"],
                include_in_schema=_documented,
                responses={200: {"model": _body}},
            )
