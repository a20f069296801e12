"""Genos against transformers' Mixtral on the same weights, and what a user may rely on beyond it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from safetensors.torch import load_file
from torch import Tensor

from nexvar import NexVar, cards, tokenizers
from nexvar.errors import NexVarError
from nexvar.inference.core.sampling import Sampling
from nexvar.inference.generate import generate
from nexvar.models.genos import KEEP_FLOAT32, Config, Model
from nexvar.models.layouts.genos import convert, from_official, matches
from places import GOLDEN

FOLDER = GOLDEN / "genos_tiny"
OFFICIAL = json.loads((FOLDER / "config.json").read_text())
CONFIG = from_official(OFFICIAL)
IO = load_file(FOLDER / "io.safetensors")
IDS, MASK = IO["input_ids"], IO["attention_mask"].bool()
ROW = IDS[:1]
BLOCKS = [f"model.layers.{i}" for i in range(3)]
GENOS_1_2B, GENOS_10B = (Config(**cards.get(name).config) for name in ("genos_1.2b", "genos_10b"))


def load(dtype: torch.dtype = torch.float32) -> Model:
    with torch.device("meta"):
        model = Model(CONFIG)
    state = convert(load_file(FOLDER / "weights.safetensors"), CONFIG)
    kept = KEEP_FLOAT32[0].strip("*")
    state = {k: v if kept in k else v.to(dtype) for k, v in state.items()}
    model.load_state_dict(state, strict=True, assign=True)
    model.reset_buffers()
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Model:
    return load()


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_logits_and_every_hidden_state(model: Model) -> None:
    names = ["model.embed_tokens", *BLOCKS[:2], "model.norm"]  # transformers' last hidden state is after the norm
    with torch.no_grad():
        out = model(IDS, mask_BL=MASK, taps=[*names, BLOCKS[2]])
    close(out.logits[MASK], IO["logits"][MASK])
    for i, name in enumerate(names):
        close(out.taps[name][MASK], IO[f"hidden_states.{i}"][MASK])
    close(model.model.norm(out.taps[BLOCKS[2]]), out.taps["model.norm"])


def test_router_logits_and_losses(model: Model) -> None:
    with torch.no_grad():
        out = model(IDS, mask_BL=MASK, taps=["model.layers.1.block_sparse_moe.gate"])
        alone = model(ROW)
    for i, logits in enumerate(out.extras["router_logits"]):
        assert logits.dtype == torch.float32 and logits.shape == (3, 27, 8)
        close(logits[MASK], IO[f"router_logits.{i}"].view(3, 27, 8)[MASK])
    assert torch.equal(out.taps["model.layers.1.block_sparse_moe.gate"], out.extras["router_logits"][1])
    close(out.extras["aux_loss"], IO["aux_loss"][0])
    close(alone.extras["aux_loss"], IO["nomask.aux_loss"][0])
    every = torch.cat([IO[f"router_logits.{i}"][MASK.flatten()] for i in range(3)])
    close(out.extras["z_loss"], every.exp().sum(-1).log().square().mean())


def test_training_loss(model: Model) -> None:
    labels = IDS.masked_fill(~MASK, -100)
    with torch.no_grad():
        out = model(IDS, mask_BL=MASK)
    loss = F.cross_entropy(out.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    close(loss, IO["loss_lm_only"][0])
    close(loss + OFFICIAL["router_aux_loss_coef"] * out.extras["aux_loss"], IO["loss_with_aux"][0])


def test_attention_maps(model: Model) -> None:
    with torch.no_grad():
        out = model(IDS, mask_BL=MASK, attentions=[0])
        close(out.logits[MASK], IO["logits"][MASK])
    ours, theirs = out.extras["attentions"][0], IO["attentions.0"]
    for row, length in enumerate(MASK.sum(1)):
        close(ours[row, :, :length], theirs[row, :, :length])


def test_without_a_mask_and_far_from_the_start(model: Model) -> None:
    with torch.no_grad():
        close(model(ROW).logits, IO["nomask.logits"])
        far = model(ROW, start=int(IO["far.position_ids"][0, 0]))
    close(far.logits, IO["far.logits"])
    assert float((IO["far.logits"] - IO["nomask.logits"]).abs().max()) > 5e-4, "the case tells float32 angles apart"


def test_cached_greedy_generation_and_step(model: Model) -> None:
    cache, step, ids = model.new_cache(1, 39), ROW, ROW
    with torch.no_grad():
        for _ in range(12):
            step = model(step, cache=cache, logits=slice(-1, None)).logits.argmax(-1)
            ids = torch.cat([ids, step], 1)
        assert torch.equal(ids, IO["greedy.output_ids"]) and cache.length == 38
        cache = model.new_cache(1, 11)
        model(ROW[:, :10], cache=cache, logits=False)
        close(model(ROW[:, 10:11], cache=cache).logits, IO["cache.step_logits"])


@given(cuts=st.lists(st.integers(1, 26), max_size=5, unique=True), start=st.sampled_from([0, 1000]))
def test_a_cache_cut_anywhere_equals_the_whole(model: Model, cuts: list[int], start: int) -> None:
    cache, edges = model.new_cache(3, 30), [0, *sorted(cuts), 27]
    with torch.no_grad():
        whole = model(IDS, start=start).logits
        pieces = [model(IDS[:, a:b], cache=cache, start=start).logits for a, b in zip(edges, edges[1:], strict=False)]
    close(torch.cat(pieces, 1), whole)


def test_branches_of_a_cache(model: Model) -> None:
    tails = torch.tensor([[8, 8, 5], [5, 6, 7], [7, 7, 7]])
    with torch.no_grad():
        cache = model.new_cache(1, 40)
        model(ROW, cache=cache)
        branches = cache.select(torch.tensor([0, 0, 0]))
        ours = model(tails, cache=branches).logits
        whole = model(torch.cat([ROW.expand(3, -1), tails], 1)).logits[:, 27:]
        close(model(tails[1:2], cache=cache).logits, whole[1:2])  # the original is unharmed
    close(ours, whole)
    assert (branches.length, branches.max_length) == (30, 40)


def test_left_padding_gives_the_unpadded_logits_with_and_without_cache(model: Model) -> None:
    lengths = MASK.sum(1).tolist()
    ids, mask = torch.zeros_like(IDS), torch.zeros_like(MASK)
    for row, n in enumerate(lengths):
        ids[row, 27 - n :], mask[row, 27 - n :] = IDS[row, :n], True
    extra = torch.tensor([[8, 5]]).expand(3, -1)
    with torch.no_grad():
        alone = [model(torch.cat([IDS[r : r + 1, :n], extra[:1]], 1)).logits[0] for r, n in enumerate(lengths)]
        out = model(ids, mask_BL=mask)
        cache = model.new_cache(3, 32)
        model(ids[:, :20], mask_BL=mask[:, :20], cache=cache)
        model(ids[:, 20:], mask_BL=mask[:, 20:], cache=cache)
        ours = model(extra, cache=cache.select(torch.tensor([0, 1, 2]))).logits
    for row, n in enumerate(lengths):
        close(out.logits[row, 27 - n :], alone[row][:n])
        close(ours[row], alone[row][n:])


def test_right_padding_needs_no_mask(model: Model) -> None:
    with torch.no_grad():
        close(model(IDS).logits[MASK], IO["logits"][MASK])


def test_experts_compute_only_routed_tokens(model: Model) -> None:
    seen: dict[str, int] = {}
    experts = {n: m for n, m in model.named_modules() if n.split(".")[-2:-1] == ["experts"]}
    assert len(experts) == 24

    def count(name: str) -> object:
        return experts[name].register_forward_hook(lambda _, x, y: seen.update({name: len(x[0])}))

    hooks = [count(name) for name in experts]
    with torch.no_grad():
        out = model(ROW)
        for layer, logits in enumerate(out.extras["router_logits"]):
            expected = torch.bincount(logits[0].topk(2).indices.flatten(), minlength=8).tolist()
            ours = [seen.get(f"model.layers.{layer}.block_sparse_moe.experts.{e}", 0) for e in range(8)]
            assert ours == expected and sum(ours) == 2 * 27
    for hook in hooks:
        hook.remove()  # type: ignore[attr-defined]


def test_gradients_reach_every_parameter(model: Model) -> None:
    model.zero_grad()
    out = model(IDS, mask_BL=MASK)
    (out.logits[MASK].square().mean() + out.extras["aux_loss"] + out.extras["z_loss"]).backward()
    for name, parameter in model.named_parameters():  # zero for an expert without tokens, not None
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
    model.zero_grad()


def test_gradient_equals_a_finite_difference() -> None:
    double = load().double()
    moe = double.model.layers[1].block_sparse_moe
    with torch.no_grad():
        busiest = int(double(ROW).extras["router_logits"][1].topk(2).indices.flatten().bincount().argmax())
    weight = moe.experts[busiest].w1.weight
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss() -> Tensor:
        return double(ROW).logits.square().mean()

    (grad,) = torch.autograd.grad(loss(), weight)
    with torch.no_grad():
        step = 1e-3
        weight += step * direction
        up = loss()
        weight -= 2 * step * direction
        down = loss()
    assert float((up - down) / (2 * step)) == pytest.approx(float((grad * direction).sum()), rel=2e-2)


def test_bfloat16_keeps_the_router_in_float32_and_stays_close() -> None:
    low = load(torch.bfloat16)
    gate = low.model.layers[0].block_sparse_moe.gate
    assert gate.weight.dtype == torch.float32 and low.lm_head.weight.dtype == torch.bfloat16
    with torch.no_grad():
        out = low(ROW, attentions=[0])
    assert out.logits.dtype == torch.bfloat16 and out.extras["router_logits"][0].dtype == torch.float32
    error = (out.logits.float() - IO["nomask.logits"]).abs().mean()
    assert float(error) < 0.05 * float(IO["nomask.logits"].abs().mean())


def test_autocast_leaves_the_router_alone(model: Model) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        out = model(ROW)
    assert out.logits.dtype == torch.bfloat16
    first = out.extras["router_logits"][0]
    assert first.dtype == torch.float32 and not torch.equal(first, first.bfloat16().float())


def test_full_size_matches_the_published_tables() -> None:
    with torch.device("meta"):
        small, large = Model(GENOS_1_2B), Model(GENOS_10B)

    def count(model: Model, without: str = "-") -> int:
        return sum(p.numel() for n, p in model.named_parameters() if not n.startswith(without))

    assert count(small, without="lm_head") == 1_245_963_264 and small.lm_head.weight.numel() == 131_072
    assert count(large) == 10_270_248_960
    for model, active in ((small, 0.33e9), (large, 2.87e9)):
        idle = sum(p.numel() for n, p in model.named_parameters() if ".experts." in n) * 6 // 8
        assert count(model) - idle == pytest.approx(active, rel=0.06)  # as published, rounded
    state = large.state_dict()
    assert state["model.layers.11.self_attn.k_proj.weight"].shape == (2048, 4096)
    assert state["model.layers.11.block_sparse_moe.experts.7.w2.weight"].shape == (4096, 8192)
    assert state["model.layers.11.block_sparse_moe.gate.weight"].shape == (8, 4096)


def test_a_million_positions_in_float32(model: Model) -> None:
    """The angles are transformers': float32 frequencies times float32 positions, all exact integers below 2^24."""
    from nexvar.ops.rotary import rotary_tables

    cos, sin = rotary_tables(model.inv_freq, 1_048_000, 5)
    inv_freq = 1.0 / (5e7 ** (torch.arange(0, 8, 2, dtype=torch.int64).float() / 8))
    angles = torch.arange(1_048_000, 1_048_005).float()[:, None] @ inv_freq[None]
    assert torch.equal(cos, angles.cos()) and torch.equal(sin, angles.sin())


def test_config_and_its_recognition() -> None:
    assert matches(OFFICIAL) and not matches({"model_type": "esm"})
    newer = {k: v for k, v in OFFICIAL.items() if k != "rope_theta"}
    newer["rope_parameters"] = {"rope_theta": 5e7, "rope_type": "default"}
    assert from_official(newer) == CONFIG and CONFIG.rope_theta == 5e7
    with pytest.raises(NexVarError, match="sliding_window is 4096"):
        from_official(OFFICIAL | {"sliding_window": 4096})
    with pytest.raises(NexVarError, match="cannot share 4 key heads"):
        dataclasses.replace(CONFIG, num_key_value_heads=4)
    with pytest.raises(NexVarError, match="9 of 8 experts"):
        dataclasses.replace(CONFIG, num_experts_per_tok=9)
    wide = dataclasses.replace(CONFIG, head_dim=16)
    with torch.device("meta"):
        assert Model(wide).model.layers[0].self_attn.q_proj.weight.shape == (96, 48)


def test_recorded_values_of_the_real_checkpoint_are_well_formed() -> None:
    card = cards.get("genos_1.2b")
    oracle = json.loads((Path(cards.__file__).parent / card.oracles["file"]).read_text())
    (case,) = oracle["cases"]
    assert tokenizers.make(card.tokenizer).tokenize(case["text"]) == case["input_ids"]
    assert [len(state) for state in case["hidden_states"]] == [10] * (card.config["num_hidden_layers"] + 1)


def test_a_folder_loads_and_generates_greedily() -> None:
    loaded = NexVar(FOLDER, device="cpu", dtype="float32")
    assert (loaded.card.architecture, loaded.card.objective, loaded.card.context) == ("genos", "causal", 1_048_576)
    text = loaded.tokenizer.detokenize(ROW[0].tolist())
    assert loaded.tokenizer.tokenize(text) == ROW[0].tolist()
    (ids,) = generate(loaded.loaded, [text], Sampling(12, top_k=1)).token_ids
    assert ids == IO["greedy.output_ids"][0, 27:].tolist()


def test_bad_requests_are_one_line(model: Model) -> None:
    cache = model.new_cache(1, 20)
    with pytest.raises(NexVarError, match="27 tokens, but the cache has room for 20"):
        model(ROW, cache=cache)
    with pytest.raises(NexVarError, match="the context is 1,048,576"):
        model(ROW, start=1_048_570)
    with pytest.raises(NexVarError, match=r"did you mean model\.layers\.2"):
        model(ROW, taps=["model.layer.2"])
    with pytest.raises(NexVarError, match="count from 0 to 2"):
        model(ROW, attentions=[-1])
