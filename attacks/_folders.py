"""Folders: shards that climb out, links, pipes; tensors that do not fit; configs that lie."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from _sound import CONFIG, attack, tensors


def with_index(folder: Path, index: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


@attack
def shard_that_climbs(folder: Path, marker: Path) -> None:
    (folder.parent / "outside.safetensors").write_bytes(save(tensors()))
    with_index(folder, {"weight_map": {"norm.scale": "../outside.safetensors"}})


@attack
def shard_with_an_absolute_path(folder: Path, marker: Path) -> None:
    with_index(folder, {"weight_map": {"norm.scale": "/etc/passwd"}})


@attack
def shard_with_a_drive(folder: Path, marker: Path) -> None:
    with_index(folder, {"weight_map": {"norm.scale": "C:\\windows\\x.safetensors"}})


@attack
def shard_that_is_not_text(folder: Path, marker: Path) -> None:
    with_index(folder, {"weight_map": {"norm.scale": 7}})


@attack
def shard_that_is_missing(folder: Path, marker: Path) -> None:
    with_index(folder, {"weight_map": {"norm.scale": "model-00001-of-00002.safetensors"}})


@attack
def tensor_in_two_shards(folder: Path, marker: Path) -> None:
    state = tensors()
    (folder / "a.safetensors").write_bytes(save(state))
    (folder / "b.safetensors").write_bytes(save({"norm.scale": state["norm.scale"]}))
    with_index(folder, {"weight_map": {"embedding_layer.weight": "a.safetensors", "norm.scale": "b.safetensors"}})


@attack
def weights_are_a_link_outside(folder: Path, marker: Path) -> None:
    outside = folder.parent / "secret.safetensors"
    outside.write_bytes(save(tensors()))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(outside)


@attack
def config_is_a_link_outside(folder: Path, marker: Path) -> None:
    outside = folder.parent / "secret.json"
    outside.write_text(json.dumps(CONFIG), encoding="utf-8")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(outside)


@attack
def link_to_itself(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder / "model.safetensors")


@attack
def weights_are_a_pipe(folder: Path, marker: Path) -> None:
    """Opening it would wait for ever."""
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


@attack
def two_files_could_be_the_weights(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").rename(folder / "one.safetensors")
    (folder / "two.safetensors").write_bytes(save(tensors()))


def with_tensors(folder: Path, **changes: Tensor | None) -> None:
    state = {**tensors(), **{k.replace("__", "."): v for k, v in changes.items()}}
    (folder / "model.safetensors").write_bytes(save({k: v for k, v in state.items() if v is not None}))


def with_config(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}), encoding="utf-8")


@attack
def missing_tensor(folder: Path, marker: Path) -> None:
    with_tensors(folder, norm__scale=None)


@attack
def extra_tensor(folder: Path, marker: Path) -> None:
    with_tensors(folder, norm__bias=torch.zeros(16))


@attack
def wrong_shape(folder: Path, marker: Path) -> None:
    with_tensors(folder, norm__scale=torch.zeros(17))


@attack
def wrong_rows(folder: Path, marker: Path) -> None:
    with_tensors(folder, blocks__0__projections__weight=torch.zeros(47, 16))


@attack
def nan_weight(folder: Path, marker: Path) -> None:
    with_tensors(folder, norm__scale=torch.full((16,), float("nan")))


@attack
def infinite_weight(folder: Path, marker: Path) -> None:
    with_tensors(folder, norm__scale=torch.tensor([1.0] * 15 + [float("-inf")]).bfloat16())


@attack
def integer_weight(folder: Path, marker: Path) -> None:
    with_tensors(folder, norm__scale=torch.ones(16, dtype=torch.int64))


@attack
def config_not_json(folder: Path, marker: Path) -> None:
    (folder / "config.json").write_bytes(b"\x80\x04\x95")


@attack
def config_key_twice(folder: Path, marker: Path) -> None:
    (folder / "config.json").write_text('{"hidden_size": 16, "hidden_size": 32}', encoding="utf-8")


@attack
def config_of_a_billion_layers(folder: Path, marker: Path) -> None:
    with_config(folder, num_layers=10**9)


@attack
def config_without_heads(folder: Path, marker: Path) -> None:
    with_config(folder, num_attention_heads=0)


@attack
def config_of_negative_width(folder: Path, marker: Path) -> None:
    with_config(folder, hidden_size=-16)


@attack
def config_of_huge_width(folder: Path, marker: Path) -> None:
    with_config(folder, hidden_size=1 << 62)


@attack
def config_of_words(folder: Path, marker: Path) -> None:
    with_config(folder, hidden_size="sixteen", eps=[])


@attack
def config_names_code(folder: Path, marker: Path) -> None:
    """Remote code lies beside an unknown config: it is neither imported nor mentioned as a remedy."""
    (folder / "modeling_evil.py").write_text(f"open({str(marker)!r}, 'w')", encoding="utf-8")
    config = {"model_type": "evil", "auto_map": {"AutoModel": "modeling_evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@attack
def architecture_with_a_path(folder: Path, marker: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')", encoding="utf-8")
    config = {"architecture": "../../evil", "hidden_size": 16}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@attack
def index_with_a_late_key_twice(folder: Path, marker: Path) -> None:
    names = [f'"n{i}":"model.safetensors"' for i in range(60_000)]
    (folder / "model.safetensors.index.json").write_text('{"weight_map":{' + ",".join([*names, names[-1]]) + "}}")


@attack
def index_is_a_link_outside(folder: Path, marker: Path) -> None:
    outside = folder.parent / "secret.index.json"
    outside.write_text(json.dumps({"weight_map": {"norm.scale": "model.safetensors"}}), encoding="utf-8")
    (folder / "model.safetensors.index.json").symlink_to(outside)


@attack
def a_shard_is_a_link_outside(folder: Path, marker: Path) -> None:
    outside = folder.parent / "secret_shard.safetensors"
    outside.write_bytes(save(tensors()))
    (folder / "a.safetensors").symlink_to(outside)
    with_index(folder, {"weight_map": {"norm.scale": "a.safetensors"}})


@attack
def config_is_a_pipe(folder: Path, marker: Path) -> None:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")


@attack
def config_nested_deep(folder: Path, marker: Path) -> None:
    (folder / "config.json").write_text('{"a":' * 5_000 + "1" + "}" * 5_000, encoding="utf-8")


@attack
def config_of_infinite_numbers(folder: Path, marker: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG)[:-1] + ', "rotary_emb_base": 1e999}', encoding="utf-8")


@attack
def config_with_a_late_key_twice(folder: Path, marker: Path) -> None:
    names = [f'"n{i}":0' for i in range(60_000)]
    (folder / "config.json").write_text("{" + ",".join([*names, names[-1]]) + "}", encoding="utf-8")


@attack
def config_of_a_gigabyte(folder: Path, marker: Path) -> None:
    os.truncate(folder / "config.json", 1 << 30)  # sparse
