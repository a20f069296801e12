"""DNABERT-2 against the original code's numbers, and what a user may rely on beyond them."""

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
from nexvar.models.dnabert2 import Config, Model, alibi_slopes, pack
from nexvar.models.layouts.dnabert2 import convert, from_official, matches
from nexvar.ops.attention import attention_naive
from places import GOLDEN

FOLDER = GOLDEN / "dnabert2_tiny"
OFFICIAL = json.loads((FOLDER / "config.json").read_text())
CONFIG = from_official(OFFICIAL)
IO = load_file(FOLDER / "io.safetensors")
IDS, MASK = IO["batch.input_ids"], IO["batch.attention_mask"].bool()
BLOCKS = [f"bert.encoder.layer.{i}" for i in range(3)]


def load(config: Config, *files: str) -> Model:
    with torch.device("meta"):
        model = Model(config)
    state = {k: v for name in files for k, v in load_file(FOLDER / name).items()}
    model.load_state_dict(convert(state, config), strict=True, assign=True)
    model.reset_buffers()
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Model:
    return load(CONFIG, "weights.safetensors")


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_logits_and_every_hidden_state(model: Model) -> None:
    with torch.no_grad():
        out = model(IDS, mask_BL=MASK, taps=["bert.embeddings", *BLOCKS])
    close(out.logits, IO["batch.logits"])
    for i, name in enumerate(["bert.embeddings", *BLOCKS]):
        close(out.taps[name], IO[f"batch.hidden_states.{i}"])
    assert model.last_hidden == BLOCKS[-1]
    assert not out.taps[BLOCKS[-1]][~MASK].any(), "padding is exactly zero"


def test_padding_is_found_without_a_mask(model: Model) -> None:
    with torch.no_grad():
        close(model(IDS).logits, IO["batch.logits"])


def test_long_input(model: Model) -> None:
    with torch.no_grad():
        out = model(IO["long.input_ids"], taps=[model.last_hidden], logits=False)
    assert out.logits is None
    close(out.taps[model.last_hidden], IO["long.last_hidden_state"])


def test_masked_lm_loss(model: Model) -> None:
    labels = IO["mlm.labels"]
    with torch.no_grad():
        logits = model(IDS, mask_BL=MASK).logits
    close(F.cross_entropy(logits[labels > 0], labels[labels > 0]), IO["mlm.loss"][0])  # the official choice of targets


def test_official_classifier() -> None:
    official = OFFICIAL | {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(i): "" for i in range(3)},
    }
    classifier = load(from_official(official), "weights.safetensors", "classifier_head.safetensors")
    with torch.no_grad():
        out = classifier(IDS, mask_BL=MASK)
    assert out.logits is None
    close(out.extras["class_logits"], IO["cls.logits"])
    close(out.extras["pooled"], IO["cls.pooled"])


def test_mean_pooling_classifier_ignores_padding() -> None:
    config = dataclasses.replace(CONFIG, num_labels=3)
    classifier = load(config, "weights.safetensors", "classifier_head.safetensors")
    with torch.no_grad():
        out = classifier(IDS, mask_BL=MASK, taps=[classifier.last_hidden])
    expected = torch.stack([h[m].mean(0) for h, m in zip(out.taps[classifier.last_hidden], MASK, strict=True)])
    close(out.extras["pooled"], expected)
    assert out.extras["class_logits"].shape == (4, 3)
    close(out.logits, IO["batch.logits"])  # the MLM head is still there


def test_alibi_slopes() -> None:
    facts = json.loads((FOLDER / "tokenizer_facts.json").read_text())
    assert alibi_slopes(6) == facts["alibi_slopes"]
    assert alibi_slopes(8) == [2.0**-i for i in range(1, 9)]
    assert alibi_slopes(12) == [2.0**-i for i in range(1, 9)] + [2.0**-i for i in (0.5, 1.5, 2.5, 3.5)]


def padded_reference(model: Model, ids_BL: Tensor, mask_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Everything over padding too, as the definition has it: last hidden state, and the first layer's maps."""
    bert, maps = model.bert, []
    x = bert.embeddings(ids_BL)
    for layer in bert.encoder.layer:
        q, k, v = layer.attention.self.Wqkv(x).unflatten(-1, (3, model.config.num_attention_heads, -1)).unbind(2)
        mixed, weights = attention_naive(q, k, v, mask_BM=mask_BL, alibi_H=model.slopes_H)
        maps.append(weights)
        x = layer.attention.output(mixed.flatten(2), x)
        h = layer.mlp.gated_layers(x)
        gate, value = h.chunk(2, -1)
        x = layer.mlp.layernorm(layer.mlp.wo(F.gelu(gate) * value) + x)
    return x, maps[0]


@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=4))
def test_any_mask_equals_the_padded_computation(model: Model, rows: list[list[bool]]) -> None:
    """Right or left padding, holes, rows without a token: real tokens as if computed padded, padding zero."""
    mask = torch.tensor(rows)
    ids = torch.randint(5, 4096, mask.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out = model(ids, mask_BL=mask, taps=[model.last_hidden], attentions=[0])
        hidden, maps = padded_reference(model, ids, mask)
    close(out.taps[model.last_hidden][mask], hidden[mask])
    assert not out.taps[model.last_hidden][~mask].any()
    real = mask[:, None, :, None] & mask[:, None, None]
    close(out.extras["attentions"][0], maps * real)


def test_rows_do_not_depend_on_their_batch(model: Model) -> None:
    with torch.no_grad():
        together = model(IDS, mask_BL=MASK).logits
        for row, mask, logits in zip(IDS, MASK, together, strict=True):
            close(model(row[mask][None]).logits[0], logits[mask])


def test_attention_maps_are_distributions_and_change_nothing(model: Model) -> None:
    with torch.no_grad():
        out = model(IDS, mask_BL=MASK, attentions=[2, 0])
        close(out.logits, IO["batch.logits"])
    assert set(out.extras["attentions"]) == {0, 2}
    for maps in out.extras["attentions"].values():
        assert maps.shape == (4, 6, 20, 20) and maps.dtype == torch.float32
        close(maps.sum(-1), MASK[:, None].expand(-1, 6, -1).float())


def test_no_work_is_spent_on_padding(model: Model) -> None:
    tokens = []
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    hooks = [m.register_forward_hook(lambda _, x, y: tokens.append(x[0].numel() // x[0].shape[-1])) for m in layers]
    with torch.no_grad():
        model(IDS, mask_BL=MASK)
    for hook in hooks:
        hook.remove()
    real = int(MASK.sum())
    assert tokens[:-2] == [real] * (len(tokens) - 2) and len(tokens) == 3 * 4 + 2
    assert tokens[-2:] == [1, real]  # the MLM head: one zero vector stands for all padding


def test_length_beyond_alibi_starting_size(model: Model) -> None:
    ids = torch.randint(5, 4096, (1, 700), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden, _ = padded_reference(model, ids, torch.ones_like(ids, dtype=torch.bool))
        close(model(ids, taps=[model.last_hidden], logits=False).taps[model.last_hidden], hidden)


@pytest.mark.parametrize("part", [slice(3, 9), slice(-1, None), slice(18, 20)])
def test_logits_of_a_part(model: Model, part: slice) -> None:
    with torch.no_grad():
        close(model(IDS, mask_BL=MASK, logits=part).logits, IO["batch.logits"][:, part])


def test_gradients_equal_those_of_the_padded_computation(model: Model) -> None:
    name = "bert.encoder.layer.0.attention.self.Wqkv.weight"
    grads = []
    for run in (lambda: model(IDS, mask_BL=MASK, taps=[model.last_hidden]).taps[model.last_hidden],
                lambda: padded_reference(model, IDS, MASK)[0]):  # fmt: skip
        model.zero_grad()
        run()[MASK].square().sum().backward()
        grads.append(dict(model.named_parameters())[name].grad.clone())
    model.zero_grad()
    torch.testing.assert_close(grads[0], grads[1], atol=1e-3, rtol=1e-3)


def test_dropout_is_active_in_training_only(model: Model) -> None:
    fresh = load(CONFIG, "weights.safetensors")
    fresh.train()
    assert not torch.equal(fresh(IDS).logits, fresh(IDS).logits)
    fresh.eval()
    with torch.no_grad():
        close(fresh(IDS).logits, IO["batch.logits"])


def test_bfloat16_stays_close(model: Model) -> None:
    low = load(CONFIG, "weights.safetensors").to(torch.bfloat16)
    low.reset_buffers()
    with torch.no_grad():
        out = low(IDS, mask_BL=MASK, taps=[low.last_hidden]).taps[low.last_hidden]
    assert out.dtype == torch.bfloat16 and low.slopes_H.dtype == torch.float32
    theirs = IO["batch.last_hidden_state"]
    assert float((out.float() - theirs)[MASK].abs().mean()) < 0.05 * float(theirs[MASK].abs().mean())


def test_full_size_matches_the_published_counts() -> None:
    """117,068,544 parameters as BertModel counts them (body and pooler); the released file adds the MLM head."""
    with torch.device("meta"):
        released, classifier = Model(Config()), Model(Config(mlm_head=False, num_labels=2, pooling="cls"))
    count = {k: v.numel() for k, v in classifier.state_dict().items()}
    assert sum(n for k, n in count.items() if k.startswith("bert.")) == 117_068_544
    assert count["classifier.weight"] == 2 * 768
    state = released.state_dict()
    assert state["bert.encoder.layer.11.attention.self.Wqkv.weight"].shape == (2304, 768)
    assert state["bert.encoder.layer.11.mlp.gated_layers.weight"].shape == (6144, 768)
    assert state["bert.encoder.layer.11.mlp.wo.weight"].shape == (768, 3072)
    # The released pickle has 468,354,983 bytes: four a number (tied ones once), and its frame.
    stored = sum(v.numel() for v in state.values())
    assert 0 <= 468_354_983 - 4 * stored < 100_000


def test_config_and_its_recognition() -> None:
    assert matches(OFFICIAL) and not matches({"model_type": "esm"})
    assert CONFIG.mlm_head and CONFIG.num_labels == 0
    assert from_official(json.loads(json.dumps(OFFICIAL)) | {"architectures": ["BertForMaskedLM"]}) == CONFIG
    with pytest.raises(NexVarError, match="multiple of 5 heads"):
        dataclasses.replace(CONFIG, num_attention_heads=5)
    with pytest.raises(NexVarError, match="no pooling 'max'"):
        dataclasses.replace(CONFIG, pooling="max")


def test_a_decoder_that_is_not_tied_is_refused() -> None:
    state = load_file(FOLDER / "weights.safetensors")
    state["cls.predictions.decoder.weight"] = state["cls.predictions.decoder.weight"] + 1
    with pytest.raises(NexVarError, match=r"cls\.predictions\.decoder\.weight"):
        convert(state, CONFIG)


def test_bad_requests_name_what_exists(model: Model) -> None:
    with pytest.raises(NexVarError, match=r"did you mean bert\.encoder\.layer\.1"):
        model(IDS, taps=["bert.encoder.layers.1"])
    with pytest.raises(NexVarError, match="count from 0 to 2"):
        model(IDS, attentions=[3])
    with pytest.raises(NexVarError, match="no cache"):
        model(IDS, cache=object())


def test_pack_groups_rows_of_equal_length() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]).bool()
    index, groups = pack(mask)
    assert sorted(index.tolist()) == mask.flatten().nonzero().flatten().tolist()
    assert [(g.rows, g.length, g.positions_l is not None) for g in groups] == [
        (2, 2, False),
        (1, 2, True),
        (1, 4, False),
    ]


def test_an_empty_batch_and_a_batch_of_padding(model: Model) -> None:
    with torch.no_grad():
        assert model(torch.zeros(0, 5, dtype=torch.long)).logits.shape == (0, 5, 4096)
        out = model(torch.full((2, 3), 3), taps=[model.last_hidden])
    assert not out.taps[model.last_hidden].any() and bool(out.logits.isfinite().all())


def test_a_folder_loads_with_its_tokenizer() -> None:
    loaded = NexVar(FOLDER, device="cpu", dtype="float32")
    assert (loaded.card.architecture, loaded.card.objective, loaded.card.special_tokens) == ("dnabert2", "masked", True)
    assert loaded.tokenizer.tokenize("GATTACA GATTACA") == [1, 260, 12, 260, 12, 2]
    outputs, embeddings = loaded(IDS, MASK, return_embeddings=True, layer_names=[BLOCKS[2]])
    close(outputs[0], IO["batch.logits"])
    close(embeddings[BLOCKS[2]], IO["batch.last_hidden_state"])


def test_recorded_values_of_the_real_checkpoint_are_well_formed() -> None:
    card = cards.get("dnabert2")
    oracle = json.loads((Path(cards.__file__).parent / card.oracles["file"]).read_text())
    tokenizer = tokenizers.make(card.tokenizer, FOLDER)
    for case in oracle["cases"]:
        assert tokenizer.tokenize(case["text"]) == case["input_ids"]
        assert len(case["mean"]) == card.config["hidden_size"]
