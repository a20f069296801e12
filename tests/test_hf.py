"""A model as Hugging Face's tools call one: every golden checkpoint, so that a new architecture is tested unasked."""

from __future__ import annotations

import inspect
import json

import pytest
import torch
import torch.nn.functional as F

from nexvar import NexVar, NexVarError
from nexvar.evals.promises import ids_of
from nexvar.hf import HFModel
from places import LANGUAGE_MODELS

LENGTH = 96


@pytest.fixture(scope="module", params=LANGUAGE_MODELS, ids=lambda folder: folder.name)
def model(request) -> NexVar:
    return NexVar(request.param, dtype="float32", device="cpu")


@pytest.fixture
def hf(model) -> HFModel:
    return model.as_hf()


@pytest.fixture
def ids(model):
    return torch.cat([ids_of(model.loaded, LENGTH, start) for start in (0, 200)], 0) if _equal(model) else _rows(model)


def _equal(model: NexVar) -> bool:
    return ids_of(model.loaded, LENGTH).shape == ids_of(model.loaded, LENGTH, 200).shape


def _rows(model: NexVar) -> torch.Tensor:
    rows = [ids_of(model.loaded, LENGTH, start) for start in (0, 200)]
    return torch.cat([row[:, : min(r.shape[1] for r in rows)] for row in rows])


@torch.no_grad()
def test_logits_are_the_models_from_ids_and_from_their_embeddings(model, hf, ids):
    wanted = model.model(ids).logits
    assert torch.equal(hf(input_ids=ids).logits, wanted)
    embeds = hf.get_input_embeddings()(ids)
    torch.testing.assert_close(hf(inputs_embeds=embeds).logits, wanted, rtol=1e-5, atol=1e-5)
    ones = torch.ones_like(ids)
    torch.testing.assert_close(hf(inputs_embeds=embeds, attention_mask=ones).logits, wanted, rtol=1e-4, atol=2e-5)


@torch.no_grad()
def test_padding_is_hidden_beside_embeddings_too(model, hf, ids):
    if not model.model.pads_safely:
        pytest.skip("knows no mask")
    mask = torch.ones_like(ids)
    mask[1, ids.shape[1] // 2 :] = 0
    padded = torch.where(mask.bool(), ids, model.tokenizer.pad_id)
    wanted = hf(input_ids=padded, attention_mask=mask).logits[mask.bool()]
    embeds = hf.get_input_embeddings()(padded)
    given = hf(inputs_embeds=embeds, attention_mask=mask).logits[mask.bool()]
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=2e-5)
    alone = hf(inputs_embeds=embeds[1:, : ids.shape[1] // 2]).logits
    torch.testing.assert_close(given[-alone.shape[1] :], alone[0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_masked_tokens_beside_embeddings_are_masked(model, hf, ids):
    if model.tokenizer.mask_id is None or model.model.causal:
        pytest.skip("a causal model")
    masked = ids.clone()
    masked[:, 3::7] = model.tokenizer.mask_id
    embeds = hf.get_input_embeddings()(masked)
    wanted = hf(input_ids=masked).logits
    torch.testing.assert_close(hf(input_ids=masked, inputs_embeds=embeds).logits, wanted, rtol=1e-5, atol=1e-5)


def test_gradients_of_embeddings_are_the_finite_differences(model, hf, ids):
    embeds = hf.get_input_embeddings()(ids[:1]).detach().requires_grad_()
    weights = torch.randn(hf.config.vocab_size, generator=torch.Generator().manual_seed(1))

    def value(embeds):
        return (hf(inputs_embeds=embeds).logits.double().log_softmax(-1) * weights).mean() * 100

    (gradient,) = torch.autograd.grad(value(embeds), embeds)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for position in (0, embeds.shape[1] // 2, -1):  # one at a time: a router's choice of experts seldom jumps then
            direction = torch.zeros_like(embeds)
            direction[:, position] = torch.randn(embeds.shape[2], generator=generator) * embeds.std()
            wanted = float((gradient * direction).sum())
            scale = float(gradient[:, position].norm() * direction.norm()) / embeds.shape[2] ** 0.5
            near = pytest.approx(wanted, rel=0.02, abs=0.02 * scale)
            seen = [difference(value, embeds, direction, step) for step in (1e-2, 3e-3, 1e-3, 3e-4)]
            assert any(each == near for each in seen), (wanted, seen)


def difference(value, embeds, direction, step) -> float:
    return float(value(embeds + step * direction) - value(embeds - step * direction)) / (2 * step)


def test_the_loss_is_the_cross_entropy_written_out(model, hf, ids):
    labels = ids.clone()
    labels[:, ::3] = -100
    out = hf(input_ids=ids, labels=labels)
    log_p, total, count = out.logits.detach().float().log_softmax(-1), 0.0, 0
    for row in range(len(ids)):
        for at in range(ids.shape[1]):
            if model.model.causal and at == 0:
                continue  # nothing predicts the first token
            if (label := int(labels[row, at])) != -100:
                total -= float(log_p[row, at - 1 if model.model.causal else at, label])
                count += 1
    assert float(out.loss.detach()) == pytest.approx(total / count, rel=1e-5)
    out.loss.backward()
    reached = [p.grad is not None and bool(p.grad.any()) for p in hf.parameters()]
    hf.zero_grad(set_to_none=True)
    assert sum(reached) > len(reached) / 2


def test_gradient_checkpointing_changes_no_gradient(hf, ids):
    def gradients():
        hf.zero_grad(set_to_none=True)
        hf(input_ids=ids, labels=ids).loss.backward()
        given = {name: p.grad.clone() for name, p in hf.named_parameters() if p.grad is not None}
        hf.zero_grad(set_to_none=True)
        return given

    plain = gradients()
    hf.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        recomputed = gradients()
    finally:
        hf.gradient_checkpointing_disable()
    assert recomputed.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


@torch.no_grad()
def test_hidden_states_begin_with_the_embeddings_and_end_with_the_last(model, hf, ids):
    out = hf(input_ids=ids, output_hidden_states=True)
    last = model.model(ids, taps=(model.model.last_hidden,), logits=False).taps[model.model.last_hidden]
    assert torch.equal(out.hidden_states[-1], last)
    assert len(out.hidden_states) > hf.config.num_hidden_layers - 1
    assert hf(input_ids=ids).hidden_states is None


@torch.no_grad()
def test_outputs_are_read_by_attribute_name_and_number(hf, ids):
    out = hf(input_ids=ids, labels=ids)
    assert out[0] is out.loss is out["loss"]
    assert out[1] is out.logits is out["logits"]
    assert list(out) == ["loss", "logits"]
    assert [type(x) for x in hf(input_ids=ids, labels=ids, return_dict=False)] == [torch.Tensor] * 2
    assert type(out)({name: value for name, value in out.items()}).loss is out.loss  # as accelerate copies one
    with pytest.raises(AttributeError):
        _ = out.past_key_values


def test_config_says_what_tools_ask(model, hf):
    config = json.loads(hf.config.to_json_string())
    assert config["model_type"] == model.card.architecture
    assert config["hidden_size"] == hf.config.get("hidden_size") == model.model.config.width
    assert config["vocab_size"] == model.model.config.vocabulary
    assert hf.config.get("absent", 3) == 3
    assert (hf.device.type, hf.dtype) == ("cpu", torch.float32)


def test_trainer_sees_its_columns_and_no_more():
    """It drops columns that forward does not name, and scales the loss of models that take **kwargs itself."""
    parameters = inspect.signature(HFModel.forward).parameters
    assert {"input_ids", "attention_mask", "labels", "inputs_embeds"} <= set(parameters)
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def test_weights_are_shared_with_the_model(golden):
    model = NexVar(golden / "nt_v2_tiny", dtype="float32", device="cpu")
    hf = model.as_hf()
    hf.train()
    ids = ids_of(model.loaded, LENGTH)
    optimizer = torch.optim.SGD(hf.parameters(), lr=0.05)
    losses = []
    for _ in range(5):
        out = hf(input_ids=ids, labels=ids)
        out.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(out.loss.detach()))
    assert losses[-1] < losses[0]
    outputs, _ = model(ids)
    assert float(F.cross_entropy(outputs[0][0], ids[0])) < losses[-1]


def test_the_models_frozen_weights_still_give_gradients_to_embeddings(golden):
    for folder in ("hyenadna_tiny", "caduceus_ps_tiny", "genos_tiny"):
        model = NexVar(golden / folder, dtype="float32", device="cpu")
        hf = model.as_hf()
        hf.requires_grad_(False)
        embeds = hf.get_input_embeddings()(ids_of(model.loaded, LENGTH)).requires_grad_()
        hf(inputs_embeds=embeds).logits.logsumexp(-1).sum().backward()
        assert embeds.grad is not None and bool(embeds.grad.any()), folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "neither input_ids nor inputs_embeds"),
        ({"input_ids": [[1, 2]]}, "a list"),
        ({"input_ids": torch.zeros(2, 3)}, "whole numbers"),
        ({"input_ids": torch.full((1, 4), 10**6)}, "no token"),
        ({"inputs_embeds": torch.zeros(1, 4, 7)}, r"\(1, 4, 7\)"),
        ({"inputs_embeds": torch.zeros(4, 32)}, r"\(4, 32\)"),
        ({"inputs_embeds": "ACGT"}, "'ACGT'"),
        ({"inputs_embeds": torch.zeros(1, 4, 32, dtype=torch.long)}, "floating point"),
        ({"input_ids": torch.zeros(1, 4, dtype=torch.long), "inputs_embeds": torch.zeros(1, 5, 32)}, r"\(1, 4, 32\)"),
        ({"input_ids": torch.zeros(1, 4, dtype=torch.long), "labels": torch.zeros(1, 5)}, "labels"),
        ({"input_ids": torch.zeros(1, 4, dtype=torch.long), "labels": torch.full((1, 4), 5000)}, "labels"),
        ({"input_ids": torch.zeros(1, 4, dtype=torch.long), "attention_mask": torch.zeros(4)}, "attention_mask"),
    ],
)
def test_what_no_forward_takes_is_one_line(golden, arguments, said):
    hf = NexVar(golden / "nt_v2_tiny", dtype="float32", device="cpu").as_hf()
    with pytest.raises(NexVarError, match=said):
        hf(**arguments)
