"""Decoding with the cache against a forward per token, every causal family: ``python benchmarks/decoding.py [--full]``.

Random weights, float32, after a prompt of 512 tokens (--full: 2,048). Both contestants write the same tokens (checked).
Then what ``NexVar.generate`` needs a token, with sampling and text, against the cached step alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from _measure import Row, interleaved, report
from hyenadna import random_model
from nexvar.cards import Card
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.generate import generate
from nexvar.models import genos, striped_hyena, striped_hyena2
from nexvar.tokenizers import make
from nexvar.weights.load import Loaded


def models(prompt: int) -> dict[str, tuple[Any, str]]:
    """{name: (module, tokenizer)}"""
    torch.manual_seed(0)
    hyena2 = striped_hyena2.Config(
        hidden_size=512, pattern="SDH*SDHSDH*S", num_attention_heads=8, inner_mlp_size=1408,
        hcs_filter_groups=32, hcm_filter_groups=32,
    )  # fmt: skip
    hyena1 = striped_hyena.Config(hidden_size=256, pattern="HHH*HHHH", num_attention_heads=4, inner_mlp_size=688)
    mixture = genos.Config(
        vocab_size=128, hidden_size=256, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4,
        intermediate_size=512,
    )  # fmt: skip
    return {
        "StripedHyena 2, width 512, 12 layers": (striped_hyena2.Model(hyena2), "byte"),
        "StripedHyena (Evo 1), width 256, 8 layers": (striped_hyena.Model(hyena1), "byte"),
        "HyenaDNA, width 256, 8 layers": (random_model(prompt + 1024), "hyenadna"),
        "Genos, width 256, 4 layers, 8 experts": (genos.Model(mixture), "onehot"),
    }


def decode(module: Any, prompt_1L: Tensor, tokens: int, repeats: int) -> tuple[float, float]:
    """CPU seconds of a cached token, and of a token by a whole forward."""
    last = slice(-1, None)
    cache = module.new_cache(1, prompt_1L.shape[1] + tokens * (repeats + 2))
    first = module(prompt_1L, cache=cache, logits=last).logits.argmax(-1)
    written = {"cached": [first], "whole": [first]}

    def cached() -> None:
        for _ in range(tokens):
            written["cached"].append(module(written["cached"][-1], cache=cache, logits=last).logits.argmax(-1))

    def whole() -> None:
        ids = torch.cat([prompt_1L, *written["whole"]], 1)
        written["whole"].append(module(ids, logits=last).logits.argmax(-1))

    times = interleaved({"cached": cached, "whole": whole}, repeats)
    both = min(len(w) for w in written.values())
    if [int(t) for t in written["cached"][:both]] != [int(t) for t in written["whole"][:both]]:
        raise SystemExit("the contestants wrote different tokens")
    return times["cached"].cpu / tokens, times["whole"].cpu


def through_generate(module: Any, kind: str, prompt: str, tokens: int) -> float:
    """CPU seconds a token of ``generate``, without the prefill: two lengths, subtracted."""
    card = Card(
        name="random", architecture="", tokenizer=kind, objective="causal", context=1 << 20, parameters=1, licence="",
        citation="", parity="", parity_note="", config={},
    )  # fmt: skip
    loaded = Loaded(module, make(kind), card, torch.device("cpu"), torch.float32)
    seconds = []
    for n in (1, 1 + tokens):
        start = time.process_time()
        generate(loaded, [prompt], Sampling(n, alphabet="ACGT"), seed=0)
        seconds.append(time.process_time() - start)
    return (seconds[1] - seconds[0]) / tokens


@torch.inference_mode()
def rows(full: bool) -> Iterator[Row]:
    prompt, tokens, repeats = (2048, 16, 3) if full else (512, 8, 3)
    bases = "".join("ACGT"[i] for i in torch.randint(4, (prompt,)).tolist())
    for name, (module, kind) in models(prompt).items():
        ids = torch.tensor([make(kind).encode(bases, special=False).ids])
        cached, whole = decode(module.eval(), ids, tokens, repeats)
        looped = through_generate(module, kind, bases, 2 * tokens)
        yield Row(f"{name}: a token after {prompt:,}, cached", "a forward over everything", cached, whole)
        yield Row(f"{name}: a token after {prompt:,}, through generate", "the cached step alone", looped, cached)


if __name__ == "__main__":
    report(__doc__, rows)
