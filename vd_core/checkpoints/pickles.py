"""The one policy for pickles: tensors with plain numbers, and the texts, numbers and containers around them.

A file of `torch.save` is a small program for a stack machine. It is followed here with descriptions in place
of objects, so that nothing is imported, called, allocated or hashed, and everything that it claims is
compared with what the file has. Only then does torch's own unpickler of tensors (`weights_only=True`) read
it.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

import torch

from ..foreign import printable

# Bytes of a pickle; tensors' numbers lie outside of it, so that 30,000 of them take that much.
LONGEST = 8 << 20
MOST = 500_000  # opcodes of a pickle; a tensor takes about 35 of them

STORAGES = {  # bytes of one number
    "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1,
    "Bool": 1, "ComplexDouble": 16, "ComplexFloat": 8,
}  # fmt: skip
# called around tensors
PLAIN = {"collections.OrderedDict", "collections.Counter", "torch.Size", "torch.device"}
REBUILDS = {
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
}
IGNORED = {"PROTO", "STOP"}
ATOMS = {  # opcodes whose value is their argument
    "BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1",
}  # fmt: skip
UNREADABLE = "its pickle cannot be read"
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class Forbidden(ValueError):
    """What a pickle holds that no file of weights may hold, as part of a sentence."""


class Damaged(ValueError):
    """Why a pickle cannot be read, or claims more than its file can hold, as part of a sentence."""


class Name(NamedTuple):
    """Something of a module, by its whole name."""

    name: str


class Storage(NamedTuple):
    """A block of numbers: the bytes that it claims, and those of one number (None: see the tensor's type)."""

    size: int
    itemsize: int | None


# what stands for lists and dictionaries, for tensors, and for the rest
CONTAINER, TENSOR, OTHER = (object(), object(), object())


@dataclass
class Machine:
    """The state of a pickle's program.

    Its stack, the stacks below the open marks, its memo, and the bytes of each storage.
    """

    stack: list = field(default_factory=list)
    below: list[list] = field(default_factory=list)
    memo: dict[int, object] = field(default_factory=dict)
    storages: dict[str, int] = field(default_factory=dict)
    legacy: bool = False

    def run(self, stream: io.BytesIO) -> None:
        """Follow one pickle to its end. Raises Forbidden, Damaged, IndexError or KeyError."""
        for name, argument in read_operations(stream):
            if name in ATOMS:
                self.stack.append(argument)
            elif name in CONSTANTS:
                self.stack.append(CONSTANTS[name])
            elif name in ("BINPUT", "LONG_BINPUT"):
                self.memo[argument] = self.stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                self.stack.append(self.memo[argument])
            elif name == "MARK":
                self.below.append(self.stack)
                self.stack = []
            elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"):
                self.stack.append(CONTAINER)
            elif name == "GLOBAL":
                self.stack.append(check_name(argument.replace(" ", ".", 1)))
            elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
                values = self.take_since_mark() if name == "TUPLE" else self.take(int(name[-1]))
                self.stack.append(tuple(values))
            elif name == "BINPERSID":
                self.stack.append(self.storage(*self.take(1)))
            elif name == "REDUCE":
                self.stack.append(call(*self.take(2)))
            elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"):
                self.fill(name)
            elif name not in IGNORED:
                raise Damaged(UNREADABLE)

    def take(self, count: int) -> list:
        """Take the top `count` values off the stack."""
        if len(self.stack) < count:
            raise Damaged(UNREADABLE)
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def take_since_mark(self) -> list:
        """Take everything above the last mark."""
        taken, self.stack = self.stack, self.below.pop()
        return taken

    def fill(self, name: str) -> None:
        """Put values into the container below them.

        Keys must be texts or numbers: nested tuples that share their members can take forever to hash.
        """
        values = self.take_since_mark() if name.endswith("S") else self.take(2 if name == "SETITEM" else 1)
        if self.stack[-1] is not CONTAINER:
            raise Damaged(UNREADABLE)
        if name.startswith("SETITEM") and not all(isinstance(key, str | int | float) for key in values[::2]):
            raise Forbidden("a dictionary whose keys are neither texts nor numbers")

    def storage(self, description: object) -> Storage:
        """Read which block of numbers a tensor refers to: ("storage", type, key, device, numbers[, None])."""
        if (
            not isinstance(description, tuple)
            or len(description) not in (5, 6)
            or description[0] != "storage"
        ):
            raise Damaged(UNREADABLE)
        _, kind, key, _, count = description[:5]
        if not (isinstance(kind, Name) and isinstance(key, str) and is_size(count)) or description[
            5:
        ] not in ((), (None,)):
            raise Damaged(UNREADABLE)
        word = kind.name.removeprefix("torch.").removesuffix("Storage")
        if word == "storage.Untyped" and self.legacy:
            raise Forbidden(
                "numbers of 8 bits or without sign in the format from before torch 1.6, which torch cannot "
                "read back"
            )
        if word not in STORAGES and word != "storage.Untyped":
            raise Forbidden(f"numbers of a kind that no weights have ({printable(kind.name)})")
        itemsize = STORAGES.get(word)
        size = count * (itemsize or 1)
        if self.storages.setdefault(key, size) != size:
            raise Damaged("it gives one block of numbers two sizes")
        return Storage(size, itemsize)


def read_operations(stream: io.BytesIO) -> Iterator[tuple[str, Any]]:
    """Yield the opcodes of one pickle, as names with arguments."""
    read = pickletools.genops(stream)
    for _ in range(MOST):
        try:
            opcode, argument, _ = next(read)
        except ValueError as error:
            raise Damaged(UNREADABLE) from error
        except StopIteration:
            return
        yield opcode.name, argument
    raise Damaged(f"its pickle has more than {MOST} steps")


def check_name(name: str) -> Name:
    """Return a name that a file of weights may use.

    These are what rebuilds plain tensors, their types, and the few containers around them.
    """
    module, _, last = name.rpartition(".")
    is_type = module == "torch" and isinstance(getattr(torch, last, None), torch.dtype)
    is_storage = module in ("torch", "torch.storage", "torch.cuda") and last.endswith("Storage")
    if name in PLAIN | REBUILDS or is_type or is_storage:
        return Name(name)
    if module in ("torch._utils", "torch._tensor") and last.startswith("_rebuild"):
        raise Forbidden(
            f"tensors of a kind that no weights have ({printable(last.removeprefix('_rebuild_'))})"
        )
    raise Forbidden(f"code ({printable(name)}), not only tensors")


def call(called: object, arguments: object) -> object:
    """Return what a call returns: a container, or a tensor whose size its storage can hold."""
    if not isinstance(called, Name) or not isinstance(arguments, tuple):
        raise Damaged(UNREADABLE)
    if called.name in ("collections.OrderedDict", "collections.Counter") and not arguments:
        return CONTAINER
    if called.name == "torch.Size" and len(arguments) == 1 and is_shape(arguments[0]):
        return arguments[0]
    if called.name == "torch.device" and all(isinstance(argument, str | int) for argument in arguments):
        return OTHER
    if called.name == "torch._utils._rebuild_parameter" and len(arguments) == 3 and arguments[0] is TENSOR:
        return TENSOR
    if called.name in REBUILDS and len(arguments) >= 6:
        itemsize = None
        if called.name.endswith("v3"):
            kind = arguments[6] if len(arguments) > 6 else None
            if not isinstance(kind, Name) or not isinstance(
                getattr(torch, kind.name.removeprefix("torch."), None), torch.dtype
            ):
                raise Damaged(UNREADABLE)
            itemsize = getattr(torch, kind.name.removeprefix("torch.")).itemsize
        storage, offset, shape, strides = arguments[:4]
        check_tensor(storage, offset, shape, strides, itemsize)
        return TENSOR
    raise Damaged(UNREADABLE)


def check_tensor(
    storage: object, offset: object, shape: object, strides: object, itemsize: int | None
) -> None:
    """Raise Damaged for a tensor with more numbers than its storage.

    A stride of 0 would make terabytes of one number.
    """
    if not (isinstance(storage, Storage) and is_size(offset) and is_shape(shape) and is_shape(strides)):
        raise Damaged(UNREADABLE)
    itemsize = storage.itemsize or itemsize
    if itemsize is None or len(shape) != len(strides):
        raise Damaged(UNREADABLE)
    held, count = storage.size // itemsize, math.prod(shape)
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if count and (count > held or last >= held):
        raise Damaged(f"it claims a tensor of {count} numbers where {held} are stored")


def is_size(value: object) -> TypeGuard[int]:
    """Tell whether a value is a whole number from 0 on."""
    return type(value) is int and value >= 0


def is_shape(value: object) -> TypeGuard[tuple[int, ...]]:
    """Tell whether a value is a tuple of a few whole numbers from 0 on."""
    return isinstance(value, tuple) and len(value) <= 64 and all(map(is_size, value))


def check_pickles(data: bytes, count: int, room: int, cut: bool = False) -> dict[str, int]:
    """Follow the first `count` pickles in `data`; return the bytes that each storage claims, by its key.

    room: bytes that the whole file has. cut: `data` is only the start of it.

    Raises Forbidden, or Damaged for everything else that `torch.save` does not write.
    """
    stream = io.BytesIO(data)
    storages: dict[str, int] = {}
    for _ in range(count):
        machine = Machine(storages=storages, legacy=count > 1)
        try:
            machine.run(stream)
        except (Damaged, IndexError, KeyError) as error:  # an empty stack, or memo
            if cut and stream.tell() >= len(data):
                raise Damaged(f"its pickle takes more than {LONGEST >> 20} MB") from None
            raise error if isinstance(error, Damaged) else Damaged(UNREADABLE) from None
    if (claimed := sum(storages.values())) > room:
        raise Damaged(f"it claims {claimed} bytes of numbers and has {room}")
    return storages
