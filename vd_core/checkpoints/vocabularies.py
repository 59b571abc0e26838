"""Where the vocabularies of the text encoders are found and how they lie in our files.

Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor

from ..config import TextVAEConfig
from ..tokenizers import Vocabularies, read_numbered_tokens

PREFIX = "vocab."
LARGEST = 16 << 20  # bytes of a vocabulary file; the public ones take 1 MB


@dataclass(frozen=True)
class Source:
    """Where one public vocabulary file may be: by name in a folder, or in the local Hugging Face cache."""

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
    "gpt2_vocab": Source(
        ("gpt2-vocab.json", "gpt2/vocab.json"), ("openai-community/gpt2", "gpt2"), "vocab.json"
    ),
    "gpt2_merges": Source(
        ("gpt2-merges.txt", "gpt2/merges.txt"), ("openai-community/gpt2", "gpt2"), "merges.txt"
    ),
}


def to_tensors(vocabularies: Vocabularies) -> dict[str, Tensor]:
    """Return the vocabularies as byte tensors, as our files hold them."""
    contents = {
        name: text.encode() if isinstance(text, str) else text
        for name, text in asdict(vocabularies).items()
        if text is not None
    }
    return {
        PREFIX + name: torch.frombuffer(bytearray(content), dtype=torch.uint8)
        for name, content in contents.items()
    }


def from_tensors(weights: Mapping[str, Tensor]) -> Vocabularies | None:
    """Return the vocabularies in one of our files, if it has them.

    Raises ValueError for some without the others, and for what are no texts.
    """
    missing = [PREFIX + name for name in SOURCES if PREFIX + name not in weights]
    if len(missing) == len(SOURCES):
        return None
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    found = {name: weights[PREFIX + name] for name in (*SOURCES, "clip_merges") if PREFIX + name in weights}
    if mistyped := [name for name, tensor in found.items() if tensor.dtype != torch.uint8]:
        raise ValueError(f"{PREFIX}{mistyped[0]} holds {found[mistyped[0]].dtype} in place of bytes")
    contents = {name: tensor.numpy().tobytes() for name, tensor in found.items()}
    try:
        texts = {name: contents[name].decode() for name in SOURCES}
    except UnicodeDecodeError as error:
        raise ValueError("they are no text in UTF-8") from error
    return Vocabularies(**texts, clip_merges=contents.get("clip_merges"))


def find_vocabularies(folders: Iterable[str | Path], config: TextVAEConfig) -> Vocabularies | None:
    """Find the vocabularies of Optimus in one of the folders, else in the local Hugging Face cache; None
    unless all are found.

    A vocabulary of another size than the model's is not taken.
    """
    found: dict[str, str] = {}
    for name, source in SOURCES.items():
        places = [Path(folder) / file for folder in folders for file in source.names]
        cached = [try_to_load_from_cache(repository, source.file) for repository in source.repositories]
        places += [Path(path) for path in cached if isinstance(path, str)]
        small = (path for path in places if path.is_file() and path.stat().st_size <= LARGEST)
        contents = (path.read_bytes() for path in small)
        fitting = next((content.decode() for content in contents if fits(name, content, config)), None)
        if fitting is None:
            return None
        found[name] = fitting
    return Vocabularies(found["bert"], found["gpt2_vocab"], found["gpt2_merges"])


def fits(name: str, content: bytes, config: TextVAEConfig) -> bool:
    """Tell whether a vocabulary has the size that the model was made for; GPT-2 has three special tokens more
    than its file."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return False
    if name == "bert":
        return len(text.splitlines()) == config.encoder.vocab_size
    if name == "gpt2_vocab":
        return len(read_numbered_tokens(text) or ()) + 3 == config.decoder.vocab_size
    return True


def explain_missing(folders: Iterable[str | Path]) -> str:
    """Return what to say when they are not found."""
    return (
        "The text autoencoder needs its public vocabularies: bert-base-cased-vocab.txt (vocab.txt of "
        "huggingface.co/google-bert/bert-base-cased), gpt2-vocab.json and gpt2-merges.txt (vocab.json and "
        "merges.txt of huggingface.co/openai-community/gpt2). Put them into "
        f"{' or '.join(dict.fromkeys(map(str, folders)))}."
    )
