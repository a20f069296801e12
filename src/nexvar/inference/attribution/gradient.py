"""Gradients of a target with respect to what a model reads: the embeddings of its tokens.

Weights are left out of the graph, so that only activations are kept; several points and views run together, as many as
the memory holds. What a forward keeps for its gradient is measured on a short piece before the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from nexvar.errors import NexVarError
from nexvar.inference.attribution.reading import Reading
from nexvar.inference.attribution.target import Target, View
from nexvar.inference.core.batching import MEMORY_SHARE, run_whole
from nexvar.models import Output
from nexvar.weights import machine
from nexvar.weights.load import Loaded

PROBE_TOKENS = 256
WITHOUT = "method 'ism' or a dependency map, which need no gradient"


def forward(loaded: Loaded, target: Target, ids_BT: Tensor, **embeds: Tensor) -> list[Output]:
    """Rows of one length: of each what the target asks for, without the batch axis.

    NOTE: unbound at once, since the gradient of an indexed batch is as large as the batch for every row.
    """
    output: Output = loaded.module(ids_BT, taps=target.taps, logits=target.logits, **target.given, **embeds)
    extras = {name: value for name, value in output.extras.items() if isinstance(value, Tensor) and value.ndim}
    named = {"logits": output.logits, **output.taps, **extras}
    of_rows = {name: values.unbind(0) for name, values in named.items() if values is not None}
    return [
        Output(
            of_rows["logits"][row] if "logits" in of_rows else None,
            {name: of_rows[name][row] for name in output.taps},
            {name: of_rows[name][row] for name in extras},
        )
        for row in range(len(ids_BT))
    ]


def gradients(
    reading: Reading, target: Target, point: Callable[[int], Tensor], weights: Sequence[float]
) -> tuple[np.ndarray, Tensor]:
    """(N,) float64 values of the target where the model reads the embeddings ``point(n)``, (T, D), for each weight; and
    the weighted sum of its gradients there, (T, D) float32.

    NexVarError where the model gives no gradient, or too many tokens for the memory.
    """
    loaded, views = reading.loaded, target.views(reading)
    values_N, total_TD = np.zeros(len(weights)), torch.zeros_like(point(0), dtype=torch.float32)
    ids_T = torch.as_tensor(reading.ids_T, device=loaded.device)
    put = [_put(reading, view) for view in views]

    def compute(jobs: list[tuple[int, int]]) -> list[None]:
        points = [n for n, _ in jobs]
        ids_BT = ids_T.repeat(len(jobs), 1)
        leaf_BTD = torch.stack([point(n) for n in points]).detach().requires_grad_()
        fixed_BTD, is_fixed_BT = torch.zeros_like(leaf_BTD), torch.zeros_like(ids_BT, dtype=torch.bool)
        for row, (_, v) in enumerate(jobs):
            at_P, id_P, embeds_PD = put[v]
            ids_BT[row, at_P], fixed_BTD[row, at_P], is_fixed_BT[row, at_P] = id_P, embeds_PD, True
        rows = forward(loaded, target, ids_BT, embeds_BLD=torch.where(is_fixed_BT[..., None], fixed_BTD, leaf_BTD))
        read = [views[v].weight * views[v].read(row) for row, (_, v) in zip(rows, jobs, strict=True)]
        (gradient_BTD,) = torch.autograd.grad(torch.stack(read).sum(), leaf_BTD)
        for n, gradient_TD in zip(points, gradient_BTD, strict=True):
            total_TD.add_(gradient_TD.float(), alpha=weights[n])
        np.add.at(values_N, points, [float(value.detach()) for value in read])
        return [None] * len(jobs)

    jobs = [(n, v) for n in range(len(weights)) for v in range(len(views))]
    with torch.inference_mode(False), torch.enable_grad(), _without_weights(loaded.module):
        step = _rows(reading)
        for at in range(0, len(jobs), step):
            run_whole(loaded, jobs[at : at + step], compute, lambda _: len(reading.ids_T))
    return values_N, total_TD


def _put(reading: Reading, view: View) -> tuple[Tensor, Tensor, Tensor]:
    """Where a view puts tokens, which, and their embeddings."""
    device = reading.loaded.device
    at_P, id_P = (torch.tensor(list(each), dtype=torch.long, device=device) for each in (view.put, view.put.values()))
    embeds_PD = reading.embedded(id_P.cpu().numpy()) if len(id_P) else reading.embedded()[:0]
    return at_P, id_P, embeds_PD


@contextmanager
def _without_weights(module: nn.Module) -> Iterator[None]:
    """No parameter is part of the graph inside."""
    trained = [p for p in module.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _rows(reading: Reading) -> int:
    """How many rows run together; NexVarError where not even one fits, or no gradient comes through."""
    loaded, T = reading.loaded, len(reading.ids_T)
    needed = _kept_bytes(reading) * T
    free = machine.free_memory(loaded.device)
    if needed > free:
        kept, there = machine.human_bytes(needed), machine.human_bytes(free)
        what = f"a gradient of {T:,} tokens keeps about {kept}, {there} are free"
        raise NexVarError(what, where="method", fix=f"a smaller window, or {WITHOUT}")
    share = MEMORY_SHARE.get(loaded.device.type, MEMORY_SHARE["cpu"])
    return max(1, int(free * share / max(needed, 1)))


def _kept_bytes(reading: Reading) -> float:
    """What a forward keeps of a token for its gradient: measured on the first tokens, weights aside; and its logits."""
    loaded = reading.loaded
    ids_1T = torch.as_tensor(reading.ids_T[None, :PROBE_TOKENS], device=loaded.device)
    own = {p.untyped_storage().data_ptr() for p in (*loaded.module.parameters(), *loaded.module.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    embeds_1TD = reading.embedded(reading.ids_T[:PROBE_TOKENS])[None].requires_grad_()
    layer = loaded.module.last_hidden
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            hidden = loaded.module(ids_1T, embeds_BLD=embeds_1TD, taps=(layer,), logits=False).taps[layer]
            (gradient,) = torch.autograd.grad(hidden.float().square().sum(), embeds_1TD)
        through = bool(torch.isfinite(gradient).all() and gradient.any())
    except (RuntimeError, NotImplementedError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        through = False
    if not through:
        what = f"no gradient comes through the weights of {loaded.card.name} ({loaded.precision})"
        raise NexVarError(what, where="method", fix=f"{WITHOUT}; or the model without quantize")
    return sum(kept.values()) / ids_1T.shape[1] + 8 * loaded.module.config.vocabulary


def check_gradient(loaded: Loaded) -> None:
    """NexVarError for a model that takes no embeddings in place of its tokens."""
    if not loaded.module.token_embedding:
        what = f"{loaded.card.name} takes no embeddings in place of tokens: it has no gradient to what it reads"
        raise NexVarError(what, where="method", fix=WITHOUT)


Assigned = tuple[np.ndarray, "np.ndarray | None"]


def of_bases(reading: Reading, gradient_TD: Tensor, from_TD: Tensor | float = 0.0) -> Assigned:
    """(L,) what each base adds, and (L, 4) what each base would add in its place; float32.

    A token adds (its embedding - ``from_TD``) x gradient, and each of its bases an equal share. Another base adds what
    the token with it in its place would add more. None under BPE, where other bases make other tokens.
    """
    embeds_TD = reading.embedded().float()
    of_token_T = ((embeds_TD - from_TD) * gradient_TD).sum(-1).cpu().numpy()
    share_T = np.bincount(reading.token_L[reading.token_L >= 0], minlength=len(reading.ids_T)).clip(min=1)
    values_L = np.where(reading.token_L >= 0, (of_token_T / share_T)[reading.token_L], 0.0).astype(np.float32)
    if not reading.tokens_of_bases:
        return values_L, None
    known = [i for i, letter in enumerate(reading.text) if letter in "ACGT"]
    others_K4 = np.array([[reading.token_with(i, b) for b in "ACGT"] for i in known], dtype=np.int64).reshape(-1, 4)
    unique, places = np.unique(others_K4, return_inverse=True)
    index_K4 = torch.as_tensor(places.reshape(-1, 4), device=gradient_TD.device)
    table_UD = reading.embedded(unique).float()
    at_K = torch.as_tensor(reading.token_L[known], device=gradient_TD.device)
    own_KD, gradient_KD = embeds_TD[at_K], gradient_TD[at_K]
    more_K4 = torch.stack([((table_UD[index_K4[:, b]] - own_KD) * gradient_KD).sum(-1) for b in range(4)], 1)
    hypothetical_L4 = np.full((len(reading.text), 4), np.nan, dtype=np.float32)
    hypothetical_L4[known] = values_L[known, None] + more_K4.cpu().numpy()
    return values_L, hypothetical_L4
