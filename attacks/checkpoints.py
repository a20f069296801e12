"""Hostile checkpoints: each function here writes one into a folder; NexVar must refuse it with one line.

    python attacks/checkpoints.py DIR     write them all under DIR (then: NexVar("DIR/reduce_system"))

They start from a sound tiny StripedHyena 2 folder. The pickles would create the file ``MARKER`` if anything in them
were executed. ``tests/test_attacks.py`` loads every one of them.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

CONFIG = {
    "vocab_size": 512, "hidden_size": 16, "num_layers": 4, "num_attention_heads": 2, "inner_mlp_size": 32,
    "hcs_layer_idxs": [0], "hcm_layer_idxs": [1], "hcl_layer_idxs": [2], "attn_layer_idxs": [3],
    "hcs_filter_groups": 4, "hcm_filter_groups": 4, "hcs_filter_length": 7, "hcm_filter_length": 128,
    "short_filter_length": 3, "state_size": 4, "eps": 1e-6, "interleave": True, "column_split": True,
    "column_split_hyena": False, "qkv_proj_bias": False, "evo2_style_activations": True, "rotary_emb_base": 10000,
    "max_seqlen": 512, "tie_embeddings": True, "use_fp8_input_projections": False,
}  # fmt: skip
ATTACKS: dict[str, Callable[[Path, Path], None]] = {}


def attack(write: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    """Register ``write(folder, marker)``; the folder already holds config.json."""
    ATTACKS[write.__name__] = write
    return write


def tensors() -> dict[str, Tensor]:
    """A sound state dict for ``CONFIG``, in the official names, shapes and dtypes."""
    generator = torch.Generator().manual_seed(0)
    D, inner, heads, poles = 16, 32, 2, 4
    shapes = {"embedding_layer.weight": (512, D), "unembed.weight": (512, D), "norm.scale": (D,)}
    for i in range(4):
        shapes |= {f"blocks.{i}.pre_norm.scale": (D,), f"blocks.{i}.post_norm.scale": (D,)}
        shapes |= {f"blocks.{i}.mlp.l1.weight": (inner, D), f"blocks.{i}.mlp.l2.weight": (inner, D)}
        shapes |= {f"blocks.{i}.mlp.l3.weight": (D, inner)}
    for i in range(3):
        shapes |= {f"blocks.{i}.projections.weight": (3 * D, D), f"blocks.{i}.out_filter_dense.weight": (D, D)}
        shapes |= {f"blocks.{i}.filter.short_filter_weight": (3 * D, 1, 3), f"blocks.{i}.out_filter_dense.bias": (D,)}
    shapes |= {"blocks.0.filter.h": (4, 1, 7), "blocks.1.filter.h": (4, 1, 128)}
    shapes |= {"blocks.1.filter.D": (D,), "blocks.2.filter.D": (D,)}
    shapes |= {"blocks.2.filter.log_poles": (D, poles, 1), "blocks.2.filter.residues": (D, poles)}
    mha = "blocks.3.inner_mha_cls"
    shapes |= {f"{mha}.Wqkv.weight": (3 * D, D), f"{mha}.out_proj.weight": (D, D), f"{mha}.out_proj.bias": (D,)}
    shapes |= {f"{mha}.rotary_emb.inv_freq": (D // heads // 2,)}
    state = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator) * 0.1
        state[name] = -value.abs() if name.endswith(("log_poles", "residues")) else value.bfloat16()
    return state


def write_sound(folder: Path) -> None:
    """The folder every attack starts from, which loads."""
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(save(tensors()))


# ------------------------------------------------------------------------------------------------- executing pickles


class Call:
    """Pickles as a call of ``function(*args)``."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.args


def touch(marker: Path) -> Call:
    return Call(os.system, f"touch {marker}")


def save_pt(folder: Path, value: Any, name: str = "model.pt", **options: Any) -> None:
    torch.save(value, folder / name, **options)


def with_pickle(folder: Path, program: bytes, name: str = "model.pt") -> None:
    """A zip file as torch writes it, with this program as its data.pkl and no storages."""
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model/data.pkl", program)
        archive.writestr("model/byteorder", b"little")


@attack
def reduce_system(folder: Path, marker: Path) -> None:
    save_pt(folder, {**tensors(), "extra": touch(marker)})


@attack
def reduce_system_legacy(folder: Path, marker: Path) -> None:
    save_pt(folder, {**tensors(), "extra": touch(marker)}, "pytorch_model.bin", _use_new_zipfile_serialization=False)


@attack
def reduce_system_new_protocol(folder: Path, marker: Path) -> None:
    save_pt(folder, {**tensors(), "extra": touch(marker)}, pickle_protocol=5)


@attack
def reduce_exec(folder: Path, marker: Path) -> None:
    save_pt(folder, {**tensors(), "extra": Call(exec, f"open({str(marker)!r}, 'w')")})


@attack
def reduce_eval_as_the_whole_file(folder: Path, marker: Path) -> None:
    with_pickle(folder, pickle.dumps(Call(eval, f"open({str(marker)!r}, 'w')"), protocol=2))


@attack
def plain_pickle(folder: Path, marker: Path) -> None:
    (folder / "model.pt").write_bytes(pickle.dumps(touch(marker)))


@attack
def text_protocol_pickle(folder: Path, marker: Path) -> None:
    (folder / "model.pt").write_bytes(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())


@attack
def magic_number_that_calls(folder: Path, marker: Path) -> None:
    program = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + pickle.dumps(touch(marker), protocol=2)
    (folder / "model.pt").write_bytes(program)


@attack
def inside_an_extra_state(folder: Path, marker: Path) -> None:
    inner = io.BytesIO()
    torch.save({"scale_fwd": touch(marker)}, inner)
    save_pt(folder, OrderedDict({**tensors(), "blocks.0.projections._extra_state": inner}))


@attack
def inside_a_tensor_of_bytes(folder: Path, marker: Path) -> None:
    state = torch.frombuffer(bytearray(pickle.dumps({"scale_fwd": touch(marker)})), dtype=torch.uint8)
    save_pt(folder, {**tensors(), "blocks.0.projections._extra_state": state})


@attack
def inside_safetensors(folder: Path, marker: Path) -> None:
    state = torch.frombuffer(bytearray(pickle.dumps(touch(marker))), dtype=torch.uint8)
    (folder / "model.safetensors").write_bytes(save({**tensors(), "blocks.0.projections._extra_state": state}))


@attack
def inside_an_embedded_storage(folder: Path, marker: Path) -> None:
    program = b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\n"
    content = pickle.dumps(touch(marker), protocol=2)
    program += b"B" + struct.pack("<I", len(content)) + content + b"\x85RK\x00K\x01\x85K\x01\x85\x89NtRs."
    with_pickle(folder, program)


@attack
def build_on_a_class(folder: Path, marker: Path) -> None:
    program = b"\x80\x02ccollections\nOrderedDict\n}X\x08\x00\x00\x00__call__cos\nsystem\nsb."
    with_pickle(folder, program)


@attack
def setattr_through_build(folder: Path, marker: Path) -> None:
    with_pickle(folder, b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.")


@attack
def a_function_of_torch(folder: Path, marker: Path) -> None:
    save_pt(folder, {**tensors(), "extra": Call(torch.load, str(marker))})


@attack
def a_dotted_name(folder: Path, marker: Path) -> None:
    name, module = b"_utils.sys.modules.clear", b"torch"
    program = b"\x80\x04\x8c" + bytes([len(module)]) + module + b"\x8c" + bytes([len(name)]) + name + b"\x93)R."
    with_pickle(folder, program)


@attack
def getattr_chain(folder: Path, marker: Path) -> None:
    save_pt(folder, {**tensors(), "extra": Call(getattr, OrderedDict, "fromkeys")})


@attack
def numpy_runs_text(folder: Path, marker: Path) -> None:
    program = b"\x80\x02cnumpy.testing._private.utils\nrunstring\nX\x04\x00\x00\x00None}\x86R."
    with_pickle(folder, program)


@attack
def rebuild_with_a_foreign_function(folder: Path, marker: Path) -> None:
    text = f"touch {marker}".encode()
    program = b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nNX" + struct.pack("<I", len(text)) + text
    with_pickle(folder, program + b"\x85}tR.")


# ------------------------------------------------------------------------------------- pickles that hang or exhaust


@attack
def nested_tuple_as_key(folder: Path, marker: Path) -> None:
    """Hashing it takes 2^200 steps."""
    with_pickle(folder, b"\x80\x02}K\x01" + b"2\x86" * 200 + b"K\x01s.")


@attack
def text_encoded_for_ever(folder: Path, marker: Path) -> None:
    text = b"a" * 1_000_000
    program = b"\x80\x02](X" + struct.pack("<I", len(text)) + text + b"q\x000"
    again = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    with_pickle(folder, program + again * 30_000 + b"e.")


@attack
def length_beyond_the_end(folder: Path, marker: Path) -> None:
    with_pickle(folder, b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"abc.")


@attack
def stack_underflow(folder: Path, marker: Path) -> None:
    with_pickle(folder, b"\x80\x02\x87\x86R0b.")


@attack
def extension_opcode(folder: Path, marker: Path) -> None:
    with_pickle(folder, b"\x80\x02\x82\x01.")


@attack
def key_given_twice(folder: Path, marker: Path) -> None:
    with_pickle(folder, b"\x80\x02}(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00aK\x02u.")


def tensor_program(offset: int, shape: tuple[int, ...], stride: tuple[int, ...], key: str = "0") -> bytes:
    """A pickle of {"norm.scale": a float32 view of storage ``key``}."""

    def integer(n: int) -> bytes:
        raw = n.to_bytes(9, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw

    def integers(numbers: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(integer, numbers)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + integer(4) + b"tQ"
    view = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + integer(offset) + integers(shape) + integers(stride)
    return b"\x80\x02}" + text("norm.scale") + view + b"\x89NtRs."


def with_storage(folder: Path, program: bytes, content: bytes = b"\0" * 16, name: str = "model/data/0") -> None:
    with_pickle(folder, program)
    with zipfile.ZipFile(folder / "model.pt", "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(name, content)


@attack
def strides_of_zero(folder: Path, marker: Path) -> None:
    """A terabyte out of four bytes."""
    with_storage(folder, tensor_program(0, (1 << 20, 1 << 20), (0, 0)))


@attack
def offset_outside_the_storage(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(1 << 40, (4,), (1,)))


@attack
def negative_offset(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(-4, (4,), (1,)))


@attack
def negative_stride(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(3, (4,), (-1,)))


@attack
def stride_outside_the_storage(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(0, (2, 2), (1 << 50, 1)))


@attack
def storage_key_with_a_path(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(0, (4,), (1,), key="../../../../etc/passwd"))


@attack
def record_shorter_than_the_tensor(folder: Path, marker: Path) -> None:
    with_storage(folder, tensor_program(0, (4,), (1,)), content=b"\0" * 8)


# ------------------------------------------------------------------------------------------------------------- zips


@attack
def zip_bomb(folder: Path, marker: Path) -> None:
    with zipfile.ZipFile(folder / "model.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", tensor_program(0, (4,), (1,)))
        archive.writestr("model/data/0", b"\0" * 50_000_000)


@attack
def zip_with_two_programs(folder: Path, marker: Path) -> None:
    """Readers disagree which of two equal names counts."""
    import warnings

    with warnings.catch_warnings(), zipfile.ZipFile(folder / "model.pt", "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("model/data.pkl", tensor_program(0, (4,), (1,)))
        archive.writestr("model/data.pkl", pickle.dumps(touch(marker), protocol=2))


@attack
def zip_names_that_climb(folder: Path, marker: Path) -> None:
    with zipfile.ZipFile(folder / "model.pt", "w") as archive:
        archive.writestr(f"../../../../../..{marker}", b"")
        archive.writestr("../data.pkl", pickle.dumps(touch(marker), protocol=2))


@attack
def zip_truncated(folder: Path, marker: Path) -> None:
    save_pt(folder, tensors())
    content = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(content[: len(content) * 2 // 3])


@attack
def zip_directory_points_elsewhere(folder: Path, marker: Path) -> None:
    save_pt(folder, tensors())
    content = bytearray((folder / "model.pt").read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 42 : entry + 46] = struct.pack("<I", 12345)
    (folder / "model.pt").write_bytes(content)


@attack
def zip_sizes_that_lie(folder: Path, marker: Path) -> None:
    save_pt(folder, tensors())
    content = bytearray((folder / "model.pt").read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 20 : entry + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    (folder / "model.pt").write_bytes(content)


@attack
def big_endian(folder: Path, marker: Path) -> None:
    with zipfile.ZipFile(folder / "model.pt", "w") as archive:
        archive.writestr("model/data.pkl", tensor_program(0, (4,), (1,)))
        archive.writestr("model/byteorder", b"big")


@attack
def a_missing_part(folder: Path, marker: Path) -> None:
    save_pt(folder, tensors())
    content = (folder / "model.pt").read_bytes()
    (folder / "model.pt").unlink()
    for i in (0, 2):
        (folder / f"model.pt.part{i}").write_bytes(content[i * 1000 : (i + 1) * 1000])


# ------------------------------------------------------------------------------------------------------ safetensors


def with_header(folder: Path, header: bytes, data: bytes = b"", length: int | None = None) -> None:
    length = len(header) if length is None else length
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + header + data)


def entry(begin: int, end: int, shape: Any = (4,), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@attack
def header_longer_than_the_file(folder: Path, marker: Path) -> None:
    with_header(folder, b"{}", length=1 << 60)


@attack
def header_of_a_gigabyte(folder: Path, marker: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 30))
    os.truncate(path, (1 << 30) + 16)  # sparse


@attack
def header_not_utf8(folder: Path, marker: Path) -> None:
    with_header(folder, b'{"\xff\xfe": 1}')


@attack
def header_not_a_table(folder: Path, marker: Path) -> None:
    with_header(folder, b"[1, 2, 3]")


@attack
def header_nested_deep(folder: Path, marker: Path) -> None:
    with_header(folder, b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}")


@attack
def header_with_a_key_twice(folder: Path, marker: Path) -> None:
    one = json.dumps(entry(0, 16))
    with_header(folder, f'{{"norm.scale": {one}, "norm.scale": {one}}}'.encode(), b"\0" * 16)


@attack
def offsets_overlap(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(0, 16), "b": entry(8, 24)}).encode(), b"\0" * 24)


@attack
def offsets_beyond_the_file(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(0, 1 << 40, (1 << 38,))}).encode(), b"\0" * 16)


@attack
def offsets_negative(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(-16, 0)}).encode(), b"\0" * 16)


@attack
def offsets_that_are_words(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": {**entry(0, 16), "data_offsets": ["0", True]}}).encode(), b"\0" * 16)


@attack
def a_hole_in_the_data(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(0, 16), "b": entry(20, 36)}).encode(), b"\0" * 36)


@attack
def bytes_after_the_data(folder: Path, marker: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"PK\x03\x04")


@attack
def shape_larger_than_the_data(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(0, 16, (1 << 62, 1 << 62))}).encode(), b"\0" * 16)


@attack
def unknown_dtype(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(0, 16, dtype="F128")}).encode(), b"\0" * 16)


@attack
def a_dtype_that_is_a_list(folder: Path, marker: Path) -> None:
    with_header(folder, json.dumps({"a": entry(0, 16, dtype=["F32"])}).encode(), b"\0" * 16)


@attack
def safetensors_truncated(folder: Path, marker: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@attack
def safetensors_of_seven_bytes(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 7)


@attack
def empty_weights(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


# -------------------------------------------------------------------------------------------- names, links, shards


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


# ------------------------------------------------------------------------------------------- tensors and config.json


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


def write_all(directory: Path, marker: Path) -> list[Path]:
    """Every attack in a folder of its own; returns the folders."""
    folders = []
    for name, write in ATTACKS.items():
        folder = directory / name
        folder.mkdir(parents=True)
        write_sound(folder)
        write(folder, marker)
        if any(path.suffix != ".safetensors" and path.suffix != ".json" for path in folder.glob("*model.*")):
            (folder / "model.safetensors").unlink(missing_ok=True)  # so that the torch file is what is loaded
        folders.append(folder)
    return folders


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(f"{len(write_all(target, target / 'MARKER'))} hostile checkpoints under {target}")
