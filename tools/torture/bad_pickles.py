"""Pickles that try to run code, by every opcode that can call something, and pickles that are merely
malicious."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path


def write_text(value: str) -> bytes:
    """Write BINUNICODE."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def write_global(module: str, name: str) -> bytes:
    """Write GLOBAL."""
    return f"c{module}\n{name}\n".encode()


def write_stack_global(module: str, name: str) -> bytes:
    """Write STACK_GLOBAL."""
    return write_text(module) + write_text(name) + b"\x93"


# What an attacker would call with the path of the canary, as (module, name, arguments).
def list_calls(canary: Path) -> dict[str, tuple[str, str, str]]:
    touch, write = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    return {
        "os.system": ("os", "system", touch),
        "posix.system": ("posix", "system", touch),
        "subprocess.getoutput": ("subprocess", "getoutput", touch),
        "builtins.exec": ("builtins", "exec", write),
        "builtins.eval": ("builtins", "eval", write),
        "__builtin__.eval": ("__builtin__", "eval", write),
        "runpy.run_path": ("runpy", "run_path", str(canary)),
        "torch.load": ("torch", "load", str(canary)),
        "torch.hub.load": ("torch.hub", "load", str(canary)),
        "torch.storage._load_from_bytes": ("torch.storage", "_load_from_bytes", touch),
        "torch.jit.load": ("torch.jit", "load", str(canary)),
        "pathlib.Path.touch": ("pathlib", "Path", str(canary)),
        "webbrowser.open": ("webbrowser", "open", str(canary)),
        "pickle.loads": ("pickle", "loads", touch),
        "importlib.import_module": ("importlib", "import_module", "antigravity"),
        "pty.spawn": ("pty", "spawn", "/bin/true"),
        "numpy.testing": ("numpy.testing._private.utils", "runstring", write),
        "timeit.timeit": ("timeit", "timeit", write),
        "functools.partial": ("functools", "partial", touch),
        "operator.attrgetter": ("operator", "attrgetter", "system"),
    }


GETATTR = write_global("builtins", "getattr") + write_global("builtins", "__import__")
ORDERED = write_global("collections", "OrderedDict") + b")R}"
TENSOR = write_text("a") + write_global("torch._utils", "_rebuild_tensor_v2")
GIGABYTES_25 = b"\x8a\x05" + (25 << 30).to_bytes(5, "little")  # 100 GB as numbers of four bytes

ROUTES = {
    "GLOBAL REDUCE": (2, lambda m, n, a: write_global(m, n) + write_text(a) + b"\x85R"),
    "STACK_GLOBAL REDUCE": (4, lambda m, n, a: write_stack_global(m, n) + write_text(a) + b"\x85R"),
    "STACK_GLOBAL in protocol 2": (2, lambda m, n, a: write_stack_global(m, n) + write_text(a) + b"\x85R"),
    "INST": (0, lambda m, n, a: b"(" + write_text(a) + f"i{m}\n{n}\n".encode()),
    "OBJ": (1, lambda m, n, a: b"(" + write_global(m, n) + write_text(a) + b"o"),
    "NEWOBJ": (2, lambda m, n, a: write_global(m, n) + write_text(a) + b"\x85\x81"),
    "NEWOBJ_EX": (4, lambda m, n, a: write_stack_global(m, n) + write_text(a) + b"\x85}\x92"),
    "BUILD": (
        2,
        lambda m, n, a: (
            ORDERED + write_text("__setstate__") + write_global(m, n) + b"sb" + write_text(a) + b"b"
        ),
    ),
    "BUILD on a function": (
        2,
        lambda m, n, a: write_global(m, n) + b"}" + write_text("x") + write_text(a) + b"sb",
    ),
    "EXT1": (2, lambda m, n, a: b"\x82\x01" + write_text(a) + b"\x85R"),
    "PERSID": (0, lambda m, n, a: b"P" + a.replace("\n", "").encode() + b"\n"),
    "BINPERSID": (2, lambda m, n, a: write_text("storage") + write_global(m, n) + write_text(a) + b"\x87Q"),
    "getattr": (
        2,
        lambda m, n, a: (
            GETATTR + write_text(m) + b"\x85R" + write_text(n) + b"\x86R" + write_text(a) + b"\x85R"
        ),
    ),
    "dotted GLOBAL": (
        2,
        lambda m, n, a: write_global("torch", f"serialization.os.{n}") + write_text(a) + b"\x85R",
    ),
    "behind 200 tensors": (
        2,
        lambda m, n, a: (
            b"0".join([write_text("x")] * 200) + b"0" + write_global(m, n) + write_text(a) + b"\x85R"
        ),
    ),
}


def write_program(protocol: int, body: bytes) -> bytes:
    """Write a whole pickle of a dictionary whose one value is what the body makes."""
    start = bytes([0x80, protocol]) if protocol >= 2 else b""
    return start + b"}" + write_text("diffuser.time_embed.0.weight") + body + b"s."


def write_nested_lists() -> bytes:
    """Write forty lists, each to be put twice into the one before it, but only when all are there; the first
    is called."""
    made = b"".join(b"]q" + bytes([number]) for number in range(41))
    filled = b"".join(b"h%ch%cah%ca" % (number, number + 1, number + 1) for number in range(40))
    return b"\x80\x02(" + made + filled + b"h\x00NR."


ODD = {
    "deep nesting": lambda: b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
    "deep lists": lambda: b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "a string of 4 GB": lambda: b"\x80\x02X\xff\xff\xff\xff.",
    "a long of 2 GB": lambda: b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "memo index 2^32": lambda: b"\x80\x02}r\xff\xff\xff\xff.",
    "memo that is not there": lambda: b"\x80\x02h\x07.",
    "nested pairs as a key": lambda: (
        b"\x80\x02}" + write_text("a") + b"q\x00" + b"h\x00\x86q\x00" * 60 + b"K\x01s."
    ),
    "nested wide tuples as a key": lambda: (
        b"\x80\x02}K\x01q\x00" + (b"(" + b"h\x00" * 900 + b"tq\x00") * 4 + b"K\x01s."
    ),
    "nested pairs called": lambda: (
        b"\x80\x02}" + write_text("a") + b"q\x00" + b"h\x00\x86q\x00" * 60 + b"NR."
    ),
    "nested lists called": write_nested_lists,
    "a million lists": lambda: b"\x80\x02" + b"]" * 2_000_000 + b".",
    "no stop": lambda: b"\x80\x02}",
    "only stop": lambda: b"\x80\x02.",
    "pop of an empty stack": lambda: b"\x80\x020.",
    "a list in itself": lambda: b"\x80\x02]q\x00h\x00a.",
    "a dictionary in itself": lambda: b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.",
    "unhashable key": lambda: b"\x80\x02}]K\x01s.",
    "a tensor without a storage": lambda: b"\x80\x02}" + TENSOR + b")Rs.",
    "a tensor of a string": lambda: b"\x80\x02}" + TENSOR + b"(" + write_text("x") + b"K\x00))\x89}tRs.",
    "a storage of 100 GB": lambda: (
        b"\x80\x02}"
        + TENSOR
        + b"(("
        + write_text("storage")
        + write_global("torch", "FloatStorage")
        + write_text("0")
        + write_text("cpu")
        + GIGABYTES_25
        + b"tQK\x00K\x01\x85K\x01\x85\x89}tRs."
    ),
    "a parameter of nothing": lambda: (
        b"\x80\x02}" + write_text("a") + write_global("torch._utils", "_rebuild_parameter") + b"NNN\x87Rs."
    ),
    "zeros of 100 GB": lambda: (
        b"\x80\x02}" + write_text("a") + write_global("torch", "zeros") + GIGABYTES_25 + b"\x85Rs."
    ),
    "bytearray of 25 GB": lambda: (
        b"\x80\x02}" + write_text("a") + write_global("builtins", "bytearray") + GIGABYTES_25 + b"\x85Rs."
    ),
}


def pack_zip(data: bytes, more: dict[str, bytes] | None = None) -> bytes:
    """Pack a pickle as torch.save packs it today."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        entries = {
            "data.pkl": data,
            "byteorder": b"little",
            "data/0": bytes(64),
            "version": b"3\n",
            **(more or {}),
        }
        for name, content in entries.items():
            archive.writestr(f"archive/{name}", content)
    return out.getvalue()


def pack_legacy(data: bytes) -> bytes:
    """Pack a pickle as torch.save wrote it before 1.6: magic number, protocol version, system, content, keys
    of the storages."""
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    system = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    return head + pickle.dumps(system, 2) + data + pickle.dumps([], 2)


FORMS = {"plain": lambda data: data, "zip": pack_zip, "legacy": pack_legacy}


def make_attacks(canary: Path) -> Iterator[tuple[str, bytes]]:
    """Make (name, content of the file) of every call by every route; the form of the file goes round."""
    number = 0
    for called, (module, name, argument) in list_calls(canary).items():
        for route, (protocol, body) in ROUTES.items():
            form = list(FORMS)[number % len(FORMS)]
            yield (
                f"{called} by {route}, {form}",
                FORMS[form](write_program(protocol, body(module, name, argument))),
            )
            number += 1
    for name, make in ODD.items():
        for form, pack in FORMS.items():
            yield f"{name}, {form}", pack(make())
