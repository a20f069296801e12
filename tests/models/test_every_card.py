"""Every shipped card: it parses, says what it must, and describes a model that can be built. A new card needs no test.

The released StripedHyena 2 checkpoints are checked against their published manifests: names, shapes, dtypes, counts.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nexvar import cards, models, tokenizers
from nexvar.errors import NexVarError
from nexvar.weights.assemble import build, convert, make_config
from nexvar.weights.load import load

ALL = list(cards.own_cards().values())
NAMES = [card.name for card in ALL]


def elements(module: nn.Module) -> int:
    """Floating-point numbers of a checkpoint of this module, tied ones once; FP8 scales are not weights."""
    persistent = set(module.state_dict())
    tensors = {id(t): t for t in module.parameters()}
    tensors |= {
        id(t): t
        for name, t in module.named_buffers()
        if name in persistent and t.is_floating_point() and not name.endswith("fp8_scale")
    }
    return sum(t.numel() for t in tensors.values())


@pytest.mark.parametrize("card", ALL, ids=NAMES)
def test_says_what_it_must(card):
    assert card.architecture in models.ARCHITECTURES
    assert card.objective in ("causal", "masked")
    assert card.licence and card.citation and card.parity and card.parity_note
    assert card.context > 0
    assert card.dtype in ("float32", "bfloat16", "float16")
    assert card.fp8 in (None, "any", "hopper")
    assert (card.repo is None) != (card.weights is None), "weights come from the hub or with the package"
    if card.repo:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", card.repo)
        assert card.files or "file names are not listed" in card.notes, "the files to download are listed"
    assert card.revision is None or re.fullmatch(r"[0-9a-f]{40}|1\.1_fix", card.revision)
    for file in card.files:
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert not file.name.startswith("/") and ".." not in file.name and "\\" not in file.name


@pytest.mark.parametrize("card", ALL, ids=NAMES)
def test_its_model_builds_with_the_published_size(card):
    module = build(card.architecture, make_config(card.architecture, card.config, card.name))
    assert all(t.is_meta for t in module.parameters())
    assert elements(module) == card.parameters


@pytest.mark.parametrize("card", [c for c in ALL if c.weights], ids=[c.name for c in ALL if c.weights])
def test_shipped_weights_load(card):
    loaded = load(card.name, device="cpu")
    assert elements(loaded.module) == card.parameters
    assert not any(t.is_meta for t in loaded.module.state_dict().values())


def test_names_are_unique():
    owners: dict[str, str] = {}
    for card in ALL:
        for name in {card.name, *card.aliases, *([card.repo] if card.repo else [])}:
            assert owners.setdefault(name.lower(), card.name) == card.name, f"{name} is claimed twice"


def test_found_by_name_alias_and_repository():
    for name in ("nexvar_7b", "evo2_7b", "arcinstitute/evo2_7b", "NexVar_7B"):
        assert cards.get(name).name == "nexvar_7b"
    with pytest.raises(NexVarError, match="did you mean .*nexvar_7b"):
        cards.get("nexvar_7B_bse")


def test_tokenizers_that_need_no_files_can_be_made():
    assert tokenizers.make("byte").tokenize("ACGT") == [65, 67, 71, 84]


# (tensors, of them float32, bytes of tensor data, dtypes of norms, inv_freq and projections) of the published files,
# left-over time grids and extra states apart. Source: the registry of the released files in tcztzy/evo.cpp.
B, F = torch.bfloat16, torch.float32
MANIFESTS: dict[str, tuple[int, int, int, torch.dtype, torch.dtype, torch.dtype]] = {
    "nexvar_1b_base": (270, 14, 2_218_806_272, B, B, B),
    "nexvar_7b": (345, 18, 13_170_000_000, B, B, B),
    "nexvar_7b_base": (345, 18, 12_968_673_408, B, B, B),
    "nexvar_7b_262k": (345, 18, 12_968_673_408, B, B, B),
    "nexvar_20b": (261, 38, 47_945_336_576, B, F, F),
    "nexvar_40b": (537, 137, 82_252_533_760, F, F, B),
    "nexvar_40b_base": (537, 137, 80_679_669_760, F, F, B),
}


def official_tensors(
    c: dict[str, Any], norms: torch.dtype, inv_freq: torch.dtype, proj: torch.dtype
) -> dict[str, Tensor]:
    """The state dict of a released file on the meta device, written from the published description alone."""
    D, I, S, out = c["hidden_size"], c["inner_mlp_size"], 16, {}

    def add(name: str, *shape: int, dtype: torch.dtype = B) -> None:
        out[name] = torch.empty(shape, dtype=dtype, device="meta")

    add("embedding_layer.weight", 512, D)
    add("unembed.weight", 512, D)
    add("norm.scale", D, dtype=norms)
    for i, kind in enumerate(c["pattern"]):
        block = f"blocks.{i}"
        add(f"{block}.pre_norm.scale", D, dtype=norms)
        add(f"{block}.post_norm.scale", D, dtype=norms)
        add(f"{block}.mlp.l1.weight", I, D)
        add(f"{block}.mlp.l2.weight", I, D)
        add(f"{block}.mlp.l3.weight", D, I)
        if kind == "*":
            add(f"{block}.inner_mha_cls.Wqkv.weight", 3 * D, D)
            add(f"{block}.inner_mha_cls.out_proj.weight", D, D)
            add(f"{block}.inner_mha_cls.out_proj.bias", D)
            add(f"{block}.inner_mha_cls.rotary_emb.inv_freq", D // c["num_attention_heads"] // 2, dtype=inv_freq)
            continue
        add(f"{block}.projections.weight", 3 * D, D, dtype=proj)
        add(f"{block}.filter.short_filter_weight", 3 * D, 1, 3)
        add(f"{block}.out_filter_dense.weight", D, D)
        add(f"{block}.out_filter_dense.bias", D)
        if kind == "S":
            add(f"{block}.filter.h", c["hcs_filter_groups"], 1, 7)
        else:
            add(f"{block}.filter.D", D)
        if kind == "D":
            add(f"{block}.filter.h", c["hcm_filter_groups"], 1, 128)
        if kind == "H":
            add(f"{block}.filter.log_poles", D, S, 1, dtype=F)
            add(f"{block}.filter.residues", D, S, dtype=F)
    return out


@pytest.mark.parametrize("name", MANIFESTS)
def test_published_manifest(name):
    """The full-size model takes exactly the tensors of the released file: names, shapes, dtypes and bytes."""
    card = cards.get(name)
    tensors, float32s, size, *dtypes = MANIFESTS[name]
    official = official_tensors(card.config, *dtypes)
    assert len(official) == tensors
    assert sum(t.dtype == F for t in official.values()) == float32s
    assert sum(t.numel() * t.dtype.itemsize for t in official.values()) == size
    if card.fp8:  # what checkpoint.read makes of the extra states
        for i, kind in enumerate(card.config["pattern"]):
            if kind != "*":
                official[f"blocks.{i}.projections.fp8_scale_fwd"] = torch.empty(3, device="meta")
    config = make_config(card.architecture, card.config, name)
    expected = build(card.architecture, config).state_dict()
    converted = convert(models.get(card.architecture), official, config, name)
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in expected.items()}
    unchanged = set(official) & set(expected)  # names stay the official ones: papers and users quote them
    assert set(expected) - unchanged == {k for k in expected if k.endswith("fp8_scale")}
    if card.files[0].size:
        assert sum(f.size for f in card.files) > size
