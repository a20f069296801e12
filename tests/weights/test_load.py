"""Loading: torch files read as data, every way a folder can hold its weights, dtypes, strict accounting, saving."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from nexvar import cards, models
from nexvar.errors import NexVarError
from nexvar.weights import checkpoint
from nexvar.weights.assemble import all_finite, assign, build, make_config
from nexvar.weights.checkpoint import safetensors
from nexvar.weights.load import load, save


@pytest.fixture(scope="module")
def official(golden) -> Path:
    """An official-style folder: config.json and a .pt with TransformerEngine 1.x states."""
    return golden / "sh2_pt_loader"


@pytest.fixture(scope="module")
def state(official) -> dict[str, Tensor]:
    return checkpoint.read([official / "tiny_evo2.pt"])


@pytest.fixture
def folder(official, tmp_path) -> Path:
    shutil.copy(official / "config.json", tmp_path)
    return tmp_path


def logits(source: Path, **options) -> Tensor:
    loaded = load(source, device="cpu", **options)
    ids = torch.tensor([loaded.tokenizer.tokenize("ACGTTGCAACGTNACGGT" * 2)])
    with torch.no_grad():
        return loaded.module(ids).logits


# ------------------------------------------------------------------------------------------------ the official .pt


def test_same_tensors_as_torch_reads(official, state):
    reference = torch.load(official / "tiny_evo2.pt", weights_only=False)
    tensors = {k: v for k, v in reference.items() if isinstance(v, Tensor)}
    assert set(state) == set(tensors) | {k for k in state if k.endswith("fp8_scale_fwd")}
    for name, tensor in tensors.items():
        assert state[name].dtype == tensor.dtype and torch.equal(state[name], tensor), name


def test_fp8_scales_of_the_extra_states(official, state):
    scales = load_file(official / "fp8_scales.safetensors")
    found = {k.removesuffix(".fp8_scale_fwd"): v for k, v in state.items() if k.endswith("fp8_scale_fwd")}
    assert set(found) == set(scales)
    for name, scale in scales.items():
        assert torch.equal(found[name], scale)


def test_reference_logits(official, golden):
    """The whole way: .pt -> model -> the numbers of the original code."""
    io_a = load_file(golden / "sh2_a" / "io.safetensors")
    loaded = load(official, device="cpu", dtype="float32")
    with torch.no_grad():
        y = loaded.module(io_a["len033.input_ids"]).logits
    torch.testing.assert_close(y, io_a["len033.logits"], rtol=0, atol=5e-4)
    assert loaded.card.tokenizer == "byte" and loaded.card.objective == "causal"


def test_fp8_scales_reach_the_model(official, folder):
    """A config that asks for FP8 gets the file's scales and other logits."""
    shutil.copy(official / "tiny_evo2.pt", folder)
    plain = logits(folder, dtype="float32")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "use_fp8_input_projections": True}))
    module = load(folder, device="cpu").module
    scales = load_file(official / "fp8_scales.safetensors")
    for name, scale in scales.items():
        buffer = module.get_submodule(name).fp8_scale
        assert buffer.dtype == torch.float32 and torch.equal(buffer, scale[:2])
    assert not torch.equal(plain, logits(folder, dtype="float32"))
    save_file({k: v for k, v in checkpoint.read_folder(folder).items() if "fp8" not in k}, folder / "model.safetensors")
    with pytest.raises(NexVarError, match="misses 6 tensor.*fp8_scale"):
        load(folder, device="cpu")


# --------------------------------------------------------------------------------- every way to hold the same weights


def unshared(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in state.items()}


def write_single(folder: Path, state: dict[str, Tensor]) -> None:
    save_file(unshared(state), folder / "model.safetensors")


def write_other_name(folder: Path, state: dict[str, Tensor]) -> None:
    save_file(unshared(state), folder / "evo2.safetensors")


def write_sharded(folder: Path, state: dict[str, Tensor], suffix: str = "safetensors") -> None:
    names, weight_map = sorted(state), {}
    for i in range(3):
        shard = f"model-{i + 1:05}-of-00003.{suffix}"
        part = unshared({k: state[k] for k in names[i::3]})
        save_file(part, folder / shard) if suffix == "safetensors" else torch.save(part, folder / shard)
        weight_map |= {k: shard for k in part}
    name = "model.safetensors.index.json" if suffix == "safetensors" else "pytorch_model.bin.index.json"
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def write_sharded_bin(folder: Path, state: dict[str, Tensor]) -> None:
    write_sharded(folder, state, "bin")


def write_bin(folder: Path, state: dict[str, Tensor]) -> None:
    torch.save(OrderedDict(state), folder / "pytorch_model.bin")


def write_legacy_bin(folder: Path, state: dict[str, Tensor]) -> None:
    torch.save(OrderedDict(state), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def write_wrapped_pt(folder: Path, state: dict[str, Tensor]) -> None:
    torch.save({"module": OrderedDict(state), "iteration": 7, "args": {"lr": 1e-4}}, folder / "evo2.pt")


def write_parameters(folder: Path, state: dict[str, Tensor]) -> None:
    parameters = {k: torch.nn.Parameter(v, requires_grad=v.is_floating_point()) for k, v in state.items()}
    torch.save(parameters, folder / "evo2.pt")


def write_column_major(folder: Path, state: dict[str, Tensor]) -> None:
    torch.save({k: v.T.contiguous().T if v.ndim == 2 else v for k, v in state.items()}, folder / "pytorch_model.bin")


def write_parts(folder: Path, state: dict[str, Tensor], parts: int = 3) -> None:
    torch.save(OrderedDict(state), folder / "evo2.pt")
    content = (folder / "evo2.pt").read_bytes()
    (folder / "evo2.pt").unlink()
    size = len(content) // parts + 1
    for i in range(parts):
        (folder / f"evo2.pt.part{i}").write_bytes(content[i * size : (i + 1) * size])


def write_eleven_parts(folder: Path, state: dict[str, Tensor]) -> None:
    write_parts(folder, state, 11)  # part10 sorts before part2 as text


def write_transformer_engine_2(folder: Path, state: dict[str, Tensor]) -> None:
    """TransformerEngine 2.x keeps its state as a uint8 tensor that holds a pickle."""
    other = {}
    for name, value in state.items():
        if name.endswith("fp8_scale_fwd"):
            content = pickle.dumps({"scale_fwd": value, "amax_history_fwd": torch.zeros(16, 3), "recipe": None})
            name, value = (
                name.replace("fp8_scale_fwd", "_extra_state"),
                torch.frombuffer(bytearray(content), dtype=torch.uint8),
            )
        other[name] = value
    torch.save(
        {**other, "blocks.0.out_filter_dense._extra_state": torch.empty(0, dtype=torch.uint8)}, folder / "evo2.pt"
    )


WRITERS = [f for name, f in list(globals().items()) if name.startswith("write_")]


@pytest.mark.parametrize("write", WRITERS, ids=[f.__name__.removeprefix("write_") for f in WRITERS])
def test_same_model_from_any_file(folder, state, write):
    write(folder, state)
    found = checkpoint.read_folder(folder)
    assert set(found) == set(state)
    assert all(torch.equal(found[k], state[k]) and found[k].dtype == state[k].dtype for k in state)
    load(folder, device="cpu")


def test_lightning_checkpoint_with_settings(tmp_path, state):
    """Hyper-parameters beside the weights are skipped, not looked into."""
    from argparse import Namespace

    torch.save(
        {"state_dict": dict(state), "hyper_parameters": Namespace(lr=1e-3), "epoch": 3}, tmp_path / "weights.ckpt"
    )
    assert set(checkpoint.read_folder(tmp_path)) == set(state)


def test_extra_states_in_memory_files(tmp_path):
    """TransformerEngine 1.x: an io.BytesIO with a torch.save'd dict, in either file format; None is ignored."""
    scale = torch.tensor([3.0, 5.0, 1.0])
    for legacy in (False, True):
        inner = io.BytesIO()
        torch.save({"scale_fwd": scale}, inner, _use_new_zipfile_serialization=not legacy)
        torch.save(
            {"a.projections._extra_state": inner, "b.projections._extra_state": None, "c": torch.ones(1)},
            tmp_path / "x.pt",
        )
        found = checkpoint.read([tmp_path / "x.pt"])
        assert set(found) == {"a.projections.fp8_scale_fwd", "c"}
        assert torch.equal(found["a.projections.fp8_scale_fwd"], scale)


def test_convert_to_safetensors(official, tmp_path, state):
    target = checkpoint.convert_to_safetensors(official, tmp_path / "model.safetensors")
    theirs, ours = load_file(target), checkpoint.read([target])  # their reader accepts what we write
    assert set(theirs) == set(ours) == set(state)
    assert all(torch.equal(theirs[k], state[k]) and torch.equal(ours[k], state[k]) for k in state)
    shutil.copy(official / "config.json", tmp_path)
    assert torch.equal(logits(tmp_path), logits(official))


def test_convert_parts(tmp_path, state):
    write_parts(tmp_path, state)
    target = checkpoint.convert_to_safetensors(tmp_path / "evo2.pt.part0", tmp_path / "model.safetensors")
    assert set(checkpoint.read([target])) == set(state)


def test_nothing_is_read_before_it_is_used(tmp_path):
    """Tensors are views of the file: a large checkpoint costs address space, not memory."""
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "x.pt")
    a = checkpoint.read([tmp_path / "x.pt"])["a"]
    a[0] = 1.0  # private: in-place training must not change the file
    assert torch.load(tmp_path / "x.pt")["a"][0] == 0


dtypes = st.sampled_from(list(safetensors.DTYPES.values()))
shapes = st.lists(st.integers(0, 5), max_size=4)


@given(entries=st.dictionaries(st.text(min_size=1, max_size=8), st.tuples(dtypes, shapes), max_size=6))
def test_safetensors_round_trip(tmp_path, entries):
    entries.pop("__metadata__", None)
    tensors = {name: torch.randint(0, 2, shape).to(dtype) for name, (dtype, shape) in entries.items()}
    safetensors.write(tensors, tmp_path / "x.safetensors", {"made": "here"})
    for found in (checkpoint.read([tmp_path / "x.safetensors"]), load_file(tmp_path / "x.safetensors")):
        assert set(found) == set(tensors)
        for name, tensor in tensors.items():
            assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
            assert torch.equal(found[name].float(), tensor.float())


@given(data=st.binary(max_size=200))
def test_no_bytes_crash_the_readers(tmp_path, data):
    """Any bytes at all are a state dict or one line."""
    for name in ("x.safetensors", "x.pt"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(NexVarError):
            checkpoint.read([tmp_path / name])


@given(data=st.data())
def test_damaged_files_do_not_crash_the_reader(tmp_path_factory, data):
    """A few changed bytes of a sound file give tensors or one line, never another error."""
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    for legacy in (False, True):
        buffer = io.BytesIO()
        torch.save({"a": torch.ones(3), "b": torch.zeros(2, 2)}, buffer, _use_new_zipfile_serialization=not legacy)
        content = bytearray(buffer.getvalue())
        for _ in range(3):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        (folder / "x.pt").write_bytes(content)
        try:
            checkpoint.read([folder / "x.pt"])
        except NexVarError as error:
            assert "\n" not in str(error)


# ------------------------------------------------------------------------------------------------- dtypes, saving


def test_dtypes(official):
    loaded = load(official, device="cpu")
    assert loaded.dtype == torch.bfloat16  # most of the file's weights
    keep = models.get("striped_hyena2").KEEP_FLOAT32
    assert keep
    for name, tensor in loaded.module.state_dict().items():
        exact = name.endswith(("log_poles", "residues", "inv_freq"))
        assert tensor.dtype == (torch.float32 if exact else torch.bfloat16), name
    loaded = load(official, device="cpu", dtype=torch.float32)
    assert all(t.dtype == torch.float32 for t in loaded.module.state_dict().values())
    assert all(p.requires_grad for p in loaded.module.parameters()) and not loaded.module.training
    with pytest.raises(NexVarError, match="no dtype 'int3'"):
        load(official, dtype="int3")
    with pytest.raises(NexVarError, match="no device 'abacus'"):
        load(official, device="abacus")


def test_save_and_load_again(official, tmp_path):
    first = load(official, device="cpu")
    save(
        tmp_path / "mine",
        first.module,
        architecture="striped_hyena2",
        config=first.module.config,
        card={"tokenizer": "byte", "objective": "causal", "context": 300, "species": "mitochondria"},
    )
    again = load(tmp_path / "mine", device="cpu")
    assert again.card.name == "mine" and again.card.context == 300 and again.card.species == "mitochondria"
    assert again.module.config == first.module.config
    ours, theirs = again.module.state_dict(), first.module.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) and ours[k].dtype == theirs[k].dtype for k in theirs)
    assert torch.equal(logits(tmp_path / "mine"), logits(official))


def test_unknown_card_field_in_a_saved_folder(official, tmp_path):
    first = load(official, device="cpu")
    save(tmp_path, first.module, architecture="striped_hyena2", config=first.module.config, card={"weights": "/etc/x"})
    with pytest.raises(NexVarError, match="unknown fields"):
        load(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_all_finite(dtype):
    values = torch.full((1000,), torch.finfo(dtype).max, dtype=dtype)  # a sum overflows, no value does
    assert all_finite(values)
    for bad in ("nan", "inf", "-inf"):
        values[777] = float(bad)
        assert not all_finite(values)


def test_a_buffer_without_a_value_is_caught(official, state):
    """The defect that silently ruins remote-code checkpoints: memory that nobody filled."""
    arch = models.get("striped_hyena2")
    loaded = load(official, device="cpu")
    module = build("striped_hyena2", loaded.module.config)
    module.register_buffer("forgotten", torch.empty(3, device="meta"), persistent=False)
    with pytest.raises(NexVarError, match="forgotten was never given a value"):
        assign(module, loaded.module.state_dict(), device=loaded.device, dtype=loaded.dtype, keep=arch.KEEP_FLOAT32)


# ---------------------------------------------------------------------------------------------------- sources


def test_sources_that_do_not_exist(tmp_path):
    with pytest.raises(NexVarError, match="no such folder"):
        load(tmp_path / "nothing")
    with pytest.raises(NexVarError, match="no config.json"):
        load(tmp_path)
    with pytest.raises(NexVarError, match="did you mean"):
        load("nexvar_7bb")
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(NexVarError, match="this is a file"):
        load(tmp_path / "model.pt")


def test_a_card_wins_over_a_folder_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "nexvar_40b").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NexVarError, match="no config.json"):
        load("./nexvar_40b")
    with pytest.raises(NexVarError, match="Hopper"):
        load("nexvar_40b", device="cpu")


@pytest.mark.parametrize("card", [c for c in cards.all_cards().values() if c.fp8 == "hopper"], ids=lambda c: c.name)
def test_wrong_fp8_is_refused_before_any_download(card, monkeypatch):
    monkeypatch.delenv("NEXVAR_ALLOW_WRONG_FP8", raising=False)
    with pytest.raises(NexVarError, match="wrong numbers on cpu.*allow_wrong_fp8=True"):
        load(card.name, device="cpu")


def test_a_folder_with_a_copy_of_a_hopper_checkpoint_is_refused_too(tmp_path, monkeypatch):
    monkeypatch.delenv("NEXVAR_ALLOW_WRONG_FP8", raising=False)
    config = {"architecture": "striped_hyena2", **cards.get("nexvar_20b").config}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"norm.scale": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(NexVarError, match="wrong numbers on cpu"):
        load(tmp_path, device="cpu")
    with pytest.raises(NexVarError, match="misses"):
        load(tmp_path, device="cpu", allow_wrong_fp8=True)


def test_config_from_a_card_has_tuples_not_lists():
    for card in cards.all_cards().values():
        config = make_config(card.architecture, card.config, card.name)
        assert not any(isinstance(v, list) for v in vars(config).values())
