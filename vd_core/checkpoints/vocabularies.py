"""Where the vocabularies of the text encoders are found and how they lie in our files. Nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor

from ..config import TextVAEConfig
from ..tokenizers import Vocabularies

PREFIX = "vocab."


@dataclass(frozen=True)
class Source:
    """Where one public vocabulary file may lie: under these names in a folder, or in the local Hugging Face cache."""

    names: tuple[str, ...]
    repositories: tuple[str, ...]
    file: str


SOURCES = {
    "bert": Source(
        ("bert-base-cased-vocab.txt", "bert-base-cased/vocab.txt", "vocab.txt"),
        ("google-bert/bert-base-cased", "bert-base-cased"),
        "vocab.txt",
    ),
    # No bare vocab.json and merges.txt: beside a CLIP these are CLIP's.
    "gpt2_vocab": Source(("gpt2-vocab.json", "gpt2/vocab.json"), ("openai-community/gpt2", "gpt2"), "vocab.json"),
    "gpt2_merges": Source(("gpt2-merges.txt", "gpt2/merges.txt"), ("openai-community/gpt2", "gpt2"), "merges.txt"),
}


def to_tensors(vocabularies: Vocabularies) -> dict[str, Tensor]:
    """The vocabularies as byte tensors, as our files hold them."""
    contents = {name: text.encode() if isinstance(text, str) else text for name, text in asdict(vocabularies).items() if text is not None}
    return {PREFIX + name: torch.frombuffer(bytearray(content), dtype=torch.uint8) for name, content in contents.items()}


def from_tensors(weights: Mapping[str, Tensor]) -> Vocabularies | None:
    """The vocabularies in one of our files, if it has them."""
    if any(PREFIX + name not in weights for name in SOURCES):
        return None
    texts = {name: weights[PREFIX + name].numpy().tobytes().decode() for name in SOURCES}
    merges = weights[f"{PREFIX}clip_merges"].numpy().tobytes() if f"{PREFIX}clip_merges" in weights else None
    return Vocabularies(**texts, clip_merges=merges)


def find_vocabularies(folders: Iterable[str | Path], config: TextVAEConfig) -> Vocabularies | None:
    """The vocabularies of Optimus in one of the folders, else in the local Hugging Face cache; None unless all are found.

    A vocabulary of another size than the model's is not taken.
    """
    found = {}
    for name, source in SOURCES.items():
        places = [Path(folder) / file for folder in folders for file in source.names]
        cached = [try_to_load_from_cache(repository, source.file) for repository in source.repositories]
        places += [Path(path) for path in cached if isinstance(path, str)]
        texts = (path.read_text(encoding="utf-8") for path in places if path.is_file())
        found[name] = next((text for text in texts if fits(name, text, config)), None)
    return None if None in found.values() else Vocabularies(**found)


def fits(name: str, text: str, config: TextVAEConfig) -> bool:
    """Whether a vocabulary has the size that the model was made for; GPT-2 has three special tokens more than its file."""
    if name == "bert":
        return len(text.splitlines()) == config.encoder.vocab_size
    if name == "gpt2_vocab":
        return len(json.loads(text)) + 3 == config.decoder.vocab_size
    return True


def missing_vocabularies(folders: Iterable[str | Path]) -> str:
    """What to say when they are not found."""
    return (
        "The text autoencoder needs its public vocabularies: bert-base-cased-vocab.txt (vocab.txt of "
        "huggingface.co/google-bert/bert-base-cased), gpt2-vocab.json and gpt2-merges.txt (vocab.json and merges.txt of "
        f"huggingface.co/openai-community/gpt2). Put them into {' or '.join(dict.fromkeys(map(str, folders)))}."
    )
