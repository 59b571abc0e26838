"""The text autoencoder: both networks, batching, caching, drawing words, and refusals."""

import copy
import logging
from dataclasses import replace

import pytest
import torch
from random_tensors import randn
from rounding import assert_rounded
from transformers import GPT2Config, GPT2Model

from vd_core.autoencoders.gpt2 import GPT2
from vd_core.autoencoders.optimus import Optimus, draw, edit_latent, filter_logits

TEXTS = ["red apple, noto style", "a cat's hat", "two dogs don't run, flat style"]
INF = torch.inf


def seeded(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


LATENTS = randn(3, 24)


@pytest.fixture(scope="module")
def optimus(model):
    """Weights as small as BERT and GPT-2 start with hardly tell texts apart: these are larger."""
    optimus = copy.deepcopy(model.text_vae)
    for parameter in optimus.parameters():
        if parameter.ndim == 2:
            parameter.mul_(4)
    optimus.decoder.wte.weight[optimus.words.eos] = 0  # or it ends at once
    return optimus


@pytest.fixture(scope="module")
def tokens(optimus):
    return torch.tensor([optimus.words.encode(TEXTS[0])[:5]] * 3)


class Rigged(Optimus):
    """Always finds the same word likeliest, at any length."""

    def __init__(self, config, vocabularies, word):
        super().__init__(config, vocabularies)
        self.word = word

    def step(self, latents, tokens, cache):
        logits = torch.zeros(len(latents), 1, self.config.decoder.vocab_size)
        logits[..., self.word] = 100
        return logits, cache


def test_gpt2_is_that_of_transformers(config):
    """Without the memory slot both are plain GPT-2: the same names, shapes and values."""
    sizes = config.text_vae.decoder
    shape = {
        "n_embd": sizes.width,
        "n_layer": sizes.layers,
        "n_head": sizes.heads,
        "n_inner": sizes.mlp_width,
    }
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    theirs = GPT2Model(
        GPT2Config(vocab_size=sizes.vocab_size, n_positions=sizes.positions, **shape, **ends)
    ).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = GPT2(sizes).eval()
    ours.load_state_dict(
        {
            name: tensor
            for name, tensor in theirs.state_dict().items()
            if not name.endswith((".attn.bias", ".masked_bias"))
        }
    )
    embeddings = torch.randn(2, 7, sizes.width)
    nothing = torch.zeros(2, sizes.heads, 0, sizes.width // sizes.heads)
    hidden, cache = ours(embeddings, [(nothing, nothing)] * sizes.layers)
    expected = theirs(inputs_embeds=embeddings).last_hidden_state
    assert_rounded(hidden, expected)
    assert len(cache) == sizes.layers and cache[0][0].shape == (2, sizes.heads, 7, sizes.width // sizes.heads)


def test_encoding_a_batch_is_encoding_its_sentences(optimus):
    whole = optimus.encode(TEXTS)
    assert whole.shape == (3, 24) and (whole[0] - whole[1]).abs().max() > 1e-3
    for text, latent in zip(TEXTS, whole, strict=True):
        assert_rounded(optimus.encode([text])[0], latent)


def test_the_latent_is_the_mean_of_the_posterior(optimus):
    mean, logvar = optimus.posterior(optimus.pieces(TEXTS))
    assert (
        torch.equal(optimus.encode(TEXTS), mean)
        and logvar.shape == mean.shape
        and not torch.equal(mean, logvar)
    )


def test_encoding_ignores_case(optimus):
    assert torch.equal(optimus.encode(["RED Apple"]), optimus.encode(["red apple"]))


def test_cached_logits_are_the_uncached_ones(optimus, tokens):
    whole = optimus.logits(LATENTS, tokens)
    assert whole.shape == (3, 5, optimus.config.decoder.vocab_size)
    cache, parts = optimus.start_cache(LATENTS), []
    for chunk in (tokens[:, :1], tokens[:, 1:2], tokens[:, 2:]):
        logits, cache = optimus.step(LATENTS, chunk, cache)
        parts.append(logits)
    assert_rounded(torch.cat(parts, dim=1), whole)


def test_words_see_only_what_came_before(optimus, tokens):
    other = tokens.clone()
    other[:, 3] = tokens[:, 1]
    a, b = optimus.logits(LATENTS, tokens), optimus.logits(LATENTS, other)
    assert_rounded(a[:, :3], b[:, :3])
    assert (a[:, 3:] - b[:, 3:]).abs().max() > 1e-2


def test_logits_of_a_batch_are_those_of_its_latents(optimus, tokens):
    whole = optimus.logits(LATENTS, tokens)
    for n in range(3):
        assert_rounded(optimus.logits(LATENTS[n : n + 1], tokens[n : n + 1]), whole[n : n + 1])
    assert (whole[0] - whole[1]).abs().max() > 1e-2


@pytest.mark.parametrize("entrance", ["latent_to_memory", "latent_to_embedding"])
def test_the_latent_enters_twice(optimus, tokens, entrance):
    deaf = copy.deepcopy(optimus)
    getattr(deaf, entrance).weight.zero_()
    assert (deaf.logits(LATENTS, tokens) - optimus.logits(LATENTS, tokens)).abs().max() > 1e-3
    for name in ("latent_to_memory", "latent_to_embedding"):
        getattr(deaf, name).weight.zero_()
    assert torch.equal(deaf.logits(LATENTS, tokens), deaf.logits(-LATENTS, tokens))


def test_positions_count_from_1(optimus, tokens):
    expected = optimus.logits(LATENTS, tokens)
    for position, changes in ((0, False), (1, True), (5, True), (6, False)):
        other = copy.deepcopy(optimus)
        other.decoder.wpe.weight[position] += 1 + randn(16)
        assert torch.equal(other.logits(LATENTS, tokens), expected) != changes


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


def test_edited_latents_lose_one_direction_and_gain_another():
    negative, positive = randn(1, 24, seed=1), randn(1, 24, seed=2)
    edited = edit_latent(LATENTS, negative, positive)
    assert ((edited - positive) @ negative.T).abs().max() < 1e-5
    change = edited - positive - LATENTS
    torch.testing.assert_close(
        change, (change @ negative.T) / negative.square().sum() * negative, rtol=0, atol=1e-5
    )
    torch.testing.assert_close(edit_latent(LATENTS, 3 * negative, positive), edited)
    assert torch.equal(edit_latent(LATENTS, torch.zeros_like(negative), positive), LATENTS + positive)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_built_on_meta_and_filled(optimus, config, vocabularies, tokens, attention):
    with torch.device("meta"):
        empty = Optimus(config.text_vae, vocabularies, attention)
    empty.load_state_dict(optimus.state_dict(), assign=True)
    assert_rounded(empty.encode(TEXTS), optimus.encode(TEXTS))
    assert torch.equal(empty.logits(LATENTS, tokens), optimus.logits(LATENTS, tokens))
    assert (
        empty.decode(LATENTS, seeded(1, 2, 3)) == optimus.decode(LATENTS, seeded(1, 2, 3))
        and not empty.training
    )


def test_only_training_drops_out(config, tokens):
    fresh = Optimus(config.text_vae, attention="eager")
    assert not any(module.training for module in fresh.modules())
    assert torch.equal(fresh.logits(LATENTS, tokens), fresh.logits(LATENTS, tokens))
    fresh.train()
    assert not torch.equal(fresh.logits(LATENTS, tokens), fresh.logits(LATENTS, tokens))


def test_half_precision_takes_any_latents(optimus):
    half = copy.deepcopy(optimus).to(torch.bfloat16)
    assert half.encode(TEXTS).dtype == torch.bfloat16
    assert half.decode(LATENTS.double(), seeded(1, 2, 3)) == half.decode(LATENTS.bfloat16(), seeded(1, 2, 3))


def test_transformers_has_nothing_to_say(config, caplog, monkeypatch):
    # else caplog would hear nothing
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    # it gives each warning once
    unseen = replace(config.text_vae, encoder=replace(config.text_vae.encoder, vocab_size=77))
    optimus = Optimus(unseen)
    optimus.posterior(torch.tensor([[2, 5, 3], [2, 3, 0]]))
    assert not caplog.records


def test_attention_implementations_agree(optimus, config, vocabularies, tokens):
    eager = Optimus(config.text_vae, vocabularies, attention="eager")
    eager.load_state_dict(optimus.state_dict())
    assert_rounded(eager.logits(LATENTS, tokens), optimus.logits(LATENTS, tokens))
    assert_rounded(eager.encode(TEXTS), optimus.encode(TEXTS))


def test_ids_work_without_vocabularies(optimus, config, tokens):
    bare = Optimus(config.text_vae)
    bare.load_state_dict(optimus.state_dict())
    assert torch.equal(bare.logits(LATENTS, tokens), optimus.logits(LATENTS, tokens))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda o: o.encode([]), "a sentence or a list of at least one, got"),
        (lambda o: o.encode([1]), "a sentence or a list of at least one, got"),
        (lambda o: o.decode(randn(3, 23), seeded(1, 2, 3)), r"latents \[batch, 24\], got \[3, 23\]"),
        (
            lambda o: o.decode(randn(3, 24, 1, 1), seeded(1, 2, 3)),
            r"latents \[batch, 24\], got \[3, 24, 1, 1\]",
        ),
        (lambda o: o.decode(randn(0, 24), []), r"latents \[batch, 24\], got \[0, 24\]"),
        (lambda o: o.decode(LATENTS, seeded(1, 2)), "3 latents but 2 generators"),
        (
            lambda o: o.decode(LATENTS, seeded(1, 2, 3), temperature=-1),
            "temperature must be at least 0, got -1",
        ),
        (
            lambda o: o.decode(LATENTS, seeded(1, 2, 3), temperature=float("nan")),
            "temperature must be at least 0, got nan",
        ),
        (lambda o: o.decode(LATENTS, seeded(1, 2, 3), top_p=1.5), "top_p within 0..1"),
        (
            lambda o: o.decode(LATENTS.to("meta"), seeded(1, 2, 3)),
            "on the meta device, where tensors have no values",
        ),
    ],
)
def test_refusals(optimus, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(optimus)


@pytest.mark.parametrize(("part", "name"), [("encoder", "BERT"), ("decoder", "GPT-2")])
def test_vocabularies_of_another_size_are_refused(config, vocabularies, part, name):
    sizes = getattr(config.text_vae, part)
    other = replace(config.text_vae, **{part: replace(sizes, vocab_size=sizes.vocab_size + 1)})
    with pytest.raises(ValueError, match=f"{name}.*{sizes.vocab_size}"):
        Optimus(other, vocabularies)
