"""StripedHyena 2 against the original's way of computing it: ``python benchmarks/striped_hyena2.py [--full]``.

38.6 M parameters (width 512, 12 layers, pattern SDH*SDHSDH*S): a forward over 1,024 bases (--full: 8,192), the prefill
of a cache, and decoding after 256 tokens (2,048). The naive way gives bit for bit what the original code (vtx 1.0.8)
gives on these weights, in float32 and bfloat16, in the same time (checked once, one thread).
NOTE: a decoding step streams all weights for one token: the last row says what reading them once takes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

import _naive_striped_hyena2 as naive
from _measure import Row, at_matmul_rate, compare, interleaved, report, timed_row
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


def forwards(model: Model, length: int, dtype: torch.dtype) -> Iterator[Row]:
    ids = torch.randint(65, 85, (1, length), generator=torch.Generator().manual_seed(0))
    ours, theirs = (lambda: model(ids).logits), (lambda: naive.forward(model, ids))
    case, apart = f"forward of {length:,}, {name(dtype)}", 1e-3 if dtype == torch.float32 else 0.1
    found = list(compare(case, ours, "the original's way", theirs, repeats=2, apart=apart))
    yield from found
    yield at_matmul_rate(found[0], matmul_flops(length), dtype)
    prefill = lambda: model(ids, cache=model.new_cache(1, length + 64)).logits  # noqa: E731
    yield from compare(f"prefill of {length:,}, {name(dtype)}", prefill, "the forward", ours, repeats=2, apart=apart)


def decoding(model: Model, prompt: int, tokens: int, dtype: torch.dtype, repeats: int = 3) -> Iterator[Row]:
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

    times = interleaved({who: partial(go, who) for who in following}, repeats)
    if dtype == torch.float32 and written["ours"] != written["naive"]:
        raise SystemExit("the contestants wrote different tokens")
    case = f"{tokens} tokens after {prompt:,}, {name(dtype)}"
    yield timed_row(case, "the original's way", times)
    weights = [p for p in model.parameters() if p.ndim == 2]
    read = interleaved({"read": lambda: [p.sum() for p in weights]}, 5)["read"]
    yield Row(case, "reading the weights as often", times["ours"].cpu, tokens * read.cpu)


def name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@torch.inference_mode()
def rows(full: bool) -> Iterator[Row]:
    length, prompt, tokens = (8192, 2048, 16) if full else (1024, 256, 8)
    for dtype in (torch.float32, torch.bfloat16):
        model = make(dtype)
        yield from forwards(model, length, dtype)
        yield from decoding(model, prompt, tokens, dtype)


if __name__ == "__main__":
    report(__doc__, rows)
