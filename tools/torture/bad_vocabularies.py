"""Good model files with bad vocabularies: refused, or as good as before for every text."""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load as tensors_of
from safetensors.torch import save, save_file
from torch import Tensor

from vd_core.checkpoints.load import load
from vd_core.checkpoints.parts import build, collect_state
from vd_core.checkpoints.vocabularies import PREFIX, to_tensors
from vd_core.checkpoints.write import make_metadata
from vd_core.config import VDConfig
from vd_core.tokenizers import ClipTokenizer, Gpt2Tokenizer
from vd_core.training.vocabularies import learn_vocabularies

from .forked import Table, run_forked
from .good_files import Case, Good, State, try_case

CAPTIONS = ("red apple, noto style", "a cat's hat, flat style", "two dogs don't run, 3d style")
SAID = ("", "red apple, 3d style", "Zebra’s 漢字 & 42 ünïcodes\tor 🍎?")
FLIPS = 12
VOCABULARIES: dict[
    str, dict[str, Callable[[bytes], bytes]]
] = {  # what is made of the good content, by vocabulary
    "bert": {
        "without [CLS]": lambda text: text.replace(b"[CLS]", b"[XYZ]"),
        "a piece twice": lambda text: text.replace(b"\napple\n", b"\nred\n"),
        "a piece more": lambda text: text + b"\nmore",
    },
    "gpt2_vocab": {
        "a list": lambda text: json.dumps(list(json.loads(text))).encode(),
        "a number": lambda text: b"7",
        "brackets": lambda text: b"[" * 100_000,
        "negative": lambda text: renumber(text, lambda number: -number),
        "from 1 on": lambda text: renumber(text, lambda number: number + 1),
        "twice": lambda text: renumber(text, lambda number: max(number, 1)),
        "words": lambda text: renumber(text, str),
        "fractions": lambda text: renumber(text, float),
        "endless": lambda text: renumber(text, lambda number: 10**400 + number),
        "half a character": lambda text: json.dumps(
            {"\ud800" if number == 0 else token: number for token, number in json.loads(text).items()}
        ).encode(),
        "a token more": lambda text: json.dumps(json.loads(text) | {"another": 10**4}).encode(),
    },
    "gpt2_merges": {
        "of other tokens": lambda text: text + b"\n\xe6\xbc\xa2 \xe5\xad\x97",
        "of three": lambda text: text + b"\na b c",
        "of one": lambda text: text + b"\na",
        "of what has no number": lambda text: re.sub(rb"\n(\S+) (\S)", rb"\n\2 \1", text, count=1),
    },
    "clip_merges": {
        "no gzip": lambda content: gzip.decompress(content),
        "cut": lambda content: content[: len(content) // 2],
        "bomb": lambda content: gzip.compress(bytes(1 << 29), 1),
        "bomb of pairs": lambda content: gzip.compress(b"#version\n" + b"a b\n" * (100 << 20), 1),
        "of three": lambda content: gzip.compress(gzip.decompress(content) + b"\na b c"),
        "one more": lambda content: gzip.compress(gzip.decompress(content) + b"\nq qqq"),
        "no text": lambda content: gzip.compress(b"\xff\xfe" * 100),
    },
}
ANY: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "half": lambda content: content[: len(content) // 2],
    "no UTF-8": lambda content: b"\xff" + content[1:],
    "backwards": lambda content: content[::-1],
}


def renumber(text: bytes, number: Callable[[int], object]) -> bytes:
    """A vocab.json with other numbers."""
    return json.dumps({token: number(old) for token, old in json.loads(text).items()}).encode()


def load_texts(path: Path) -> State:
    """Load the vocabularies of a model, after texts went through them: every token must be one of the
    model's."""
    model = load(path, parts=["clip_text", "text_vae"])
    optimus, config = model.text_vae, model.config
    model.clip.encode_text(SAID)
    if int(optimus.pieces(SAID).max()) >= config.text_vae.encoder.vocab_size:
        raise AssertionError("a token beyond the vocabulary")
    for text in SAID:
        if max(ids := optimus.words.encode(text)) >= config.text_vae.decoder.vocab_size:
            raise AssertionError("a token beyond the vocabulary")
        optimus.join_ids(ids)
    optimus.encode(SAID)
    return {}


def make_good_texts() -> Good:
    """Make the texts' parts of a small model, with their vocabularies."""
    torch.manual_seed(0)
    vocabularies, tiny = learn_vocabularies(CAPTIONS), VDConfig.tiny()
    sizes = {
        "encoder": len(vocabularies.bert.splitlines()),
        "decoder": Gpt2Tokenizer(vocabularies.gpt2_vocab, vocabularies.gpt2_merges).eos + 1,
    }
    text_vae = replace(
        tiny.text_vae,
        **{name: replace(getattr(tiny.text_vae, name), vocab_size=size) for name, size in sizes.items()},
    )
    tower = replace(tiny.clip.text, vocab_size=ClipTokenizer(vocabularies.clip_merges).bpe.vocab_size)
    config = replace(tiny, clip=replace(tiny.clip, text=tower), text_vae=text_vae)
    state = {
        key: torch.randn(tensor.shape)
        for key, tensor in collect_state(build(config, ["clip_text", "text_vae"], vocabularies)).items()
    }
    state |= to_tensors(vocabularies)
    return Good(
        "texts", load_texts, {}, make_metadata(config), {"safetensors": save(state, make_metadata(config))}
    )


def spoil(good: Good, state: State, rng: random.Random) -> Iterator[Case]:
    """Every vocabulary spoilt in every way, one at a time."""
    for name, ways in VOCABULARIES.items():
        key = PREFIX + name
        content = state[key].numpy().tobytes()
        if name != "clip_merges":  # without them a CLIP may still read tokens
            yield make_case(
                good, f"{name} missing", {other: tensor for other, tensor in state.items() if other != key}
            )
        for dtype in (torch.float32, torch.int64, torch.bool):
            yield make_case(good, f"{name} as {dtype}", state | {key: state[key].to(dtype)})
        for way, change in {**ways, **ANY}.items():
            yield make_case(
                good,
                f"{name} {way}",
                state | {key: make_byte_tensor(change(content))},
                way in ("no UTF-8", "backwards") or (name, way) == ("bert", "half"),
            )
        for number in range(FLIPS):
            changed = bytearray(content)
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            yield make_case(good, f"{name} bit #{number}", state | {key: make_byte_tensor(changed)}, True)


def make_byte_tensor(content: bytes) -> Tensor:
    """Make bytes as a tensor, none as well."""
    return (
        torch.frombuffer(bytearray(content), dtype=torch.uint8)
        if content
        else torch.zeros(0, dtype=torch.uint8)
    )


def make_case(good: Good, name: str, state: State, may_load: bool = False) -> Case:
    """Make a file of these tensors. A vocabulary with another letter in it is a good one."""
    return Case("bad vocabularies", name, good, lambda path: save_file(state, path, good.header), may_load)


def torture(folder: Path, seed: int, share: float, table: Table) -> None:
    """All cases, or about a share of them."""
    rng, good = random.Random(seed), make_good_texts()
    for number, bad in enumerate(spoil(good, tensors_of(good.formats["safetensors"]), rng)):
        if number and rng.random() >= share:
            continue
        place = folder / str(number)
        place.mkdir()
        bad.make(place / "file.safetensors")
        table.add(
            bad.kind,
            bad.name,
            run_forked(partial(try_case, bad, place / "file.safetensors", folder / "canary")),
        )
        shutil.rmtree(place)
