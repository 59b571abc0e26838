"""The tokenizers of CLIP, BERT and GPT-2: known ids, and what happens at the edges."""

import json
import logging

import open_clip
import pytest
import torch

from vd_core.config import TextVAEConfig
from vd_core.tokenizers import BertTokenizer, ClipTokenizer, Gpt2Tokenizer

BERT = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "un",
    "##aff",
    "##able",
    "cat",
    "##s",
    ",",
    "caf",
    "##é",
    "漢",
    "字",
    "'",
    "Cat",
]
PAD, UNK, CLS, SEP = range(4)


def bert_ids(*pieces):
    return [CLS, *map(BERT.index, pieces), SEP]


@pytest.fixture(scope="module")
def clip():
    return ClipTokenizer()


@pytest.fixture(scope="module")
def bert():
    return BertTokenizer("\n".join(BERT) + "\n", max_pieces=6)


@pytest.fixture(scope="module")
def gpt2(vocabularies):
    return Gpt2Tokenizer(vocabularies.gpt2_vocab, vocabularies.gpt2_merges)


def test_clip_ids(clip):
    ids = clip(["a photo of a cat", "A  PHOTO of\na cat"])
    assert ids.shape == (2, 77) and ids.dtype == torch.int64
    assert ids[0].tolist() == [49406, 320, 1125, 539, 320, 2368] + 71 * [49407]
    assert torch.equal(ids[1], ids[0])


def test_clip_agrees_with_open_clip_but_for_the_padding(clip):
    texts = [
        "",
        "It's 20°, isn't it? ünïcode 漢字 🍎",
        "an  extraordinarily-long &amp; strange <word>",
        "x " * 200,
    ]
    theirs = open_clip.get_tokenizer("ViT-L-14")(texts)
    assert torch.equal(clip(texts), torch.where(theirs == 0, 49407, theirs))


def test_a_long_prompt_is_cut_with_a_warning(clip, caplog):
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    prompt = " ".join(words * 8)
    with caplog.at_level(logging.WARNING):
        (ids,) = clip([prompt]).tolist()
    assert len(ids) == 77 and ids[0] == 49406 and ids[-1] == 49407
    assert ids[1:-1] == clip([" ".join((words * 8)[:75])])[0, 1:76].tolist()
    (record,) = caplog.records
    assert (
        "80 tokens, 75 fit" in record.getMessage() and "from “six seven eight nine ten" in record.getMessage()
    )


def test_a_prompt_that_just_fits_is_not_cut(clip, caplog):
    with caplog.at_level(logging.WARNING):
        assert clip(["one " * 75])[0, -2:].tolist() == [clip(["one"])[0, 1], 49407]
    assert not caplog.records


def test_clip_with_small_merges(vocabularies):
    tokenizer = ClipTokenizer(vocabularies.clip_merges, positions=8)
    end = tokenizer.bpe.vocab_size - 1
    (ids,) = tokenizer(["red apple"]).tolist()
    assert len(ids) == 8 and ids[0] == end - 1 and ids[3:] == 5 * [end] and max(ids[1:3]) < end - 1


def test_bert_word_pieces_are_lower_cased(bert):
    assert bert(["UNaffable, Cats"]).tolist() == [bert_ids("un", "##aff", "##able", ",", "cat", "##s")]


def test_bert_keeps_accents_and_splits_chinese_and_punctuation(bert):
    assert bert(["CAFÉ 漢字"]).tolist() == [bert_ids("caf", "##é", "漢", "字")]
    assert bert(["cat's"]).tolist() == [bert_ids("cat", "'", "[UNK]")]


def test_bert_unknown_words(bert):
    assert bert(["dog"]).tolist() == [bert_ids("[UNK]")]
    assert bert(["cat" + "s" * 97]).tolist() == [bert_ids("cat", *["##s"] * 97)[:7] + [SEP]]
    # a word longer than 100 characters is not even tried
    assert bert(["cat" + "s" * 98]).tolist() == [bert_ids("[UNK]")]


def test_bert_pads_with_0_and_cuts_before_the_end_marker(bert):
    rows = bert(["cat", "cat cat cat cat cat cat cat", ""])
    assert rows.tolist() == [bert_ids("cat") + 5 * [PAD], bert_ids(*["cat"] * 6), [CLS, SEP] + 6 * [PAD]]


@pytest.mark.parametrize(
    "options", [{}, {"max_pieces": TextVAEConfig().max_pieces}], ids=["default", "model"]
)
def test_the_official_encoder_reads_77_pieces_between_its_markers(options):
    ids = BertTokenizer("\n".join(BERT) + "\n", **options)(["cat " * 100, "cat " * 77])
    assert ids.shape == (2, 79) and torch.equal(ids[0], ids[1])


def test_a_long_text_is_cut_with_a_warning(bert, caplog):
    with caplog.at_level(logging.WARNING):
        bert(["cat", "Cat cat cat cat cat cat", "Cat cats cat cat cat, CATS and more"])
    (record,) = caplog.records
    assert "11 tokens, 6 fit" in record.getMessage() and "from “, cats and more”" in record.getMessage()


def test_bert_ignores_control_characters_and_blanks(bert):
    assert bert([" \x00cat\u200b \t\n cat\x7f "]).tolist() == [bert_ids("cat", "cat")]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_bert_vocabularies_may_end_their_lines_in_any_way(end):
    text = (end or "\n").join(BERT) + end
    assert BertTokenizer(text).ids == {piece: number for number, piece in enumerate(BERT)}


@pytest.mark.parametrize("half", ["\ud800", "\udfff"])
def test_half_of_a_character_is_refused_where_tokens_have_bytes(bert, gpt2, half):
    for tokenizer in (bert, gpt2):
        with pytest.raises(
            ValueError, match=r"^The text has half of a character \(U\+D[8F].+\) after 4 others"
        ):
            tokenizer.encode(f"red {half} apple")
    with pytest.raises(ValueError, match="The BERT vocabulary needs"):
        BertTokenizer("\n".join([*BERT, half]))
    with pytest.raises(ValueError, match="The GPT-2 vocabulary must be"):
        Gpt2Tokenizer(json.dumps({half: 0}), "")


@pytest.mark.parametrize("line", ["a b", "ab ", " ab"])
def test_gpt2_merges_of_what_has_no_number_are_refused(line):
    with pytest.raises(ValueError, match="The GPT-2 merges do not belong to the GPT-2 vocabulary"):
        Gpt2Tokenizer('{"ab": 0}', line)


def test_gpt2_special_tokens_follow_the_vocabulary(gpt2, vocabularies):
    size = len(json.loads(vocabularies.gpt2_vocab))
    assert (gpt2.pad, gpt2.bos, gpt2.eos) == (size, size + 1, size + 2)


def test_gpt2_encodes_with_a_leading_blank_between_the_markers(gpt2):
    ids = gpt2.encode("  red apple \n")
    assert ids[0] == gpt2.bos and ids[-1] == gpt2.eos and ids == gpt2.encode("red apple")
    assert gpt2.tokenizer.decode(ids[1:-1]) == " red apple"
    assert len(ids) == 4
    assert gpt2.encode("") == gpt2.encode(" \n") == [gpt2.bos, gpt2.eos]


@pytest.mark.parametrize("line", ["r edd", "red", "a b c"])
def test_gpt2_merges_of_another_vocabulary_are_refused(vocabularies, line):
    with pytest.raises(ValueError, match="do not belong to the GPT-2 vocabulary"):
        Gpt2Tokenizer(vocabularies.gpt2_vocab, f"{vocabularies.gpt2_merges}\n{line}")


@pytest.mark.parametrize(
    "text", ["two dogs run", "Ünïcode 漢字 🍎", "a\tb  c", "<BOS> <|endoftext|>", "a(b)c"]
)
def test_gpt2_round_trip(gpt2, text):
    assert gpt2.decode(gpt2.encode(text)) == f" <BOS> {text} <EOS>"


def test_gpt2_prints_special_tokens_as_words(gpt2):
    red, apple = gpt2.encode("red apple")[1:-1]
    ids = [gpt2.bos, gpt2.bos, red, gpt2.pad, apple, gpt2.eos]
    assert gpt2.decode(ids) == " <BOS> <BOS> red <PAD> apple <EOS>"
    assert gpt2.decode([]) == "" and gpt2.decode([red]) == " red" and gpt2.decode([gpt2.eos]) == " <EOS>"


@pytest.mark.parametrize(
    ("written", "cleaned"),
    [
        ("it is . so ? yes ! no , well", "it is. so? yes! no, well"),
        ("I 'm sure they 're here , it 's so", "I'm sure they're here, it's so"),
        ("I 've , we do n't", "I've, we don't"),
        ("they do not know", "they don't know"),
        ("rock ' n ' roll", "rock'n'roll"),
        ("a ; b : c", "a ; b : c"),
    ],
)
def test_gpt2_clean_up(gpt2, written, cleaned):
    assert gpt2.decode(gpt2.encode(written)) == f" <BOS> {cleaned} <EOS>"


def test_gpt2_decodes_each_run_between_special_tokens_alone(gpt2):
    """Half a character before a special token and half behind it are two broken characters."""
    first, second = gpt2.tokenizer.encode("é").ids
    assert gpt2.decode([first, second]) == "é"
    assert gpt2.decode([first, gpt2.eos, second]) == "\ufffd <EOS>\ufffd"
