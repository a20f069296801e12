"""NT-v2-50M (random weights), 2 x 2,048 tokens: this package against the remote code's way of computing it.

    python benchmarks/nucleotide_transformer.py [--rows 2] [--tokens 2048] [--threads 2]

The naive contestant is written the way the hub's modeling_esm.py computes: scores, masks and probabilities for all
heads in memory, the rotary tables anew in every layer, every temporary at full length.
"""

from __future__ import annotations

import argparse
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from _measure import interleaved, matmul_rate, peak_above, table
from nexvar.models.nucleotide_transformer import Config, Model

NT_V2_50M = Config(
    vocab_size=4107,
    hidden_size=512,
    num_hidden_layers=12,
    num_attention_heads=16,
    intermediate_size=2048,
    max_position_embeddings=2050,
)


def naive_forward(model: Model, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """Logits (B, L, V) of an NT v2 model, every intermediate materialised."""
    config = model.config
    bias_B11L = (1.0 - mask_BL[:, None, None].float()) * torch.finfo(torch.float32).min
    x_BLD = model.esm.embeddings.word_embeddings(ids_BL) * mask_BL[..., None]
    for layer in model.esm.encoder.layer:
        attention = layer.attention
        h = attention.LayerNorm(x_BLD)
        q, k, v = (
            _heads(h, p, config.num_attention_heads)
            for p in (attention.self.query, attention.self.key, attention.self.value)
        )
        q = q * q.shape[-1] ** -0.5
        angles = torch.outer(torch.arange(q.shape[2]).float(), model.inv_freq)
        angles = torch.cat([angles, angles], -1)
        q, k = (_rotate(t, angles.cos(), angles.sin()) for t in (q, k))
        scores = torch.matmul(q, k.transpose(-1, -2)) + bias_B11L
        mixed = torch.matmul(F.softmax(scores, dim=-1), v).permute(0, 2, 1, 3).contiguous().flatten(2)
        x_BLD = x_BLD + _plain(attention.output.dense, mixed)
        gate, value = _plain(layer.intermediate.dense, layer.LayerNorm(x_BLD)).chunk(2, -1)
        x_BLD = x_BLD + _plain(layer.output.dense, F.silu(gate) * value)
    head = model.lm_head
    h = _plain(head.dense, model.esm.encoder.emb_layer_norm_after(x_BLD))
    h = h * 0.5 * (1.0 + torch.erf(h / math.sqrt(2.0)))
    return F.linear(head.layer_norm(h), head.decoder.weight) + head.decoder.bias


def _plain(layer: torch.nn.Linear, x: Tensor) -> Tensor:
    return F.linear(x, layer.weight, layer.bias)


def _heads(x_BLD: Tensor, projection: torch.nn.Linear, heads: int) -> Tensor:
    return _plain(projection, x_BLD).unflatten(-1, (heads, -1)).permute(0, 2, 1, 3)


def _rotate(x_BHLd: Tensor, cos_Ld: Tensor, sin_Ld: Tensor) -> Tensor:
    a, b = x_BHLd.chunk(2, -1)
    return x_BHLd * cos_Ld + torch.cat([-b, a], -1) * sin_Ld


def flops(config: Config, rows: int, tokens: int) -> float:
    """Multiply-adds times two of one forward: projections, attention, MLP, LM head."""
    width, inner = config.hidden_size, config.intermediate_size
    per_token = 4 * width**2 + 3 * width * inner + 2 * tokens * width
    head = width**2 + width * config.vocab_size
    return 2.0 * rows * tokens * (config.num_hidden_layers * per_token + head)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = Model(NT_V2_50M).eval()
    ids_BL = torch.randint(6, 4102, (args.rows, args.tokens))
    mask_BL = torch.ones_like(ids_BL, dtype=torch.bool)
    with torch.inference_mode():
        ours, theirs = (lambda: model(ids_BL).logits), (lambda: naive_forward(model, ids_BL, mask_BL))
        difference = (ours() - theirs()).abs().max().item()
        rate = matmul_rate()
        times = interleaved({"nexvar": ours, "remote-code style": theirs}, repeats=args.repeats)
        memory = {"nexvar": peak_above(ours), "remote-code style": peak_above(theirs)}
    work = flops(NT_V2_50M, args.rows, args.tokens) / 1e9
    rows = [
        [name, t.wall, t.cpu, work / t.cpu / rate, memory[name] / 2**20, times["remote-code style"].cpu / t.cpu]
        for name, t in times.items()
    ]
    print(f"NT-v2-50M, {args.rows} x {args.tokens} tokens, float32, {args.threads} threads")
    print(f"largest difference of the logits: {difference:.1e}")
    print(f"this machine's matmul: {rate:.0f} GFLOP per CPU-second")
    print(table(["", "wall s", "cpu s", "of matmul rate", "peak MB above model", "times faster (cpu)"], rows))


if __name__ == "__main__":
    main()
