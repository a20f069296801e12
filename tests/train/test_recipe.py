"""Recipes: bad ones are one line, those that NexVar ships build and train."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nexvar import models
from nexvar.errors import NexVarError
from nexvar.train import optim
from nexvar.train.loop import Run, pretrain
from nexvar.train.recipe import RunPart, SchedulePart, Stage, read
from nexvar.weights import load
from places import RECIPES
from tiny_run import recipe_file

FROM_SCRATCH = sorted(p for p in RECIPES.glob("*.toml") if not p.stem.startswith("finetune"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("adam_lr = 3e-3", "adam_rl = 3e-3", r"unknown key \[optimizer\] adam_rl: did you mean adam_lr"),
        ("[data]", "[dta]", "unknown key dta: did you mean data"),
        ("length = 48", 'length = "48"', "length is '48'"),
        ("length = 48\n", "", "no length"),
        ("batch = 4\n", "batch = 3\n", "multiple of micro_batch"),
        ("decay = 4", "decay = 40", "impossible"),
        ("vocab_size = 128", "vocab_size = 64", "vocabulary is 64"),
        ("hidden_size = 32", "hiden_size = 32", "hiden_size"),
        ('kind = "muon"', 'kind = "sgd"', "unknown optimizer 'sgd'"),
        ("[model]", "[model", "cannot be read"),
        ("holdout = 2", "holdout = 200", "leaves none"),
        ("adam_lr = 3e-3", "adam_lr = nan", "adam_lr is nan: it must be from"),
        ("adam_lr = 3e-3", "adam_lr = 3e-3\nbeta2 = 1.5", "beta2 is 1.5"),
        ("log_every = 1", "log_every = 0", "log_every is 0: it must be at least 1"),
        ("[model]", "stages = 3\n[model]", "stages is no list"),
        ("[model]", "run = 3\n[model]", "cannot be read"),
        ("files = ", "# files = ", "no files"),
        ("bf16 = false", 'bf16 = "yes"', "bf16 is 'yes'.*true or false"),
        ("bf16 = false", "bf16 = 1", "bf16 is 1"),
        ("[run]", "[run]\nseed = -1", "seed is -1: it must be from 0"),
        ("[run]", f"[run]\nseed = {1 << 64}", "seed is 18446744073709551616: it must be from 0"),
        ("[model]", '[tune]\nweights = "lora"\ndropout = 1.0\n[model]', "dropout is 1.0: it must be from 0 to 0.9"),
    ],
)
def test_a_bad_recipe_is_one_line(tmp_path: Path, fasta: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(NexVarError, match=says) as error:
        pretrain(recipe_file(tmp_path, fasta, **{old: new}))
    assert "\n" not in str(error.value)


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "nexvar.train", str(tmp_path / "absent.toml")], capture_output=True, text=True
    )
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "absent.toml" in result.stderr


@pytest.mark.parametrize("path", FROM_SCRATCH, ids=lambda p: p.stem)
def test_every_recipe_builds_its_model(path: Path) -> None:
    recipe = read(path)
    config = load.make_config(recipe.model.architecture, recipe.model.config, path)
    with torch.device("meta"):
        model = models.get(recipe.model.architecture).Model(config)
    assert sum(p.numel() for p in model.parameters()) > 100_000
    s = recipe.schedule
    assert optim.Schedule(s.kind, s.steps, s.warmup, s.decay, s.floor, s.cosine_steps).factor(s.steps - 1) < 0.2


@pytest.mark.parametrize("path", FROM_SCRATCH, ids=lambda p: p.stem)
def test_every_recipe_trains_when_made_small(path: Path, tmp_path: Path, fasta: Path) -> None:
    """The recipe's own objective, tokenizer, optimizer and schedule kind, at a size for a test."""
    recipe = read(path)
    small = {
        "striped_hyena2": {"hidden_size": 32, "pattern": "SDH*", "num_attention_heads": 2, "inner_mlp_size": 32,
                           "hcs_filter_groups": 4, "hcm_filter_groups": 4},
        "genos": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                  "intermediate_size": 32},
        "caduceus": {"d_model": 16, "n_layer": 2},
        "hyenadna": {"d_model": 16, "d_inner": 32, "max_seq_len": 66},
        "ntv3": {"num_downsamples": 1, "attention_heads": 2, "key_size": 16, "conv_init_embed_dim": 32, "embed_dim": 32,
                 "ffn_embed_dim": 32, "num_layers": 1},
    }[recipe.model.architecture]  # fmt: skip
    model = dataclasses.replace(recipe.model, config=recipe.model.config | small)
    data_part = dataclasses.replace(recipe.data, files=[str(fasta)], length=64, holdout=0, exclude=[], loss_weights="")
    optimizer = dataclasses.replace(recipe.optimizer, adam_lr=1e-2)
    schedule = SchedulePart(steps=8, warmup=1, kind=recipe.schedule.kind)
    run_part = RunPart(out=str(tmp_path / "run"), batch=8, micro_batch=4, bf16=False)
    stages = (Stage(0, 64, 8, 4),)
    run = Run(dataclasses.replace(recipe, model=model, data=data_part, optimizer=optimizer, schedule=schedule,
                                  run=run_part, stages=stages))  # fmt: skip
    first = run.train_step()[0]
    classes = getattr(run.start.config, "vocab_size", run.start.tokenizer.vocab_size)
    assert abs(first - math.log(classes)) < 1.0  # a fresh model knows nothing and claims nothing
    for _ in range(7):
        last = run.train_step()[0]
    assert last < first - 0.3


def test_the_built_in_models_card_is_its_recipes() -> None:
    recipe, card = read(RECIPES / "nexvar_mito.toml"), load.cards.get("nexvar_mito")
    assert (recipe.model.architecture, recipe.model.config) == (card.architecture, card.config)
    assert {key: getattr(card, key) for key in recipe.model.card} == recipe.model.card
