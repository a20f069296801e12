"""StripedHyena 2 against the original's way of computing it: ``python benchmarks/striped_hyena2.py [--length 8192]``.

38.6 M parameters (width 512, 12 layers, pattern SDH*SDHSDH*S), two threads, one process, contestants in turn.
``ratio`` is ours / naive; for decoding, speed-up is naive / ours. The naive way gives bit for bit what the original
code (vtx 1.0.8) gives on these weights, in float32 and bfloat16, in the same time (checked once, one thread).
NOTE: a decoding step streams all weights for one token: ``weights`` says how long reading them once takes here.
"""

from __future__ import annotations

import argparse

import torch

import _naive_striped_hyena2 as naive
from _measure import Timing, interleaved, matmul_rate, peak_above, table
from nexvar.models.striped_hyena2 import KEEP_FLOAT32, Config, Model
from nexvar.threads import largest_matrix, threads_for

CONFIG = Config(
    hidden_size=512,
    pattern="SDH*SDHSDH*S",
    num_attention_heads=8,
    inner_mlp_size=1408,
    hcs_filter_groups=32,
    hcm_filter_groups=32,
)


def make(dtype: torch.dtype) -> Model:
    model = Model(CONFIG)
    model.init_weights(torch.Generator().manual_seed(0))
    for name, p in model.named_parameters():
        if not any(name.endswith(keep[1:]) for keep in KEEP_FLOAT32):
            p.data = p.data.to(dtype)
    return model.eval()


def matmul_flops(length: int) -> float:
    """Of the linear layers and the causal half of attention."""
    matrices = sum(p.numel() for n, p in make(torch.float32).named_parameters() if p.ndim == 2 and "residues" not in n)
    return 2 * matrices * length + 2 * CONFIG.pattern.count("*") * length**2 * CONFIG.hidden_size


def forwards(length: int, dtype: torch.dtype, repeats: int) -> list[list[object]]:
    model = make(dtype)
    ids = torch.randint(65, 85, (1, length), generator=torch.Generator().manual_seed(0))
    ours, theirs = lambda: model(ids).logits, lambda: naive.forward(model, ids)
    difference = (ours().float() - theirs().float()).abs().max().item()
    if difference > (1e-3 if dtype == torch.float32 else 0.3):
        raise SystemExit(f"the contestants disagree by {difference}")
    prefill = lambda: model(ids, cache=model.new_cache(1, length + 64))  # noqa: E731
    times = interleaved({"ours": ours, "naive": theirs, "prefill": prefill}, repeats, warmup=0)
    peaks = {"ours": peak_above(ours), "naive": peak_above(theirs), "prefill": peak_above(prefill)}
    rate = matmul_flops(length) / times["ours"].cpu / 1e9 / matmul_rate(dtype)
    what = f"{length} {str(dtype)[6:]}"
    return [
        row(f"forward {what}", times["ours"], times["naive"], peaks["ours"], peaks["naive"], f"{rate:.0%}"),
        row(f"prefill {what} / forward", times["prefill"], times["ours"], peaks["prefill"], peaks["ours"], ""),
    ]


def row(name: str, a: Timing, b: Timing, a_peak: int, b_peak: int, rate: str) -> list[object]:
    return [name, a.cpu, b.cpu, a.cpu / b.cpu, a.wall, b.wall, a_peak / 1e6, b_peak / 1e6, a_peak / b_peak, rate]


def reading(dtype: torch.dtype) -> float:
    """CPU milliseconds to read every weight of the linear layers once: the floor of a decoding step."""
    weights = [p for p in make(dtype).parameters() if p.ndim == 2]
    return 1e3 * interleaved({"read": lambda: [p.sum() for p in weights]}, 5)["read"].cpu


def decoding(prompt: int, tokens: int, dtype: torch.dtype, repeats: int) -> list[object]:
    model = make(dtype)
    ids = torch.randint(65, 85, (1, prompt), generator=torch.Generator().manual_seed(0))
    cache, state = model.new_cache(1, prompt + (repeats + 1) * tokens + 1), {}
    first = model(ids, cache=cache, logits=slice(-1, None)).logits
    theirs_first = naive.forward(model, ids, state)[:, -1:]
    following = {"ours": first.argmax(-1), "naive": theirs_first.argmax(-1)}
    written: dict[str, list[int]] = {"ours": [], "naive": []}

    def go(who: str) -> None:
        for _ in range(tokens):
            token = following[who]
            if who == "ours":
                with threads_for(largest_matrix(model), dtype):  # as in generate.py
                    logits = model(token, cache=cache).logits
            else:
                logits = naive.forward(model, token, state)
            following[who] = logits.argmax(-1)
            written[who].append(int(following[who]))

    times = interleaved({who: lambda who=who: go(who) for who in following}, repeats)
    if dtype == torch.float32 and written["ours"] != written["naive"]:
        raise SystemExit("the contestants wrote different tokens")
    a, b = times["ours"], times["naive"]
    return [
        f"decode after {prompt}, {str(dtype)[6:]}",
        1e3 * a.cpu / tokens,
        1e3 * b.cpu / tokens,
        reading(dtype),
        b.cpu / a.cpu,
        tokens / a.wall,
        tokens / b.wall,
        b.wall / a.wall,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--prompt", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    both = (torch.float32, torch.bfloat16)
    for dtype in both:
        print(f"matmul {str(dtype)[6:]}: {matmul_rate(dtype):.0f} GFLOP per CPU-second")
    rows = [r for dtype in both for r in forwards(options.length, dtype, options.repeats)]
    rates = ["cpu s", "naive cpu s", "ratio", "wall s", "naive wall s"]
    print(table(["case", *rates, "peak MB", "naive peak MB", "ratio", "of matmul rate"], rows))
    rows = [decoding(options.prompt, options.tokens, dtype, options.repeats) for dtype in both]
    print(
        table(["case", "cpu ms/token", "naive", "weights", "speed-up", "tokens/s", "naive tokens/s", "speed-up"], rows)
    )


if __name__ == "__main__":
    main()
