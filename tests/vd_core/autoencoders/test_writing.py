"""How the text autoencoder writes: drawing words, ending sentences, caches, progress."""

import copy

import pytest
import torch
from random_tensors import randn

from vd_core.autoencoders.optimus import Optimus, draw, filter_logits

INF = torch.inf

LATENTS = randn(3, 24)


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


class Rigged(Optimus):
    """Always finds the same word likeliest, at any length."""

    def __init__(self, config, vocabularies, word):
        super().__init__(config, vocabularies)
        self.word = word

    def step(self, latents, tokens, cache):
        logits = torch.zeros(len(latents), 1, self.config.decoder.vocab_size)
        logits[..., self.word] = 100
        return logits, cache


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5, "top_k": 5}, {"top_p": 0.6}])
def test_no_sentence_depends_on_the_others(optimus, options):
    whole = optimus.decode_ids(LATENTS, seeded(1, 2, 3), **options)
    assert len(set(map(tuple, whole))) == 3
    for n in range(3):
        assert optimus.decode_ids(LATENTS[n : n + 1], seeded(n + 1), **options) == whole[n : n + 1]
    assert optimus.decode_ids(LATENTS, seeded(1, 2, 4), **options)[:2] == whole[:2]
    assert optimus.decode_ids(LATENTS, seeded(4, 5, 6), **options) != whole
    assert optimus.decode(LATENTS, seeded(1, 2, 3), **options) == [optimus.join_ids(row) for row in whole]


def test_one_generator_decodes_one_latent_after_the_other(optimus):
    (generator,) = seeded(7)
    expected = [sentence for latent in LATENTS for sentence in optimus.decode(latent[None], [generator])]
    (again,) = seeded(7)
    assert optimus.decode(LATENTS, again) == expected
    # and as many draws
    assert torch.equal(torch.rand(1, generator=again), torch.rand(1, generator=generator))


def test_the_loop_is_that_of_the_written_out_one(optimus):
    """The official loop: no cache, softmax, one multinomial per token."""
    (ours,) = seeded(4)
    (theirs,) = seeded(4)
    rows = optimus.decode_ids(LATENTS, ours, temperature=0.7, top_k=40, top_p=0.9)
    for latent, row in zip(LATENTS.split(1), rows, strict=True):
        ids = [optimus.words.bos]
        while ids[-1] != optimus.words.eos and len(ids) < 30:
            logits = optimus.logits(latent, torch.tensor([ids]))[0, -1] / 0.7
            ids += torch.multinomial(
                filter_logits(logits, 40, 0.9).softmax(dim=0), 1, generator=theirs
            ).tolist()
        assert row == [*ids[:29], optimus.words.eos] if len(ids) == 30 else row == ids


def test_greedy_decoding_draws_nothing(optimus):
    generators = seeded(1, 2, 3)
    greedy = optimus.decode(LATENTS, generators, temperature=0)
    assert (
        optimus.decode(LATENTS, seeded(4, 5, 6), temperature=0)
        == greedy
        == optimus.decode(LATENTS, seeded(9)[0], temperature=0)
    )
    assert torch.equal(torch.rand(2, generator=generators[0]), torch.rand(2, generator=seeded(1)[0]))
    assert optimus.decode(LATENTS, generators, top_k=1) == greedy
    rows = optimus.decode_ids(LATENTS, generators, temperature=0)
    for latent, row in zip(LATENTS, rows, strict=True):
        likeliest = optimus.logits(latent[None], torch.tensor([row[:-1]]))[0].argmax(dim=-1).tolist()
        assert likeliest[:-1] == row[1:-1] and row[-1] == optimus.words.eos


def test_rows_run_from_the_start_to_the_end_token(optimus):
    for row in optimus.decode_ids(LATENTS, seeded(1, 2, 3)):
        assert (
            row[0] == optimus.words.bos
            and row[-1] == optimus.words.eos
            and optimus.words.eos not in row[1:-1]
        )
        assert len(row) <= optimus.config.max_tokens


def test_the_last_token_that_fits_is_overwritten(config, vocabularies, optimus):
    apple = optimus.words.encode("apple")[1]
    (row,) = Rigged(config.text_vae, vocabularies, apple).decode_ids(LATENTS[:1], seeded(1))
    assert row == [optimus.words.bos, *28 * [apple], optimus.words.eos]


def test_an_immediate_end_is_an_empty_sentence(config, vocabularies, optimus):
    rigged = Rigged(config.text_vae, vocabularies, optimus.words.eos)
    assert rigged.decode_ids(LATENTS[:1], seeded(1)) == [[optimus.words.bos, optimus.words.eos]]
    assert rigged.decode(LATENTS, seeded(1, 2, 3)) == ["", "", ""]


def test_only_sentences_that_have_not_ended_draw(optimus):
    bos, eos = optimus.words.bos, optimus.words.eos
    generators = seeded(1, 2, 3)
    plan = {generators[0]: iter([5, eos]), generators[1]: iter(range(1, 30)), generators[2]: iter([eos])}
    steps = [
        copy.deepcopy(rows)
        for rows in optimus.write(LATENTS, generators, lambda logits, generator: next(plan[generator]))
    ]
    assert len(steps) == 29
    assert steps[0] == [[bos, 5], [bos, 1], [bos, eos]]
    assert steps[-1] == [[bos, 5, eos], [bos, *range(1, 29), eos], [bos, eos]]
    assert next(plan[generators[1]], None) is None  # the last token is drawn, then overwritten


def test_sentences(optimus):
    words = optimus.words
    assert optimus.join_ids(words.encode("red apple, noto style")) == "red apple, noto style"
    first, second = words.tokenizer.encode("red apple").ids[0], words.encode("apple")[1]
    # quirk: glued to <BOS> and lost with it
    assert optimus.join_ids([words.bos, first, second, words.eos]) == "apple"
    assert optimus.join_ids([words.bos, second, words.pad, second, words.eos]) == "apple <PAD> apple"


def test_progress(optimus):
    seen = []
    optimus.decode(LATENTS, seeded(1, 2, 3), progress=lambda token, tokens: seen.append((token, tokens)))
    longest = max(map(len, optimus.decode_ids(LATENTS, seeded(1, 2, 3))))
    assert seen == [*((i, 29) for i in range(1, longest - 1)), (29, 29)]
    seen.clear()
    optimus.decode(LATENTS, seeded(1)[0], progress=lambda token, tokens: seen.append((token, tokens)))
    assert (
        {total for _, total in seen} == {87}
        and seen == sorted(seen)
        and {29, 58, 87} <= {token for token, _ in seen}
    )


def test_progress_may_stop_it(optimus):
    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        optimus.decode(LATENTS, seeded(1, 2, 3), progress=stop)


@pytest.mark.parametrize(
    ("logits", "top_k", "top_p", "kept"),
    [
        ([1, 3, 2, 0], 0, 1.0, [0, 1, 2, 3]),
        ([1, 3, 2, 0], 0, 0.0, [0, 1, 2, 3]),
        ([1, 3, 2, 0], 2, 1.0, [1, 2]),
        ([1, 3, 2, 0], 9, 1.0, [0, 1, 2, 3]),
        ([1, 2, 2, 0], 1, 0.0, [1, 2]),  # equals of the k-th stay
        ([0.1, 0.5, 0.3, 0.1], 0, 0.4, [1]),  # these are probabilities
        ([0.1, 0.5, 0.3, 0.1], 0, 0.6, [1, 2]),
        ([0.1, 0.5, 0.3, 0.1], 0, 1e-9, [1]),
        ([0.1, 0.5, 0.3, 0.1], 2, 0.6, [1]),  # of what top_k left, the first has 0.5 / 0.8
        ([0.1, 0.5, 0.3, 0.1], 2, 0.7, [1, 2]),
    ],
)
def test_filters(logits, top_k, top_p, kept):
    logits = torch.tensor(logits)
    logits = logits.log() if logits.sum() == 1 else logits.float()
    filtered = filter_logits(logits, top_k, top_p)
    assert (filtered > -INF).nonzero()[:, 0].tolist() == kept
    assert torch.equal(filtered[kept], logits[kept])


def test_temperature_is_the_sharpness_of_the_draw():
    logits, (generator,) = torch.tensor([0.0, 1.0]), seeded(0)
    shares = [
        sum(draw(logits, generator, temperature, 0, 1.0) for _ in range(4000)) / 4000
        for temperature in (0.5, 1.0, 2.0)
    ]
    assert shares == pytest.approx([torch.tensor(x).sigmoid().item() for x in (2.0, 1.0, 0.5)], abs=0.03)
