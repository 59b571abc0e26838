"""Text <-> token ids for CLIP, BERT (Optimus' encoder) and GPT-2 (Optimus' decoder), from vocabularies in
memory.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from .prompts import split_by_weight

log = logging.getLogger(__name__)

# What decoding removes before punctuation and contractions, in this order (GPT-2's `clean_up_tokenization`).
CLEAN_UP = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


HALF = re.compile("[\ud800-\udfff]")
MOST_MERGES = 16 << 20  # bytes, unpacked; CLIP's own take 3 MB


def list_texts(texts: str | Sequence[str]) -> list[str]:
    """Return one text or several as a list; an empty one for what is no list of texts."""
    if isinstance(texts, str):
        return [texts]
    ordered = isinstance(texts, Iterable) and not isinstance(texts, Mapping | Set | bytes)
    return list(texts) if ordered else []


@dataclass(frozen=True)
class Vocabularies:
    """The vocabulary files of one model, as their text.

    bert:        one word piece per line, [PAD] first.
    gpt2_vocab:  JSON, token -> id, without the three special tokens.
    gpt2_merges: byte-pair merges, one per line.
    clip_merges: gzipped merges in open_clip's format; None = CLIP's own, which open_clip ships.
    """

    bert: str
    gpt2_vocab: str
    gpt2_merges: str
    clip_merges: bytes | None = None


class ClipTokenizer:
    """Prompts -> ids [B, positions]: start token, text, end token, padded with the end token.

    merges: as in `Vocabularies.clip_merges`. Raises ValueError for others.
    """

    def __init__(self, merges: bytes | None = None, positions: int = 77):
        import open_clip  # takes a second

        if merges is not None:
            check_clip_merges(merges)
        self.bpe = (
            open_clip.SimpleTokenizer()
            if merges is None
            else open_clip.SimpleTokenizer(bpe_path=io.BytesIO(merges))
        )
        self.positions = positions

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([self.encode(text) for text in texts])

    def encode(self, text: str) -> list[int]:
        """Encode one prompt, taken literally. A prompt that is too long is cut, with a warning that says
        where."""
        return self.pad(self.bpe.encode(text))

    def pad(self, ids: list[int]) -> list[int]:
        """Return the ids of a text between the start token and end tokens."""
        room = self.positions - 2
        if len(ids) > room:
            warn_cut(len(ids), room, self.bpe.decode(ids[room:]))
        ids = [self.bpe.sot_token_id, *ids[:room]]
        return ids + [self.bpe.eot_token_id] * (self.positions - len(ids))

    def encode_weighted(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode prompts with weights (see `prompts.split_by_weight`): ids and the weight of each token, both
        [B, positions].
        """
        ids, weights = [], torch.ones(len(texts), self.positions)
        for row, text in zip(weights, texts, strict=True):
            tokens = [
                (token, weight) for piece, weight in split_by_weight(text) for token in self.bpe.encode(piece)
            ]
            ids.append(self.pad([token for token, _ in tokens]))
            inside = torch.tensor([weight for _, weight in tokens[: self.positions - 2]])
            row[1 : 1 + len(inside)] = inside
        return torch.tensor(ids), weights


class BertTokenizer:
    """Sentences -> word pieces [B, n] between [CLS] and [SEP], padded with 0.

    Quirk kept: the text is lower-cased although the official vocabulary is cased, and accents stay.

    Raises ValueError for a vocabulary with a piece twice, or without one of the special ones.
    """

    def __init__(self, vocabulary: str, max_pieces: int = 77):
        pieces = vocabulary.splitlines()
        self.ids = {piece: number for number, piece in enumerate(pieces)}
        whole = len(self.ids) == len(pieces) and not HALF.search(vocabulary)
        if not whole or not self.ids.keys() >= {"[UNK]", "[CLS]", "[SEP]"}:
            raise ValueError(
                "The BERT vocabulary needs each piece once, one per line, [UNK], [CLS] and [SEP] among them."
            )
        self.max_pieces = max_pieces
        self.tokenizer = Tokenizer(
            models.WordPiece(self.ids, unk_token="[UNK]", max_input_chars_per_word=100)
        )
        self.tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
        self.tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def __call__(self, texts: Sequence[str]) -> Tensor:
        rows = [[self.ids["[CLS]"], *self.encode(text.lower()), self.ids["[SEP]"]] for text in texts]
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])

    def encode(self, text: str) -> list[int]:
        """Return the first `max_pieces` pieces of a lower-cased text, with a warning if there are more."""
        check_text(text)
        encoding, room = self.tokenizer.encode(text), self.max_pieces
        if len(encoding.ids) > room:
            warn_cut(len(encoding.ids), room, text[encoding.offsets[room][0] :])
        return encoding.ids[:room]


class Gpt2Tokenizer:
    """Sentences <-> byte-pair ids. <PAD>, <BOS> and <EOS> follow the vocabulary, in this order.

    Raises ValueError for a vocabulary that does not number its tokens from 0 on, and for merges of another
    one.
    """

    def __init__(self, vocabulary: str, merges: str):
        vocab = read_numbered_tokens(vocabulary)
        if vocab is None:
            raise ValueError("The GPT-2 vocabulary must be a JSON object that numbers its tokens from 0 on.")
        pairs = [
            tuple(line.split(" ")) for line in merges.splitlines() if line and not line.startswith("#version")
        ]
        made = {"".join(pair) for pair in pairs}
        unmade = [
            token
            for token in vocab
            if len(token) > 1 and token not in made and not re.fullmatch("<.*>", token)
        ]
        named = made.union(*pairs)  # what is merged must have a number too
        if any(len(pair) != 2 for pair in pairs) or not named <= vocab.keys() or unmade:
            raise ValueError(
                "The GPT-2 merges do not belong to the GPT-2 vocabulary: use the vocab.json and merges.txt "
                "of one model."
            )
        self.tokenizer = Tokenizer(models.BPE(vocab, [(left, right) for left, right in pairs]))
        self.tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self.tokenizer.decoder = decoders.ByteLevel()
        self.pad, self.bos, self.eos = range(len(vocab), len(vocab) + 3)

    def encode(self, text: str) -> list[int]:
        """Encode a text: <BOS>, the text with the leading blank that the decoder expects, <EOS>."""
        check_text(text)
        text = text.strip()
        return [self.bos, *self.tokenizer.encode(f" {text}" if text else "").ids, self.eos]

    def decode(self, ids: Sequence[int]) -> str:
        """Decode `ids` to text, special tokens printed as words as in the official decoding loop, blanks
        cleaned up."""
        special = {self.pad: " <PAD>", self.bos: " <BOS>", self.eos: " <EOS>"}
        text = ""
        run: list[int] = []
        for number in [*ids, None]:
            if number is not None and number not in special:
                run.append(number)
                continue
            text += self.tokenizer.decode(run, skip_special_tokens=False) if run else ""
            text, run = text + ("" if number is None else special[number]), []
        for before, after in CLEAN_UP:
            text = text.replace(before, after)
        return text


def check_text(text: str) -> None:
    """Raise ValueError for a text with half of a character in it, which has no bytes."""
    if half := HALF.search(text):
        raise ValueError(
            f"The text has half of a character (U+{ord(half[0]):04X}) after {half.start()} others: write it "
            "anew, or read its file as UTF-8."
        )


def read_numbered_tokens(vocabulary: str) -> dict[str, int] | None:
    """Return the tokens of a vocab.json, or None where it is none."""
    try:
        vocab = json.loads(vocabulary)
    except (ValueError, RecursionError):
        return None
    ids = vocab.values() if isinstance(vocab, dict) else ()
    complete = ids and all(type(number) is int for number in ids) and set(ids) == set(range(len(vocab)))
    return vocab if complete and not any(map(HALF.search, vocab)) else None


def check_clip_merges(merges: bytes) -> None:
    """Raise ValueError for what is no gzipped list of pairs, or would unpack to more than any list of merges
    takes.
    """
    try:
        with gzip.open(io.BytesIO(merges)) as file:
            text = file.read(MOST_MERGES + 1)
        whole = len(text) <= MOST_MERGES and all(
            len(line.split()) == 2 for line in text.decode("utf-8").split("\n")[1:]
        )
    except (OSError, EOFError, UnicodeDecodeError, zlib.error):
        whole = False
    if not whole:
        raise ValueError(f"CLIP's merges must be a gzipped list of pairs of at most {MOST_MERGES >> 20} MB.")


def warn_cut(tokens: int, room: int, rest: str) -> None:
    """Say where a text was cut."""
    log.warning(
        "The prompt has %d tokens, %d fit: everything from “%s” on is ignored.",
        tokens,
        room,
        rest[:60].rstrip(),
    )
