"""StripedHyena 2: parity with the original code, one forward for every use, states, layouts, training."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from golden_hyena import LENGTHS, greedy, in_pieces, load_golden, recorded_taps
from nexvar.errors import NexVarError
from nexvar.models._striped_hyena import hyena_rows
from nexvar.models.layouts.striped_hyena2 import convert, from_official, matches
from nexvar.models.striped_hyena2 import Config, Model
from nexvar.ops.state import ROWS

FOLDERS = ("sh2_a", "sh2_b")
SMALL = Config(
    hidden_size=24, pattern="SDH*", num_attention_heads=2, inner_mlp_size=40, hcs_filter_groups=4, hcm_filter_groups=8
)


@pytest.fixture(scope="module", params=FOLDERS)
def reference(request, golden):
    return load_golden(golden / request.param)


def small(seed=0, **changes):
    model = Model(Config(**{**SMALL.__dict__, **changes}))
    model.init_weights(torch.Generator().manual_seed(seed))
    return model


def some_ids(B, L, seed=0):
    return torch.randint(0, 512, (B, L), generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------- the original code


@pytest.mark.parametrize("grad", [True, False])
def test_logits_and_layers_equal_the_original(reference, grad):
    model, io = reference
    compared = 0
    for case in (f"len{L:03d}" for L in LENGTHS if f"len{L:03d}.input_ids" in io):
        expected = recorded_taps(io, case)
        with torch.set_grad_enabled(grad):
            output = model(io[f"{case}.input_ids"], taps=tuple(expected))
        torch.testing.assert_close(output.logits, io[f"{case}.logits"], atol=1e-4, rtol=0)
        for name, value in expected.items():
            torch.testing.assert_close(output.taps[name], value, atol=1e-4, rtol=0)
            compared += 1
    assert compared >= 10


@pytest.mark.parametrize("case", ["gen040", "gen150", "genforce", "genbatch", "genshort4"])
def test_greedy_tokens_equal_the_original(reference, case):
    model, io = reference
    expected = io[f"{case}.tokens_nocache"]
    prompt = io[f"{case}.input_ids"]
    assert greedy(model, prompt, expected.shape[1]).tolist() == expected.tolist()
    assert greedy(model, prompt, expected.shape[1], cuts=()).tolist() == expected.tolist()
    forced = range(20, prompt.shape[1])  # a prefill of 20 tokens, then the rest of the prompt one by one
    assert greedy(model, prompt, expected.shape[1], cuts=forced).tolist() == expected.tolist()


def test_cache_contents_equal_the_original(reference):
    model, io = reference
    ids = io["len033.input_ids"][:1]
    cache = model.new_cache(1, 40)
    with torch.no_grad():
        model(ids, cache=cache)
    channel = hyena_rows(model.config).argsort()  # as the checkpoint orders them
    for index, state in enumerate(cache.layers):
        recorded = {k.split(".")[-1]: v for k, v in io.items() if k.startswith(f"cache033.block_{index:02d}.")}
        if "kv" in recorded:
            ours = torch.stack([state.k, state.v], 2)[:, :33]
            torch.testing.assert_close(ours, recorded["kv"], atol=1e-4, rtol=0)
            continue
        short = state.short[..., channel].transpose(1, 2)
        torch.testing.assert_close(short, recorded["fir_state"], atol=1e-4, rtol=0)
        if "iir_state" in recorded:
            torch.testing.assert_close(state.inner, recorded["iir_state"], atol=1e-4, rtol=1e-5)
        else:
            inner = recorded["fir_inner_state"]  # theirs grows, ours begins with zeros
            assert not state.inner[:, : -inner.shape[2]].any()
            recent = state.inner[:, -inner.shape[2] :].transpose(1, 2)
            torch.testing.assert_close(recent, inner, atol=1e-4, rtol=0)


@pytest.mark.parametrize("folder", FOLDERS)
def test_bfloat16_is_as_close_to_float32_as_the_original(golden, folder):
    model, io = load_golden(golden / folder, "bfloat16")
    names = dict(model.named_parameters())
    assert names["blocks.0.filter.h"].dtype == torch.bfloat16
    assert names["blocks.2.filter.log_poles"].dtype == torch.float32
    for case in ("len033", "len197"):
        if f"bf16.{case}.logits" not in io:
            continue
        exact, theirs = io[f"{case}.logits"], io[f"bf16.{case}.logits"].float()
        with torch.no_grad():
            ours = model(io[f"{case}.input_ids"]).logits
        assert ours.dtype == torch.bfloat16
        assert (ours.float() - exact).abs().mean() <= 1.1 * (theirs - exact).abs().mean()
        assert (ours.float() - exact).abs().max() <= 1.2 * (theirs - exact).abs().max()


# ---------------------------------------------------------------------------------------------------- the one forward


def test_any_prompt_length_gives_the_uncached_tokens(reference):
    model, _ = reference
    ids = some_ids(2, 140)
    for length in (*range(1, 10), 126, 127, 128, 129, 140):
        prompt = ids[:, :length]
        assert greedy(model, prompt, 4, cuts=()).tolist() == greedy(model, prompt, 4).tolist(), length


@settings(max_examples=15)
@given(st.lists(st.integers(1, 199), max_size=6))
def test_an_input_can_be_cut_anywhere(cuts):
    model, ids = small(), some_ids(2, 200)
    torch.testing.assert_close(in_pieces(model, ids, cuts), model(ids).logits.detach(), atol=1e-4, rtol=1e-4)


def test_inference_in_pieces_of_rows_equals_training_forward(monkeypatch):
    model, ids = small(), some_ids(2, 300)
    whole = model(ids, taps=model.tap_names)
    monkeypatch.setitem(ROWS, "cpu", 128)
    with torch.no_grad():
        pieces = model(ids, taps=model.tap_names)
    torch.testing.assert_close(pieces.logits, whole.logits.detach(), atol=1e-5, rtol=1e-4)
    for name in model.tap_names:
        torch.testing.assert_close(pieces.taps[name], whole.taps[name].detach(), atol=1e-5, rtol=1e-4)


def test_branches_of_a_cache_are_independent():
    model, ids = small(), some_ids(2, 30)
    whole = torch.cat([ids[:, :20], ids[:1, 20:].expand(2, -1)], dim=1)
    with torch.no_grad():
        cache = model.new_cache(2, 30)
        model(ids[:, :20], cache=cache)
        branch = cache.select(torch.tensor([1, 0, 1]))
        other = model(some_ids(3, 5, seed=7), cache=branch)  # must not disturb the cache it came from
        again = model(ids[0, 20:].expand(2, -1), cache=cache)
        assert branch.length == 25 and cache.length == 30
        alone = torch.cat([ids[1:, :20], some_ids(3, 5, seed=7)[:1]], dim=1)
        torch.testing.assert_close(again.logits, model(whole).logits[:, 20:], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(other.logits[:1], model(alone).logits[:, 20:], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("bias", [False, True])
def test_padding_changes_nothing(side, bias):
    model, ids = small(qkv_proj_bias=bias, short_filter_bias=bias), some_ids(1, 20)
    for p in model.parameters():
        if p.ndim == 1:
            torch.nn.init.normal_(p)
    junk = some_ids(1, 9, seed=3)
    padded = torch.cat([ids, junk], 1) if side == "right" else torch.cat([junk, ids], 1)
    real = slice(0, 20) if side == "right" else slice(9, 29)
    mask = torch.zeros(1, 29, dtype=torch.bool)
    mask[:, real] = True
    both = torch.cat([padded, some_ids(1, 29, seed=4)])
    masks = torch.cat([mask, torch.ones(1, 29, dtype=torch.bool)])
    logits = model(both, mask_BL=masks).logits
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits[:1, real], model(ids).logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits[1:], model(both[1:]).logits, atol=1e-4, rtol=1e-4)
    if side == "left":
        cache = model.new_cache(2, 29)
        with torch.no_grad():
            head = model(both[:, :15], mask_BL=masks[:, :15], cache=cache).logits
            tail = model(both[:, 15:], cache=cache).logits
        torch.testing.assert_close(torch.cat([head, tail], 1)[:1, real], model(ids).logits, atol=1e-4, rtol=1e-4)


def test_logits_of_chosen_positions_and_none_at_all():
    model, ids = small(), some_ids(2, 12)
    whole = model(ids).logits
    torch.testing.assert_close(model(ids, logits=slice(-2, None)).logits, whole[:, -2:])
    output = model(ids, logits=False, taps=("norm", "blocks.1.mlp.l3"))
    assert output.logits is None and list(output.taps) == ["norm", "blocks.1.mlp.l3"]
    torch.testing.assert_close(output.taps["norm"] @ model.embedding_layer.weight.T, whole)


def test_taps_are_what_hooks_on_the_official_names_would_see():
    model, ids = small(), some_ids(1, 9)
    official = {n for n, _ in model.named_modules()}
    assert set(model.tap_names) <= official
    names = ("blocks.1.mlp.l3", "blocks.2.out_filter_dense", "blocks.3.inner_mha_cls", "blocks.0", "norm")
    seen = {}
    for name in names:
        model.get_submodule(name).register_forward_hook(lambda m, i, o, name=name: seen.setdefault(name, o))
    output = model(ids, taps=names)
    assert len(seen) == 5
    for name, value in seen.items():
        torch.testing.assert_close(output.taps[name], value)


def test_no_filter_is_ever_as_large_as_width_times_poles_times_length():
    """Nothing larger than the widest activation exists, least of all (D, 16, L) or (B, D, 16, 2L)."""
    model, ids = small(pattern="HHD", vocab_size=64), some_ids(1, 4096) % 64
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for x in result if isinstance(result, tuple | list) else (result,):
                if isinstance(x, torch.Tensor):
                    largest = max(largest, x.untyped_storage().nbytes())
            return result

    with torch.no_grad(), Watch():
        model(ids, cache=model.new_cache(1, 4096))
    assert largest <= 4 * 4096 * 3 * 24
    assert largest < 4 * 24 * 16 * 4096


# ------------------------------------------------------------------------------------------------ checkpoint layouts


def test_every_row_order_of_a_checkpoint_is_undone():
    plain = small()
    state = {k: v.clone() for k, v in plain.state_dict().items()}
    D, H = SMALL.hidden_size, SMALL.num_attention_heads
    for interleave, by_head, flip in [(True, False, False), (False, True, False), (True, True, True)]:
        config = Config(
            **{**SMALL.__dict__, "interleave": interleave, "column_split_hyena": by_head, "hyena_flip_x1x2": flip}
        )
        official = dict(state)
        for key, value in state.items():
            if "projections" in key or "short_filter_weight" in key:
                x2, x1, v = value.split(D)
                rows = torch.cat([x1, x2, v] if flip else [x2, x1, v])
                if by_head:
                    rows = rows.unflatten(0, (3, H, -1)).transpose(0, 1).flatten(0, 2)
                if interleave:
                    rows = rows.unflatten(0, (3, -1)).transpose(0, 1).flatten(0, 1)
                official[key] = rows
        converted = convert(official, config)
        assert all(torch.equal(converted[k], state[k]) for k in state)


def test_convert_drops_left_overs_and_fills_missing_frequencies():
    state = small().state_dict()
    state["unembed.weight"] = state["embedding_layer.weight"]
    state["blocks.2.mixer.mixer.filter.t"] = torch.zeros(1, 1, 8)
    state["blocks.0.projections._extra_state"] = torch.zeros(3)
    state["blocks.0.projections.fp8_scale_fwd"] = torch.ones(3)
    del state["blocks.3.inner_mha_cls.rotary_emb.inv_freq"]
    converted = convert(state, SMALL)
    assert set(converted) == set(small().state_dict())
    inv_freq = converted["blocks.3.inner_mha_cls.rotary_emb.inv_freq"]
    assert torch.equal(inv_freq, inv_freq.bfloat16().float()) and inv_freq[0] == 1


def test_fp8_scales_reach_the_projections():
    config = Config(**{**SMALL.__dict__, "fp8_projections": True})
    state = small().state_dict()
    for i in range(3):
        state[f"blocks.{i}.projections.fp8_scale_fwd"] = torch.tensor([8.0, 16.0, 1.0])
    model = Model(config)
    model.load_state_dict(convert(state, config))
    assert model.blocks[1].projections.fp8_scale.tolist() == [8.0, 16.0]
    ids = some_ids(1, 16)
    fp8, plain = model(ids).logits, small()(ids).logits
    assert 0 < (fp8 - plain).abs().mean() < 0.3 * plain.std()


def test_official_config_of_both_names(golden):
    official = json.loads((golden / "sh2_b" / "config.json").read_text())
    config = from_official(official)
    assert matches(official) and not matches({"hidden_size": 1})
    assert config.pattern == "SDH*S" and config.rotary_interpolation == 8 and not config.activation_everywhere
    renamed = dict(official, nexvar_style_activations=True)
    del renamed["evo2_style_activations"]
    assert from_official(renamed) == config
    del renamed["nexvar_style_activations"]
    assert from_official(renamed).activation_everywhere
    del renamed["inner_mlp_size"]
    assert from_official(renamed).inner_mlp_size == 224


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pattern": "SDX"}, "layer letters"),
        ({"num_attention_heads": 5}, "do not divide"),
        ({"hcs_filter_groups": 5}, "do not divide"),
        ({"mlp_activation": "relu"}, "gelu or silu"),
    ],
)
def test_impossible_configs_are_one_line(changes, message):
    with pytest.raises(NexVarError, match=message):
        Config(**{**SMALL.__dict__, **changes})


def test_errors_of_a_forward():
    model, ids = small(), some_ids(2, 5)
    with pytest.raises(NexVarError, match=r"did you mean blocks\.1\.mlp"):
        model(ids, taps=("blocks.1.mlp.l33",))
    with pytest.raises(NexVarError, match="larger max_length"):
        model(ids, cache=model.new_cache(2, 4))
    with pytest.raises(NexVarError, match="2 rows for a cache of 3"):
        model(ids, cache=model.new_cache(3, 8))
    with pytest.raises(NexVarError, match="pad on the left"):
        model(ids, cache=model.new_cache(2, 8), mask_BL=torch.tensor([[True] * 4 + [False], [True] * 5]))


# ----------------------------------------------------------------------------------------------------------- training


def test_every_parameter_learns_and_the_loss_falls():
    torch.manual_seed(0)
    model = small(tie_embeddings=False)
    ids = torch.tensor([[65, 67, 71, 84, 84, 71]]).repeat(2, 20)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for _ in range(12):
        logits = model(ids[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        if not losses:
            assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[0] > 5 and losses[-1] < 0.5 * losses[0]


def test_autocast_trains_in_bfloat16_with_gradients_close_to_float32():
    model, ids = small(), some_ids(1, 150)

    def gradient(enabled):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            logits = model(ids).logits
        torch.nn.functional.cross_entropy(logits[0, :-1].float(), ids[0, 1:]).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    exact, rounded = gradient(False), gradient(True)
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.99


def test_initial_weights_are_seeded_and_calm():
    a, b, c = small(1), small(1), small(2)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert not torch.equal(a.embedding_layer.weight, c.embedding_layer.weight)
    poles = a.blocks[2].filter.log_poles
    assert poles.max() < 0 and poles.min() >= -1 and poles.max() > -1e-2
    loss = torch.nn.functional.cross_entropy(a(some_ids(1, 200)).logits[0, :-1], some_ids(1, 200)[0, 1:])
    assert loss < 7.5


def test_built_on_the_meta_device_without_memory():
    with torch.device("meta"):
        model = Model(SMALL)
    assert all(p.is_meta for p in model.parameters())
    assert model(torch.zeros(2, 700, dtype=torch.long, device="meta")).logits.shape == (2, 700, 512)
