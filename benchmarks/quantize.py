"""What quantisation costs and saves on a CPU: ``python benchmarks/quantize.py [--full]``. No accuracy claim.

Errors are those of the log-probabilities of nexvar_mito (a trained model, though one with layers of 192 and 384 inputs)
on real sequence, and of a random layer of Evo 2 7B's sizes; CPU time is that of this layer, on 1 and on 256 or 2,048
tokens. ``--full``: also the highest anonymous resident memory while a 0.4 GB bfloat16 checkpoint is loaded.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from _measure import Row, interleaved, report
from nexvar import oracles
from nexvar.models import striped_hyena2
from nexvar.ops.linear import Linear
from nexvar.weights import quantize
from nexvar.weights.load import load, save


def anonymous() -> int:
    return int(Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]) * 1024


def log_probs(method: str | None) -> torch.Tensor:
    loaded = load("nexvar_mito", device="cpu", quantize=method)
    ids = torch.tensor([loaded.tokenizer.tokenize(oracles.prompts()[3][:2000])])
    with torch.no_grad():
        return loaded.module(ids).logits[0, :, [65, 67, 71, 84]].log_softmax(-1)


def layer(method: str | None) -> nn.Module:
    torch.manual_seed(0)
    holder = nn.Module()
    holder.layer = nn.Linear(4096, 11264, bias=False, device="meta")
    weight = torch.randn(11264, 4096).bfloat16() / 64
    if method is None:
        holder.layer = Linear(4096, 11264, bias=False, dtype=torch.bfloat16)
        holder.layer.weight = nn.Parameter(weight, requires_grad=False)
    else:
        quantizer = quantize.quantizer(method, "striped_hyena2", torch.device("cpu"), torch.bfloat16)
        assert quantizer is not None
        quantize.Quantizer(method, ("layer.weight",), torch.device("cpu"), torch.bfloat16).put(
            holder, "layer.weight", weight, torch.bfloat16
        )
    return holder.layer


def peak(folder: str, method: str | None) -> float:
    load("nexvar_mito", device="cpu", quantize=method)
    before, highest, going = anonymous(), [0], [True]

    def watch() -> None:
        while going[0]:
            highest[0] = max(highest[0], anonymous())
            time.sleep(0.002)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    loaded = load(folder, device="cpu", quantize=method)
    going[0] = False
    thread.join()
    assert loaded.module is not None
    return (highest[0] - before) / 1e6


def rows(full: bool) -> Iterator[Row]:
    """Against bfloat16 weights. Errors have nothing beside them: they stand against 1 nat, and the layer's output."""
    methods = (None, *quantize.METHODS)
    layers = {method: layer(method) for method in methods}
    one, many = torch.randn(1, 4096).bfloat16(), torch.randn(2048 if full else 256, 4096).bfloat16()
    with torch.no_grad():
        decode = interleaved({str(m): lambda m=m: layers[m](one) for m in methods}, repeats=20)
        prefill = interleaved({str(m): lambda m=m: layers[m](many) for m in methods}, repeats=2)
        exact, reference = log_probs(None), layers[None](many).float()
        for method in quantize.METHODS:
            for count, times in ((1, decode), (len(many), prefill)):
                ours, other = times[method].cpu, times["None"].cpu
                yield Row(
                    f"a layer of Evo 2 7B, {count:,} token(s), {method}", "bfloat16", 1e3 * ours, 1e3 * other, "CPU-ms"
                )
            apart = (log_probs(method) - exact).abs()
            yield Row(f"nexvar_mito, mean error of log p, {method}", "1", float(apart.mean()), 1.0, "nat")
            yield Row(f"nexvar_mito, largest error of log p, {method}", "1", float(apart.max()), 1.0, "nat")
            error = float((layers[method](many).float() - reference).norm()), float(reference.norm())
            yield Row(f"a layer of Evo 2 7B, error, {method}", "its output", *error, "norm")
    if not full:
        return
    with tempfile.TemporaryDirectory() as place:
        config = striped_hyena2.Config(
            hidden_size=1024, pattern="SDH" * 5, num_attention_heads=8, inner_mlp_size=2816, hcm_filter_groups=64
        )
        folder = save(Path(place) / "m", striped_hyena2.Model(config).bfloat16(), architecture="striped_hyena2",
                      config=config, card={"tokenizer": "byte", "objective": "causal"})  # fmt: skip
        size = sum(p.numel() for p in striped_hyena2.Model(config).parameters()) * 2 / 1e6
        for method in methods:
            command = [sys.executable, __file__, "peak", str(folder), str(method)]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            yield Row(f"peak while loading, {method}", "the checkpoint in bfloat16", float(out.split()[-1]), size, "MB")


if __name__ == "__main__":
    if sys.argv[1:2] == ["peak"]:
        torch.set_num_threads(1)
        print(peak(sys.argv[2], None if sys.argv[3] == "None" else sys.argv[3]))
    else:
        report(__doc__, rows)
