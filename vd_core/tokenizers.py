"""Text <-> token ids for CLIP, BERT (Optimus' encoder) and GPT-2 (Optimus' decoder), from vocabularies in memory."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor

from .prompts import segments

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
    """Prompts -> ids [B, positions]: start token, text, end token, padded with the end token."""

    def __init__(self, merges: bytes | None = None, positions: int = 77):
        import open_clip  # takes a second

        self.bpe = open_clip.SimpleTokenizer() if merges is None else open_clip.SimpleTokenizer(bpe_path=io.BytesIO(merges))
        self.positions = positions

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([self.encode(text) for text in texts])

    def encode(self, text: str) -> list[int]:
        """One prompt, taken literally. A prompt that is too long is cut, with a warning that says where."""
        return self.filled_up(self.bpe.encode(text))

    def filled_up(self, ids: list[int]) -> list[int]:
        """The ids of a text between the start token and end tokens."""
        room = self.positions - 2
        if len(ids) > room:
            warn_cut(len(ids), room, self.bpe.decode(ids[room:]))
        ids = [self.bpe.sot_token_id, *ids[:room]]
        return ids + [self.bpe.eot_token_id] * (self.positions - len(ids))

    def weighted(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Prompts with weights, see `prompts.segments` -> their ids and the weight of each token, both [B, positions]."""
        ids, weights = [], torch.ones(len(texts), self.positions)
        for row, text in zip(weights, texts, strict=True):
            tokens = [(token, weight) for piece, weight in segments(text) for token in self.bpe.encode(piece)]
            ids.append(self.filled_up([token for token, _ in tokens]))
            inside = torch.tensor([weight for _, weight in tokens[: self.positions - 2]])
            row[1 : 1 + len(inside)] = inside
        return torch.tensor(ids), weights


class BertTokenizer:
    """Sentences -> word pieces [B, n] between [CLS] and [SEP], padded with 0.

    Quirk kept: the text is lower-cased although the official vocabulary is cased, and accents stay.
    """

    def __init__(self, vocabulary: str, max_pieces: int = 77):
        self.ids = {piece: number for number, piece in enumerate(vocabulary.splitlines())}
        self.max_pieces = max_pieces
        self.tokenizer = Tokenizer(models.WordPiece(self.ids, unk_token="[UNK]", max_input_chars_per_word=100))
        self.tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
        self.tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def __call__(self, texts: Sequence[str]) -> Tensor:
        rows = [[self.ids["[CLS]"], *self.encode(text.lower()), self.ids["[SEP]"]] for text in texts]
        longest = max(map(len, rows))
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])

    def encode(self, text: str) -> list[int]:
        """The first `max_pieces` pieces of a lower-cased text, with a warning if there are more."""
        encoding, room = self.tokenizer.encode(text), self.max_pieces
        if len(encoding.ids) > room:
            warn_cut(len(encoding.ids), room, text[encoding.offsets[room][0] :])
        return encoding.ids[:room]


class Gpt2Tokenizer:
    """Sentences <-> byte-pair ids. <PAD>, <BOS> and <EOS> follow the vocabulary, in this order."""

    def __init__(self, vocabulary: str, merges: str):
        vocab = json.loads(vocabulary)
        pairs = [tuple(line.split(" ")) for line in merges.splitlines() if line and not line.startswith("#version")]
        if any(len(pair) != 2 or "".join(pair) not in vocab for pair in pairs):
            raise ValueError("The GPT-2 merges do not belong to the GPT-2 vocabulary: use the vocab.json and merges.txt of one model.")
        self.tokenizer = Tokenizer(models.BPE(vocab, pairs))
        self.tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self.tokenizer.decoder = decoders.ByteLevel()
        self.pad, self.bos, self.eos = range(len(vocab), len(vocab) + 3)

    def encode(self, text: str) -> list[int]:
        """<BOS>, the text with the leading blank that the decoder expects, <EOS>."""
        text = text.strip()
        return [self.bos, *self.tokenizer.encode(f" {text}" if text else "").ids, self.eos]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids` with the special tokens printed as words, as the official decoding loop prints them, blanks cleaned up."""
        special = {self.pad: " <PAD>", self.bos: " <BOS>", self.eos: " <EOS>"}
        text, run = "", []
        for number in [*ids, None]:
            if number is not None and number not in special:
                run.append(number)
                continue
            text += self.tokenizer.decode(run, skip_special_tokens=False) if run else ""
            text, run = text + special.get(number, ""), []
        for before, after in CLEAN_UP:
            text = text.replace(before, after)
        return text


def warn_cut(tokens: int, room: int, rest: str) -> None:
    """Say where a text was cut."""
    log.warning("The prompt has %d tokens, %d fit: everything from “%s” on is ignored.", tokens, room, rest[:60].rstrip())
