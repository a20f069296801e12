"""Read a pickle as data: a small pickle machine that never imports, calls or builds anything.

    bytes -> opcodes -> plain dicts, lists, tuples, numbers, text, bytes and three inert records:
             Storage (where a tensor's bytes are), TensorRecord (a view of one), Opaque (nothing we look at)

``pickle.Unpickler`` with a filtered ``find_class`` is not used: BUILD can still reach into whatever the filter
let through, and a nested tuple as a dict key can hang it. Here a global is only a name; the handful of names
that a torch checkpoint needs are interpreted below, data-only classes become ``Opaque``, all others are refused.

Opcodes: https://github.com/python/cpython/blob/main/Lib/pickletools.py (protocols 2 to 5, without the
out-of-band and extension opcodes). Checkpoint conventions: torch/_utils.py ``_rebuild_*``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any

from nexvar.errors import NexVarError
from nexvar.weights.checkpoint.mapped import MAX_DIMENSIONS, is_sound_shape

# Classes that hold settings beside the weights (hyper-parameters, quantisation recipes): never looked into.
OPAQUE_MODULES = ("omegaconf", "transformer_engine", "pytorch_lightning", "lightning", "typing")
OPAQUE_NAMES = {"collections.defaultdict", "builtins.dict", "builtins.list", "builtins.set", "builtins.int"}
OPAQUE_NAMES |= {
    "torch.device",
    "torch.Size",
    "torch.nn.parameter.Parameter",
    "pathlib.PosixPath",
    "argparse.Namespace",
}
OPAQUE_NAMES |= {"numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}


LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

# What one program may cost. The largest released checkpoint takes 3 % of any of these.
MAX_STEPS = 4_000_000
MAX_BYTES = 1 << 28  # of text and bytes in it
MAX_NUMBER = 16  # bytes of an integer; LEGACY_MAGIC has ten
MAX_NAME = 512  # characters of a module's and a class's name
MAX_KEY = 1 << 31  # integers as keys: larger ones can be made to collide
MAX_ARGUMENTS = 16


@dataclass(frozen=True)
class Global:
    """A name a pickle mentions; never imported."""

    name: str


@dataclass(frozen=True)
class Storage:
    """The bytes of one or more tensors. dtype: "BFloat16", "Float", …, or None for untyped bytes."""

    key: str
    dtype: str | None
    numel: int
    embedded: bytes | None = None  # a torch.save'd storage inside the pickle (TransformerEngine 2.x)


@dataclass(frozen=True)
class TensorRecord:
    """A strided view of a storage; offset and strides in elements."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Opaque:
    """An object we keep no content of."""


class ByteFile(Opaque):
    """An ``io.BytesIO``: nothing but its bytes."""

    content = b""


class _Mark:
    pass


_MARK = _Mark()
_SINGLE: dict[int, Any] = {
    ord("N"): None,
    0x88: True,
    0x89: False,
}
_LENGTHS = {  # opcode -> (struct format of its length, kind)
    ord("X"): ("<I", "text"),
    0x8C: ("<B", "text"),
    0x8D: ("<Q", "text"),
    ord("B"): ("<I", "bytes"),
    ord("C"): ("<B", "bytes"),
    0x8E: ("<Q", "bytes"),
    0x96: ("<Q", "bytes"),
    ord("U"): ("<B", "latin"),
    ord("T"): ("<I", "latin"),
    0x8A: ("<B", "int"),
    0x8B: ("<I", "int"),
}
_NUMBERS = {ord("J"): "<i", ord("K"): "<B", ord("M"): "<H", ord("G"): ">d"}
_TUPLES = {ord(")"): 0, 0x85: 1, 0x86: 2, 0x87: 3}


class Machine:
    """One pickle stream. ``run()`` returns its object and leaves ``position`` after its STOP.

    Time and memory are linear in the stream, and bounded: whatever costs more than the bytes that ask for it (a text
    encoded again, a remembered list walked again) is paid from ``budget``. embedded: one that lies in another.
    """

    def __init__(self, data: bytes | memoryview, where: object, position: int = 0, embedded: bool = False) -> None:
        self.data, self.where, self.position, self.embedded = memoryview(data), where, position, embedded
        self.budget = min(len(data), MAX_BYTES)
        self.storages: dict[int, tuple[bytes, Storage]] = {}
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.held = 0

    def refuse(self, what: str) -> NexVarError:
        return NexVarError(f"refused the pickle: {what}", where=self.where, fix="nothing in it was executed")

    def take(self, count: int) -> memoryview:
        end = self.position + count
        if end > len(self.data):
            raise self.refuse("it ends in the middle (truncated file?)")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        for end in range(self.position, min(self.position + 512, len(self.data))):
            if self.data[end] == 10:
                text = bytes(self.take(end - self.position)).decode("utf-8", "replace")
                self.position += 1
                return text
        raise self.refuse("a name without an end")

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise self.refuse("a value is missing")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise self.refuse(f"expected a {kind.__name__}")
        return self.stack[-1]

    def pop_mark(self) -> list[Any]:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                items = self.stack[i + 1 :]
                del self.stack[i:]
                return items
        raise self.refuse("a mark is missing")

    def pay(self, cost: int) -> None:
        self.budget -= cost
        if self.budget < 0:
            raise self.refuse("it would cost more than its size allows")

    def run(self) -> Any:
        for _ in range(MAX_STEPS):
            op = self.number("<B")
            if op == ord("."):
                return self.pop()
            self.step(op)
        raise self.refuse(f"more than {MAX_STEPS} steps")

    def step(self, op: int) -> None:
        stack, memo = self.stack, self.memo
        if op in _SINGLE:
            stack.append(_SINGLE[op])
        elif op in _NUMBERS:
            stack.append(self.number(_NUMBERS[op]))
        elif op in _LENGTHS:
            form, kind = _LENGTHS[op]
            length = self.number(form)
            self.held += length
            if self.held > MAX_BYTES or (kind == "int" and length > MAX_NUMBER):
                raise self.refuse(f"{kind} of {length} bytes")
            raw = bytes(self.take(length))
            if kind == "int":
                stack.append(int.from_bytes(raw, "little", signed=True))
            elif kind == "bytes":
                stack.append(raw)
            else:
                stack.append(raw.decode("utf-8" if kind == "text" else "latin-1", "replace"))
        elif op in _TUPLES:
            count = _TUPLES[op]
            items = [self.pop() for _ in range(count)][::-1]
            stack.append(tuple(items))
        elif op == ord("("):
            stack.append(_MARK)
        elif op == ord("t"):
            stack.append(tuple(self.pop_mark()))
        elif op in b"}]" or op == 0x8F:
            stack.append({} if op == ord("}") else [])  # a set is kept as a list: nothing here is hashed
        elif op in b"dl":
            items = self.pop_mark()
            stack.append({} if op == ord("d") else items)
            if op == ord("d"):
                self.set_items(items)
        elif op == 0x91:
            stack.append(self.pop_mark())
        elif op == ord("a"):
            item = self.pop()
            self.top(list).append(item)
        elif op in (ord("e"), 0x90):
            items = self.pop_mark()
            self.top(list).extend(items)
        elif op == ord("s"):
            value, key = self.pop(), self.pop()
            self.set_items([key, value])
        elif op == ord("u"):
            self.set_items(self.pop_mark())
        elif op in b"qr":
            memo[self.number("<B" if op == ord("q") else "<I")] = stack[-1] if stack else self.pop()
        elif op == 0x94:
            memo[len(memo)] = stack[-1] if stack else self.pop()
        elif op in b"hj":
            index = self.number("<B" if op == ord("h") else "<I")
            if index not in memo:
                raise self.refuse(f"memo {index} is not set")
            stack.append(memo[index])
        elif op == 0x80:
            if not 2 <= (protocol := self.number("<B")) <= 5:
                raise self.refuse(f"protocol {protocol}")
        elif op == 0x95:
            self.take(8)  # a frame's length: a hint for readers of streams
        elif op == ord("c"):
            stack.append(self.resolve(f"{self.line()}.{self.line()}"))
        elif op == 0x93:
            name, module = self.pop(), self.pop()
            if not isinstance(name, str) or not isinstance(module, str):  # to print nested tuples can take for ever
                raise self.refuse("a global whose name is no text")
            if len(name) + len(module) > MAX_NAME:
                raise self.refuse(f"a global whose name has {len(name) + len(module)} characters")
            stack.append(self.resolve(f"{module}.{name}"))
        elif op == ord("R") or op == 0x81:
            args, function = self.pop(), self.pop()
            stack.append(self.call(function, args))
        elif op == 0x92:  # NEWOBJ_EX: keyword arguments only occur for classes that we do not look into
            self.pop()
            args, function = self.pop(), self.pop()
            stack.append(self.call(function, args))
        elif op == ord("b"):
            state = self.pop()
            target = stack[-1] if stack else self.pop()
            if isinstance(target, ByteFile):
                target.content = self.byte_content(state)
            elif not isinstance(target, (Opaque, dict, TensorRecord)):
                raise self.refuse("state for something that has none")
        elif op == ord("Q"):
            stack.append(self.persistent(self.pop()))
        elif op == ord("0"):
            self.pop()
        elif op == ord("1"):
            self.pop_mark()
        elif op == ord("2"):
            value = self.pop()
            stack.extend((value, value))
        else:
            raise self.refuse(f"opcode 0x{op:02x} is not one a checkpoint needs")

    def set_items(self, items: list[Any]) -> None:
        if not self.stack or not isinstance(self.stack[-1], (dict, Opaque)) or len(items) % 2:
            raise self.refuse("expected a dict")
        target = self.stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(target, Opaque):
                continue
            if not isinstance(key, (str, int)):  # hashing a nested tuple can take for ever
                raise self.refuse(f"a {type(key).__name__} as a dict key")
            if isinstance(key, int) and not -MAX_KEY <= key <= MAX_KEY:
                raise self.refuse("a huge number as a dict key")
            if key in target and target[key] is not value:
                raise self.refuse(f"the key {key!r} occurs twice")
            target[key] = value

    def resolve(self, name: str) -> Global:
        if name in _CALLS or _storage_dtype(name) is not None or name in OPAQUE_NAMES or name in _DTYPE_NAMES:
            return Global(name)
        if name.split(".")[0] in OPAQUE_MODULES or name == "torch.storage.UntypedStorage":
            return Global(name)
        raise self.refuse(f"it asks for {name!r}")

    def call(self, function: Any, args: Any) -> Any:
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise self.refuse("a call of something that is not a known function")
        if len(args) > MAX_ARGUMENTS:
            raise self.refuse(f"a call with {len(args)} arguments")
        handler = _CALLS.get(function.name)
        if handler is None:
            return Opaque()
        try:
            return handler(self, *args)
        except (TypeError, ValueError, AttributeError, IndexError):
            raise self.refuse(f"wrong arguments for {function.name}") from None

    def persistent(self, pid: Any) -> Storage:
        match pid:
            case ("storage", Global(name), str() as key, str(), int() as numel) | (
                "storage", Global(name), str() as key, str(), int() as numel, None,
            ) if numel >= 0 and (dtype := _storage_dtype(name)) is not None:  # fmt: skip
                return Storage(key, dtype or None, numel)
        raise self.refuse("a storage reference of an unknown form")

    @staticmethod
    def byte_content(state: Any) -> bytes:
        content = state[0] if isinstance(state, tuple) and state else b""
        return content if isinstance(content, bytes) else b""

    # -- the calls a checkpoint makes, as data ---------------------------------------------------------------

    def call_ordered_dict(self, *args: Any) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        self.stack.append(result)
        pairs = args[0] if args else []
        if not isinstance(pairs, (list, tuple)):
            raise TypeError
        self.pay(len(pairs))
        for pair in pairs:
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise TypeError
            self.set_items(list(pair))
        return self.stack.pop()

    def call_tensor(self, storage: Any, offset: int, shape: Any, stride: Any, *rest: Any) -> TensorRecord:
        dtype = storage.dtype
        if rest and isinstance(rest[-1], Global):  # _rebuild_tensor_v3: the dtype of an untyped storage
            dtype = _DTYPE_NAMES.get(rest[-1].name)
        if not isinstance(storage, Storage) or not dtype or len(shape) != len(stride):
            raise TypeError
        if not is_sound_shape(shape, *stride[: MAX_DIMENSIONS + 1], offset):
            raise ValueError
        return TensorRecord(storage, dtype, offset, tuple(shape), tuple(stride))

    def call_parameter(self, data: TensorRecord, *_: Any) -> TensorRecord:
        if not isinstance(data, TensorRecord):
            raise TypeError
        return data

    def call_from_type(self, function: Any, _kind: Any, args: Any, _state: Any = None) -> Any:
        if function == Global("torch._tensor._rebuild_from_type_v2"):
            raise TypeError
        return self.call(function, args)

    def call_encode(self, text: str, encoding: str = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise ValueError
        self.pay(len(text))  # encoding one remembered text a million times would fill the memory
        return text.encode("latin-1")

    def call_byte_file(self, content: bytes = b"") -> ByteFile:
        file = ByteFile()
        file.content = self.byte_content((content,))
        return file

    def call_bytes(self, *args: Any) -> bytes:
        return self.byte_content(args)

    def call_load_from_bytes(self, content: bytes) -> Storage:
        if not isinstance(content, bytes):
            raise TypeError
        if self.embedded:
            raise self.refuse("a storage in a storage")
        if id(content) not in self.storages:
            parts, _ = legacy_parts(content, self.where, embedded=True)
            if not isinstance(parts[3], Storage):
                raise ValueError
            self.storages[id(content)] = (content, replace(parts[3], embedded=content))
        return self.storages[id(content)][1]


def legacy_parts(data: bytes | memoryview, where: object, embedded: bool = False) -> tuple[list[Any], int]:
    """[magic, version, system, object, storage keys] of a legacy torch.save stream, and where the storages begin."""
    parts: list[Any] = []
    machine = Machine(data, where, embedded=embedded)
    for _ in range(5):
        parts.append(machine.run())
        if parts[0] != LEGACY_MAGIC:
            raise NexVarError("neither safetensors nor a torch.save file", where=where)
        machine = Machine(data, where, machine.position, embedded)
    return parts, machine.position


_CALLS: dict[str, Any] = {
    "collections.OrderedDict": Machine.call_ordered_dict,
    "torch._utils._rebuild_tensor": Machine.call_tensor,
    "torch._utils._rebuild_tensor_v2": Machine.call_tensor,
    "torch._utils._rebuild_tensor_v3": Machine.call_tensor,
    "torch._utils._rebuild_parameter": Machine.call_parameter,
    "torch._utils._rebuild_parameter_with_state": Machine.call_parameter,
    "torch._tensor._rebuild_from_type_v2": Machine.call_from_type,
    "torch.storage._load_from_bytes": Machine.call_load_from_bytes,
    "_codecs.encode": Machine.call_encode,
    "codecs.encode": Machine.call_encode,
    "_io.BytesIO": Machine.call_byte_file,
    "io.BytesIO": Machine.call_byte_file,
    "builtins.bytearray": Machine.call_bytes,
    "__builtin__.bytearray": Machine.call_bytes,
    "builtins.bytes": Machine.call_bytes,
    "__builtin__.bytes": Machine.call_bytes,
}
_DTYPE_NAMES = {
    "torch.float64": "Double",
    "torch.float32": "Float",
    "torch.float16": "Half",
    "torch.bfloat16": "BFloat16",
    "torch.int64": "Long",
    "torch.int32": "Int",
    "torch.int16": "Short",
    "torch.int8": "Char",
    "torch.uint8": "Byte",
    "torch.bool": "Bool",
    "torch.float8_e4m3fn": "Float8_e4m3fn",
    "torch.float8_e5m2": "Float8_e5m2",
}


def _storage_dtype(name: str) -> str | None:
    """ "Float" for torch.FloatStorage, "" for an untyped storage, None for anything else."""
    if name in ("torch.storage.UntypedStorage", "torch.UntypedStorage"):
        return ""
    kind = name.removeprefix("torch.").removesuffix("Storage")
    return kind if name == f"torch.{kind}Storage" and kind in _DTYPE_NAMES.values() else None
