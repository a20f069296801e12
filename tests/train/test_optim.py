"""Muon, AdamW and the schedules against their definitions."""

from __future__ import annotations

import pytest
import torch

from nexvar.errors import NexVarError
from nexvar.train import optim
from nexvar.train.recipe import OptimizerPart


def test_orthogonalized_updates_have_singular_values_near_one() -> None:
    for shape in ((40, 64), (96, 32)):
        values = torch.linalg.svdvals(optim.orthogonalize(torch.randn(shape)))
        assert float(values.min()) > 0.4 and float(values.max()) < 1.4


def test_muon_takes_a_convolution_for_a_matrix_of_its_outputs() -> None:
    torch.manual_seed(0)
    kernel = torch.randn(40, 32, 5)
    twins = {"blocks.0.conv.weight": kernel.clone(), "blocks.0.flat.weight": kernel.flatten(1).clone()}
    o = optim.Optimizer(OptimizerPart(kind="muon"), twins)
    for i in range(3):
        g = torch.randn(40, 32, 5)
        for p in twins.values():
            p.grad = g.view_as(p)
        o.step(i + 1, 1.0)
    conv, flat = twins.values()
    assert torch.equal(conv.flatten(1), flat) and not torch.equal(conv, kernel)
    assert not any(name.startswith("v.") for name in o.state)


def test_log_poles_stay_negative_whatever_the_gradient() -> None:
    p = torch.full((4, 2, 1), -1e-4)
    o = optim.Optimizer(OptimizerPart(adam_lr=0.1), {"blocks.0.filter.log_poles": p})
    for i in range(50):
        p.grad = -torch.ones_like(p)
        o.step(i + 1, 1.0)
    assert bool((p < 0).all()) and bool((p > -1e-4).all())


def test_adamw_is_torchs() -> None:
    torch.manual_seed(0)
    a = torch.randn(8, 8)
    b = torch.nn.Parameter(a.clone())
    mine = optim.Optimizer(OptimizerPart(adam_lr=0.01, weight_decay=0.1), {"x.weight": a})
    theirs = torch.optim.AdamW([b], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    for i in range(5):
        a.grad = torch.randn(8, 8)
        b.grad = a.grad.clone()
        mine.step(i + 1, 1.0)
        theirs.step()
    torch.testing.assert_close(a, b.detach())


def test_schedules() -> None:
    wsd = optim.Schedule("wsd", steps=10, warmup=2, decay=4)
    assert [wsd.factor(i) for i in range(10)] == [0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert [wsd.decay_now(3, 2).factor(i) for i in (2, 3, 4)] == [1, 1, 0.5] and wsd.decay_now(3, 2).steps == 5
    cosine = optim.Schedule("cosine", steps=12, warmup=2, floor=0.1, cosine_steps=10)
    assert cosine.factor(2) == pytest.approx(1) and cosine.factor(6) == pytest.approx(0.55)
    assert cosine.factor(10) == cosine.factor(11) == pytest.approx(0.1)
    with pytest.raises(NexVarError, match="impossible"):
        optim.Schedule("wsd", steps=10, warmup=8, decay=4)
