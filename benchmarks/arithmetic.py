"""What bfloat16 checkpoints cost on this CPU, and smaller weights: ``python benchmarks/arithmetic.py [--full]``.

Four layers of Evo 2 1B's width with random weights, without FP8: a forward with products in float32 and in torch's own
bfloat16, beside a float32 model's; then one token at a time with bfloat16, int8 and int4 weights, beside reading the
bfloat16 ones, and the same of two layers of Genos. ``--full``: longer, and a token through a Hyena and an attention
layer of Evo 2 7B's width, and by arithmetic through all 32. ``ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2
MKL_ENABLE_INSTRUCTIONS=AVX2`` before the command shows a processor without bfloat16 units.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from _measure import Job, Row, interleaved, peak_above, report
from nexvar import cards, models
from nexvar.ops import arithmetic, matvec
from nexvar.threads import threads_for
from nexvar.weights.assemble import make_config
from nexvar.weights.quantize import Quantizer

PROMPT, DECODED = 100, 4
METHODS = ("int8", "int4")


def model(weights: str, name: str = "nexvar_1b_base", **values: Any) -> nn.Module:
    """A model of a card's sizes but for these values, with random weights: float32, bfloat16, or a method's."""
    card = cards.get(name)
    architecture = models.get(card.architecture)
    module = architecture.Model(dataclasses.replace(make_config(card.architecture, card.config, card.name), **values))
    if hasattr(module, "init_weights"):
        module.init_weights(torch.Generator().manual_seed(0))
    dtype = torch.float32 if weights == "float32" else torch.bfloat16
    quantizer = Quantizer(weights, architecture.QUANTIZED, torch.device("cpu"), dtype)
    for key, parameter in list(module.named_parameters()):
        if not any(fnmatch.fnmatch(key, kept) for kept in architecture.KEEP_FLOAT32):
            parameter.data = parameter.data.to(dtype)
        if weights in METHODS:
            quantizer.put(module, key, parameter.data, dtype)
    return module.eval()


def four_layers(weights: str) -> nn.Module:
    return model(weights, pattern="SDH*", fp8_projections=False)


def forward(module: nn.Module, ids: Tensor, products: str) -> Job:
    def job() -> object:
        before = arithmetic.cpu_products()
        arithmetic.use(products)
        logits = module(ids).logits
        arithmetic.use(before)
        return logits

    return job


def decode(module: nn.Module) -> Job:
    """Some tokens, with the threads that ``generate`` has."""
    cache = module.new_cache(1, 4096)
    module(torch.randint(65, 85, (1, PROMPT)), cache=cache)
    token = torch.full((1, 1), 65)
    dtype = module.get_parameter(f"{module.token_embedding}.weight").dtype

    def job() -> None:
        with threads_for(0, dtype, matvec.serves(dtype, token.device)):
            for _ in range(DECODED):
                module(token, cache=cache, logits=slice(-1, None))

    return job


def reading(module: nn.Module) -> Job:
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
            jobs[letter, method] = decode(model(method, "nexvar_7b", pattern=letter))
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


def tokens(what: str, steps: dict[str, Job], repeats: int) -> Iterator[Row]:
    times = {name: 1e3 * time.cpu / DECODED for name, time in interleaved(steps, repeats=repeats).items()}
    for name in [name for name in steps if name not in ("bfloat16", "reading")]:
        yield Row(f"a token, {what}, {name}", "bfloat16", times[name], times["bfloat16"], "CPU-ms")
    if "reading" in times:
        yield Row(f"a token, {what}, bfloat16", "reading its weights", times["bfloat16"], times["reading"], "CPU-ms")


@torch.inference_mode()
def rows(full: bool) -> Iterator[Row]:
    bases, repeats = (1024, 3) if full else (256, 2)
    plain, small = four_layers("float32"), four_layers("bfloat16")
    ids = torch.randint(65, 85, (1, bases))
    jobs = {f"products in {way}": forward(small, ids, way) for way in arithmetic.ARITHMETICS}
    jobs["a float32 model"] = forward(plain, ids, arithmetic.cpu_products())
    times, memory = interleaved(jobs, repeats=repeats), {name: peak_above(job) / 1e6 for name, job in jobs.items()}
    for name in list(jobs)[:2]:
        case = f"forward of {bases} bases, bfloat16, {name}"
        yield Row(case, "a float32 model", times[name].cpu, times["a float32 model"].cpu)
        yield Row(case, "a float32 model", memory[name], memory["a float32 model"], "MB")
    steps = {"bfloat16": decode(small), "reading": reading(small), "float32": decode(plain)}
    steps |= {method: decode(four_layers(method)) for method in METHODS}
    yield from tokens("four layers of Evo 2 1B", steps, 5 * repeats)
    steps = {weights: decode(model(weights, "genos_1.2b", num_hidden_layers=2)) for weights in ("bfloat16", *METHODS)}
    yield from tokens("two layers of Genos 1.2B", steps, 5 * repeats)
    if full:
        yield from of_7b()


if __name__ == "__main__":
    report(__doc__, rows)
