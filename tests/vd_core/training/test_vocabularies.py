"""Small vocabularies: every word of the captions is known, everything else can be spelled, and the formats
are those of the full ones."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vd_core.tokenizers import BertTokenizer, ClipTokenizer, Gpt2Tokenizer
from vd_core.training.dataset import write_caption
from vd_core.training.emoji import NAMES, STYLES
from vd_core.training.vocabularies import learn_vocabularies

ROOT = Path(__file__).resolve().parents[3]
CAPTIONS = [write_caption(name, style) for name, _ in NAMES for style in STYLES]
WORDS = sorted({word for text in CAPTIONS for word in text.replace(",", "").split()})
STRANGE = "Zebra’s 漢字 & 42 ünïcodes\tor 🍎?"


@pytest.fixture(scope="module")
def words():
    return learn_vocabularies(CAPTIONS)


@pytest.fixture(scope="module")
def bert(words):
    return BertTokenizer(words.bert)


@pytest.fixture(scope="module")
def gpt2(words):
    return Gpt2Tokenizer(words.gpt2_vocab, words.gpt2_merges)


@pytest.fixture(scope="module")
def clip(words):
    return ClipTokenizer(words.clip_merges, 32)


def test_every_word_is_one_token(bert, gpt2, clip):
    assert len(WORDS) > 150
    for word in WORDS:
        assert bert([word]).shape == (1, 3)
        if word.isalpha():  # CLIP and GPT-2 part digits from letters
            assert len(gpt2.encode(word)) == 3
            assert len(clip.bpe.encode(word)) == 1


def test_captions_come_back(gpt2, clip):
    for text in CAPTIONS:
        assert gpt2.decode(gpt2.encode(text)) == f" <BOS> {text} <EOS>"
        assert clip.bpe.decode(clip.bpe.encode(text)).strip() == text.replace(",", " ,").replace("3d", "3 d")


def test_captions_are_told_apart(bert, gpt2, clip):
    for ids in (bert(CAPTIONS).tolist(), [gpt2.encode(text) for text in CAPTIONS], clip(CAPTIONS).tolist()):
        assert len(set(map(tuple, ids))) == len(CAPTIONS)


def test_anything_else_can_be_spelled(bert, gpt2, clip):
    assert gpt2.tokenizer.decode(gpt2.encode(STRANGE)[1:-1]) == " " + STRANGE
    assert clip.bpe.decode(clip.bpe.encode("zebras")).strip() == "zebras"
    assert all(token < clip.bpe.sot_token_id for token in clip.bpe.encode(STRANGE))
    assert bert.ids["[UNK]"] not in bert(["Zebras, 42 quick (brown) foxes & co.: a@b? {no}!"])


def test_formats(words):
    pieces = words.bert.splitlines()
    assert pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] and len(set(pieces)) == len(pieces)
    vocab = json.loads(words.gpt2_vocab)
    assert sorted(vocab.values()) == list(range(len(vocab)))
    header, *merges = words.gpt2_merges.splitlines()
    assert header.startswith("#version") and all(len(merge.split(" ")) == 2 for merge in merges)
    assert {merge.replace(" ", "") for merge in merges} <= vocab.keys()
    header, *merges = gzip.decompress(words.clip_merges).decode().splitlines()
    assert header.startswith("#version") and len({merge.replace(" ", "") for merge in merges}) == len(merges)


def test_clip_ids_are_dense(clip):
    """Every id has a token, and the start and end tokens are the last two: the text tower is built on
    that."""
    assert sorted(clip.bpe.decoder) == list(range(clip.bpe.vocab_size))
    assert (clip.bpe.sot_token_id, clip.bpe.eot_token_id) == (
        clip.bpe.vocab_size - 2,
        clip.bpe.vocab_size - 1,
    )


def test_learning_is_deterministic(words):
    assert learn_vocabularies(CAPTIONS) == words
    assert learn_vocabularies(CAPTIONS[::-1]).bert == words.bert


def test_the_command_line_starts_without_the_large_libraries():
    code = (
        "import sys; from vd_core.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "'vd_core.__main__'" in loaded
    large = ("torch", "open_clip", "transformers", "torchvision", "ray", "pyarrow")
    assert not any(f"'{name}'" in loaded for name in large)
