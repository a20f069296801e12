"""What bfloat16 checkpoints cost on this CPU, and smaller weights: ``python benchmarks/arithmetic.py [--full]``.

Four layers of Evo 2 1B's width with random weights, without FP8. A forward with products as the probe chose, in float32
and in torch's own bfloat16, beside a float32 model's; then one token at a time with bfloat16, int8 and int4 weights.
Contestants take turns; CPU seconds, medians. ``ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2`` before the command
shows a processor without bfloat16 units. Prints Markdown.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import sys
from collections.abc import Callable

import torch
from torch import nn

from _measure import interleaved, matmul_rate, table
from nexvar import cards
from nexvar.models import striped_hyena2
from nexvar.ops import arithmetic, matvec
from nexvar.weights.assemble import make_config
from nexvar.weights.quantize import Quantizer

PROMPT, DECODED = 100, 4


def model(dtype: torch.dtype, method: str | None = None) -> striped_hyena2.Model:
    card = cards.get("nexvar_1b_base")
    config = make_config(card.architecture, card.config, card.name)
    config = dataclasses.replace(config, pattern="SDH*", fp8_projections=False)
    module = striped_hyena2.Model(config)
    module.init_weights(torch.Generator().manual_seed(0))
    for name, parameter in module.named_parameters():
        if not any(fnmatch.fnmatch(name, pattern) for pattern in striped_hyena2.KEEP_FLOAT32):
            parameter.data = parameter.data.to(dtype)
    if method is not None:
        quantizer = Quantizer(method, striped_hyena2.QUANTIZED, torch.device("cpu"), dtype)
        for name, parameter in list(module.named_parameters()):
            quantizer.put(module, name, parameter.data, dtype)
    return module.eval()


def forward(module: nn.Module, ids: torch.Tensor, products: str | None = None) -> Callable[[], object]:
    def job() -> object:
        before = arithmetic.cpu_products()
        arithmetic.use(products or before)
        logits = module(ids).logits
        arithmetic.use(before)
        return logits

    return job


def decode(module: striped_hyena2.Model) -> Callable[[], object]:
    cache = module.new_cache(1, 4096)
    module(torch.randint(65, 85, (1, PROMPT)), cache=cache)
    token = torch.full((1, 1), 65)

    def job() -> None:
        for _ in range(DECODED):
            module(token, cache=cache, logits=slice(-1, None))

    return job


@torch.inference_mode()
def main(full: bool) -> None:
    bases, repeats = (1024, 3) if full else (256, 2)
    plain, small = model(torch.float32), model(torch.bfloat16)
    ids = torch.randint(65, 85, (1, bases))
    ways = {f"bfloat16, products in {way}": forward(small, ids, way) for way in arithmetic.ARITHMETICS}
    timed = interleaved({"float32": forward(plain, ids), **ways}, repeats=repeats)
    decoders = {"float32": plain, "bfloat16": small} | {m: model(torch.bfloat16, m) for m in ("int8", "int4")}
    steps = interleaved({name: decode(module) for name, module in decoders.items()}, repeats=5 * repeats)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads")
    rates = ", ".join(f"{d} {matmul_rate(getattr(torch, d), 1024, 2):.0f}" for d in arithmetic.ARITHMETICS)
    print(f"matmul GFLOP per CPU-second: {rates}; the probe chose {arithmetic.cpu_products()}; {matvec.status()}\n")
    rows = [(name, t.cpu, t.cpu / timed["float32"].cpu) for name, t in timed.items()]
    print(table((f"forward of {bases} bases", "CPU s", "of float32's"), rows), "\n")
    rows = [(name, 1e3 * t.cpu / DECODED, t.cpu / steps["bfloat16"].cpu) for name, t in steps.items()]
    print(table(("one token with weights in", "CPU ms", "of bfloat16's"), rows))


if __name__ == "__main__":
    main("--full" in sys.argv[1:])
