"""What bfloat16 checkpoints cost on this CPU, and smaller weights: ``python benchmarks/arithmetic.py [--full]``.

Four layers of Evo 2 1B's width with random weights, without FP8: a forward with products in float32 and in torch's own
bfloat16, beside a float32 model's; then one token at a time with bfloat16, int8 and int4 weights, beside reading the
bfloat16 ones. ``--full``: also a token through a Hyena and an attention layer of Evo 2 7B's width, and by arithmetic
through all 32 layers. ``ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2`` before the
command shows a processor without bfloat16 units.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterator

import torch
from torch import Tensor

from _measure import Job, Row, interleaved, peak_above, report
from nexvar import cards
from nexvar.models import striped_hyena2
from nexvar.ops import arithmetic, matvec
from nexvar.threads import threads_for
from nexvar.weights.assemble import make_config
from nexvar.weights.quantize import Quantizer

PROMPT, DECODED = 100, 4
METHODS = ("int8", "int4")


def model(dtype: torch.dtype, name: str = "nexvar_1b_base", pattern: str = "SDH*") -> striped_hyena2.Model:
    card = cards.get(name)
    config = make_config(card.architecture, card.config, card.name)
    config = dataclasses.replace(config, pattern=pattern, fp8_projections=False)
    module = striped_hyena2.Model(config)
    module.init_weights(torch.Generator().manual_seed(0))
    for key, parameter in module.named_parameters():
        if not any(fnmatch.fnmatch(key, kept) for kept in striped_hyena2.KEEP_FLOAT32):
            parameter.data = parameter.data.to(dtype)
    return module.eval()


def quantized(module: striped_hyena2.Model, method: str) -> striped_hyena2.Model:
    quantizer = Quantizer(method, striped_hyena2.QUANTIZED, torch.device("cpu"), torch.bfloat16)
    for name, parameter in list(module.named_parameters()):
        quantizer.put(module, name, parameter.data, torch.bfloat16)
    return module


def forward(module: striped_hyena2.Model, ids: Tensor, products: str) -> Job:
    def job() -> object:
        before = arithmetic.cpu_products()
        arithmetic.use(products)
        logits = module(ids).logits
        arithmetic.use(before)
        return logits

    return job


def decode(module: striped_hyena2.Model) -> Job:
    """Some tokens, with the threads that ``generate`` has."""
    cache = module.new_cache(1, 4096)
    module(torch.randint(65, 85, (1, PROMPT)), cache=cache)
    token = torch.full((1, 1), 65)
    dtype = module.embedding_layer.weight.dtype

    def job() -> None:
        with threads_for(0, dtype, matvec.serves(dtype, token.device)):
            for _ in range(DECODED):
                module(token, cache=cache, logits=slice(-1, None))

    return job


def reading(module: striped_hyena2.Model) -> Job:
    """As many times as tokens are decoded; the kinder of torch's loops, which is bound by memory."""
    weights = [p for p in module.parameters() if p.ndim == 2 and p.dtype == torch.bfloat16]

    def job() -> None:
        for _ in range(DECODED):
            for weight in weights:
                weight.view(torch.int32).sum(dtype=torch.int32)

    return job


def of_7b() -> Iterator[Row]:
    jobs = {}
    for letter in "H*":
        for method in ("bfloat16", *METHODS):
            module = model(torch.bfloat16, "nexvar_7b", letter)
            jobs[letter, method] = decode(module if method == "bfloat16" else quantized(module, method))
    times = interleaved({f"{letter} {method}": job for (letter, method), job in jobs.items()}, repeats=7)
    layers = cards.get("nexvar_7b").config["pattern"]
    whole = {}
    for method in ("bfloat16", *METHODS):
        hyena, attention = (times[f"{letter} {method}"].cpu / DECODED for letter in "H*")
        whole[method] = attention * layers.count("*") + hyena * (len(layers) - layers.count("*"))
    for method in METHODS:
        for letter, kind in (("H", "Hyena"), ("*", "attention")):
            ours, other = (1e3 * times[f"{letter} {m}"].cpu / DECODED for m in (method, "bfloat16"))
            yield Row(f"a token, {kind} layer of Evo 2 7B, {method}", "bfloat16", ours, other, "CPU-ms")
        yield Row(f"a token, all of Evo 2 7B by arithmetic, {method}", "bfloat16", whole[method], whole["bfloat16"])


@torch.inference_mode()
def rows(full: bool) -> Iterator[Row]:
    bases, repeats = (1024, 3) if full else (256, 2)
    plain, small = model(torch.float32), model(torch.bfloat16)
    ids = torch.randint(65, 85, (1, bases))
    jobs = {f"products in {way}": forward(small, ids, way) for way in arithmetic.ARITHMETICS}
    jobs["a float32 model"] = forward(plain, ids, arithmetic.cpu_products())
    times, memory = interleaved(jobs, repeats=repeats), {name: peak_above(job) / 1e6 for name, job in jobs.items()}
    for name in list(jobs)[:2]:
        case = f"forward of {bases} bases, bfloat16, {name}"
        yield Row(case, "a float32 model", times[name].cpu, times["a float32 model"].cpu)
        yield Row(case, "a float32 model", memory[name], memory["a float32 model"], "MB")
    steps = {"bfloat16": decode(small), "reading bfloat16": reading(small), "float32": decode(plain)}
    steps |= {method: decode(quantized(model(torch.bfloat16), method)) for method in METHODS}
    times = interleaved(steps, repeats=5 * repeats)
    per_token = {name: 1e3 * time.cpu / DECODED for name, time in times.items()}
    for name in ("float32", *METHODS):
        yield Row(
            f"a token, four layers of Evo 2 1B, {name}", "bfloat16", per_token[name], per_token["bfloat16"], "CPU-ms"
        )
    yield Row(
        "a token, bfloat16", "reading its weights", per_token["bfloat16"], per_token["reading bfloat16"], "CPU-ms"
    )
    if full:
        yield from of_7b()


if __name__ == "__main__":
    report(__doc__, rows)
