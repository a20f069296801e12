"""Mixture of experts: the sorted dispatch against the definition, and what it must not compute."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

from nexvar.ops.moe import load_balancing_loss, moe, moe_naive, route, z_loss


class CountingExpert(nn.Module):
    """A linear expert that remembers how many tokens it saw, forward and backward."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        self.forward_tokens: list[int] = []
        self.backward_tokens: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.forward_tokens.append(len(x))
        y = torch.tanh(self.linear(x))
        if y.requires_grad:
            y.register_hook(lambda g: self.backward_tokens.append(len(g)))
        return y


def make(n: int, experts: int, k: int, width: int = 6, seed: int = 0) -> tuple[Tensor, Tensor, list[CountingExpert]]:
    torch.manual_seed(seed)
    return (
        torch.randn(n, width, requires_grad=True),
        torch.randn(n, experts),
        [CountingExpert(width) for _ in range(experts)],
    )


@given(n=st.integers(1, 40), experts=st.integers(1, 9), k=st.integers(1, 4), seed=st.integers(0, 99))
def test_dispatch_equals_the_definition_forward_and_backward(n: int, experts: int, k: int, seed: int) -> None:
    k = min(k, experts)
    x, logits, fns = make(n, experts, k, seed=seed)
    logits.requires_grad_()
    results = []
    for op in (moe, moe_naive):
        weights, chosen = route(logits, k)
        out = op(x, weights, chosen, fns)
        inputs = [x, logits, *(f.linear.weight for f in fns)]
        grads = torch.autograd.grad((out * torch.arange(6.0)).sum(), inputs, allow_unused=True)
        results.append((out, [torch.zeros_like(i) if g is None else g for g, i in zip(grads, inputs, strict=True)]))
    (fast, fast_grads), (slow, slow_grads) = results
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    for a, b in zip(fast_grads, slow_grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_an_expert_computes_only_its_own_tokens_forward_and_backward() -> None:
    x, _, fns = make(10, experts=4, k=2)
    chosen = torch.tensor([[0, 2]] * 7 + [[2, 0]] * 3)
    out = moe(x, torch.full((10, 2), 0.5), chosen, fns)
    out.sum().backward()
    assert [sum(f.forward_tokens) for f in fns] == [10, 0, 10, 0]
    assert [sum(f.backward_tokens) for f in fns] == [10, 0, 10, 0]
    assert fns[1].linear.weight.grad is not None and not fns[1].linear.weight.grad.any()
    with torch.no_grad():
        moe(x, torch.full((10, 2), 0.5), chosen, fns)
    assert len(fns[1].forward_tokens) == 1  # without gradients an expert without tokens is not even called


def test_total_work_is_k_tokens_per_token() -> None:
    x, logits, fns = make(64, experts=8, k=2)
    moe(x, *route(logits, 2), fns)
    assert sum(sum(f.forward_tokens) for f in fns) == 2 * 64


@given(seed=st.integers(0, 99))
def test_permuting_the_tokens_permutes_the_result(seed: int) -> None:
    x, logits, fns = make(17, experts=5, k=2, seed=seed)
    order = torch.randperm(17)
    with torch.no_grad():
        direct = moe(x, *route(logits, 2), fns)[order]
        permuted = moe(x[order], *route(logits[order], 2), fns)
    torch.testing.assert_close(permuted, direct, atol=1e-6, rtol=1e-6)


def test_route_keeps_float32_and_sums_to_one_in_bfloat16() -> None:
    weights, chosen = route(torch.randn(50, 8, dtype=torch.bfloat16), 2)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(-1), torch.ones(50))
    assert bool((weights[:, 0] >= weights[:, 1]).all()) and bool((chosen[:, 0] != chosen[:, 1]).all())


def test_bfloat16_result_is_the_rounded_float32_sum() -> None:
    x, logits, fns = make(30, experts=4, k=2)
    x16, fns16 = x.detach().bfloat16(), [f.bfloat16() for f in fns]
    fast, slow = (op(x16, *route(logits, 2), fns16) for op in (moe, moe_naive))
    assert fast.dtype == torch.bfloat16
    few = moe(x16, torch.ones(30, 1), torch.zeros(30, 1, dtype=torch.long), fns16)
    few.float().sum().backward()
    assert [bool(f.linear.weight.grad.any()) for f in fns16] == [True, False, False, False]
    torch.testing.assert_close(fast, slow, atol=1e-2, rtol=1e-2)


def test_load_balancing_loss_is_k_when_balanced_and_grows_when_collapsed() -> None:
    balanced = torch.eye(8).repeat(4, 1)[None] * 0.01 + torch.eye(8).roll(1, 0).repeat(4, 1)[None] * 0.01
    assert float(load_balancing_loss([balanced], 2)) == pytest.approx(2.0, abs=1e-3)
    collapsed = torch.zeros(1, 32, 8)
    collapsed[..., :2] = 9.0
    assert float(load_balancing_loss([collapsed], 2)) > 7.9


def test_losses_ignore_padding() -> None:
    logits = [torch.randn(2, 6, 8) for _ in range(3)]
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()
    spoiled = [x.masked_fill(~mask[..., None], 50.0) for x in logits]
    for loss in (lambda x: load_balancing_loss(x, 2, mask), lambda x: z_loss(x, mask)):
        assert float(loss(spoiled)) == pytest.approx(float(loss(logits)), abs=1e-6)


def test_losses_have_gradients() -> None:
    logits = torch.randn(2, 6, 8, requires_grad=True)
    for loss in (load_balancing_loss([logits], 2), z_loss([logits])):
        (grad,) = torch.autograd.grad(loss, logits)
        assert float(grad.abs().sum()) > 0


def test_no_tokens_no_work() -> None:
    x, logits, fns = make(0, experts=4, k=2)
    assert moe(x, *route(logits, 2), fns).shape == (0, 6)
    assert sum(sum(f.forward_tokens) for f in fns) == 0
