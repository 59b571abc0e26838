"""Small vocabularies learned from captions, in the very formats of the full ones."""

from __future__ import annotations

import gzip
import json
import string
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from ..tokenizers import Vocabularies


def learn_vocabularies(captions: Sequence[str]) -> Vocabularies:
    """Learn vocabularies in which every word of the captions is one token and any other English word can be
    spelled."""
    words = sorted({word for caption in captions for word in caption.lower().replace(",", " ,").split()})
    gpt2_vocab, gpt2_merges = write_gpt2([" " + caption for caption in captions])
    return Vocabularies(learn_word_pieces(words), gpt2_vocab, gpt2_merges, write_clip(words))


def learn_word_pieces(words: Sequence[str]) -> str:
    """Make a WordPiece vocabulary: special tokens, the words, then single characters at the start and inside
    of a word."""
    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *words,
        *characters,
        *("##" + c for c in characters),
    ]
    return "\n".join(dict.fromkeys(pieces))


def learn_byte_pairs(alphabet: Sequence[str], texts: Sequence[str], suffix: str = "") -> list[str]:
    """Learn byte-pair merges that make every word of `texts` one token, one "left right" per merge."""
    ending: dict[str, Any] = {"end_of_word_suffix": suffix} if suffix else {}
    tokenizer = Tokenizer(models.BPE(**ending))
    tokenizer.pre_tokenizer = (
        pre_tokenizers.WhitespaceSplit() if suffix else pre_tokenizers.ByteLevel(add_prefix_space=False)
    )
    # Ties between merges go by token number, and characters with a suffix would be numbered in a random
    # order: number them first.
    endings = [character + suffix for character in alphabet] if suffix else []
    trainer = trainers.BpeTrainer(
        vocab_size=100_000,
        min_frequency=1,
        initial_alphabet=list(alphabet),
        special_tokens=endings,
        show_progress=False,
        **ending,
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def list_byte_letters() -> list[str]:
    """Return the 256 characters that GPT-2 and CLIP write bytes with."""
    from open_clip.tokenizer import bytes_to_unicode  # takes seconds

    return list(bytes_to_unicode().values())


def write_gpt2(texts: Sequence[str]) -> tuple[str, str]:
    """Write byte-level BPE as the contents of vocab.json and merges.txt."""
    alphabet = list_byte_letters()
    merges = learn_byte_pairs(alphabet, texts)
    tokens = dict.fromkeys([*alphabet, *(merge.replace(" ", "") for merge in merges)])
    return json.dumps({token: number for number, token in enumerate(tokens)}), "\n".join(
        ["#version: 0.2", *merges]
    )


def write_clip(words: Sequence[str]) -> bytes:
    """Write CLIP's BPE in open_clip's format: gzipped merges below a header line."""
    merges = learn_byte_pairs(list_byte_letters(), words, suffix="</w>")
    # open_clip numbers the merged tokens without looking for repetitions.
    merges = list({merge.replace(" ", ""): merge for merge in merges}.values())
    return gzip.compress("\n".join(["#version: 0.2", *merges]).encode(), mtime=0)
