"""Refuses pickles that would keep torch's unpickler of tensors busy without end. It reads their opcodes; nothing is run or built.

A value may be used any number of times in a pickle, so that forty nested pairs of one another stand for 2^40 values: torch hashes them
where they are a key, and prints them where they are in its way.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Iterator

LONGEST = 8 << 20  # bytes of a pickle; tensors' numbers lie outside of it, so that 30,000 of them take that much
MOST = 1_000_000  # opcodes of a pickle
LARGEST = 1000  # values in a tuple, all that it contains counted; those of `torch.save` have a dozen
GROWTH = 10  # how many times more values a pickle may stand for than it has opcodes, beyond a few

NESTED = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "REDUCE", "NEWOBJ", "BINPERSID"}  # their result holds what they take
FILLED = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "BUILD"}  # put what they take into what lies below it
READ = {  # by torch's unpickler, beside those above; at any other it stops
    "GLOBAL", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET", "BININT", "BININT1",
    "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "PROTO", "STOP",
}  # fmt: skip


class Value:
    """A value of a pickle: what it holds, and how many values a tuple holds in all."""

    __slots__ = ("parts", "weight")

    def __init__(self, parts: list[Value], weight: int = 1):
        self.parts, self.weight = parts, weight


class Endless(ValueError):
    """Why a pickle is refused, as part of a sentence."""


class Unreadable(Exception):
    """Where torch's unpickler stops too."""


def check_pickles(data: bytes, count: int, cut: bool = False) -> None:
    """Raise Endless if one of the first `count` pickles in `data` stands for too much.

    cut: `data` is only the start of a file. What is no pickle is left to torch, which stops there.
    """
    stream = io.BytesIO(data)
    for _ in range(count):
        try:
            check_pickle(stream)
        except (Unreadable, IndexError, KeyError):
            if cut and stream.tell() >= len(data):
                raise Endless(f"its pickle takes more than {LONGEST >> 20} MB") from None
            return


def operations(stream: io.BytesIO) -> Iterator[tuple[str, object]]:
    """The opcodes of one pickle, as names with arguments."""
    read = pickletools.genops(stream)
    for _ in range(MOST):
        try:
            opcode, argument, _ = next(read)
        except ValueError as error:
            raise Unreadable from error
        except StopIteration:
            return
        if opcode.name not in NESTED | FILLED | READ:
            raise Unreadable(opcode.name)
        yield opcode.name, argument
    raise Endless(f"its pickle has more than {MOST} steps")


def check_pickle(stream: io.BytesIO) -> None:
    """One pickle, which is read to its end. Raises Endless, Unreadable, IndexError or KeyError."""
    atom, made, count = Value([]), [], 0
    stack, below, memo = [], [], {}
    try:
        for name, argument in operations(stream):
            count += 1
            if name == "MARK":
                below.append(stack)
                stack = []
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name in NESTED:
                taken, stack = taken_by(name, stack, below)
                made.append(Value(taken, 1 + sum(value.weight for value in taken)))
                if made[-1].weight > LARGEST:
                    raise Endless(f"its pickle nests more than {LARGEST} values in one")
                stack.append(made[-1])
            elif name in FILLED:
                taken, stack = taken_by(name, stack, below)
                if stack[-1] is atom:
                    raise Unreadable(name)
                stack[-1].parts += taken
            elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"):
                made.append(Value([]))
                stack.append(made[-1])
            elif name not in ("PROTO", "STOP"):
                stack.append(atom)
    finally:
        if size(made) > GROWTH * (count + LARGEST):
            raise Endless("its pickle repeats itself within itself")


def taken_by(name: str, stack: list[Value], below: list[list[Value]]) -> tuple[list[Value], list[Value]]:
    """What an opcode takes off the stack, and the stack that is left."""
    if name in ("TUPLE", "APPENDS", "SETITEMS"):
        return stack, below.pop()
    count = {"TUPLE2": 2, "REDUCE": 2, "NEWOBJ": 2, "SETITEM": 2, "TUPLE3": 3}.get(name, 1)
    if len(stack) < count:
        raise Unreadable(name)
    taken = stack[-count:]
    del stack[-count:]
    return taken, stack


def size(values: list[Value]) -> float:
    """How many values the largest of these stands for; infinitely many where one contains itself."""
    sizes: dict[Value, float] = {}
    for root in values:
        walk = [(root, False)]
        while walk:
            value, known = walk.pop()
            if known:
                sizes[value] = 1 + sum(sizes[part] for part in value.parts)
            elif value not in sizes:
                sizes[value] = float("inf")  # until it is known: whoever asks before contains itself
                walk.append((value, True))
                walk += [(part, False) for part in value.parts if part not in sizes]
    return max(sizes.values(), default=0)
