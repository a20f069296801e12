"""Pickles that would execute something."""

from __future__ import annotations

import io
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save

from _pickling import Call, save_pt, touch, with_pickle
from _sound import attack, tensors


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
