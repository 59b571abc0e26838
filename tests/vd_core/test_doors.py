"""The doors of the library: what does not belong there ends in one sentence, in any precision and from any
device ("meta" stands for another one)."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from vd_core import (
    MODEL,
    Context,
    Region,
    Sampling,
    best_first,
    blend,
    from_pil,
    join,
    load,
    similarity,
    to_pil,
    token_similarity,
)
from vd_core.checkpoints.lora import apply_lora
from vd_core.embedded import FEW_STEPS
from vd_core.training.lora import Lora, select

FEW = Sampling("dpmpp_2m", steps=2, cfg=2)
PARTS = ("diffuser", "clip", "image_vae", "text_vae")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
NAN = float("nan")


@pytest.fixture(scope="module")
def vd():
    return load(MODEL)


@pytest.fixture(scope="module")
def picture():
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def context(vd):
    return vd.encode_text("red apple")


def walk(vd, picture):
    """Through every part: encode, sample both kinds of data from both kinds of contexts, decode."""
    contexts = [vd.encode_text("red apple"), vd.encode_image(picture)]
    drawn = vd.sample("image", contexts, vd.image_vae.encode(picture), 0, Sampling("ddim", 2, strength=0.5))
    words = vd.sample("text", contexts, vd.text_vae.encode("an apple"), 0, FEW)
    return vd.image_vae.decode(drawn), vd.text_vae.decode(words, torch.Generator(), temperature=0)


@pytest.mark.parametrize("odd", PARTS)
@pytest.mark.parametrize("dtypes", [(a, b) for a in DTYPES[:2] for b in DTYPES if a != b], ids=str)
def test_every_part_may_have_a_precision_of_its_own(vd, picture, odd, dtypes):
    mixed = vd.replace(
        **{name: copy.deepcopy(part).to(dtypes[name == odd]) for name, part in vd.parts.items()}
    )
    pictures, sentences = walk(mixed, picture)
    assert pictures.dtype == torch.float32 and pictures.isfinite().all() and len(sentences) == 1
    torch.testing.assert_close(pictures, walk(vd, picture)[0], atol=0.25, rtol=0)


@pytest.mark.parametrize("away", PARTS)
def test_a_part_elsewhere_is_named(vd, picture, away):
    apart = vd.replace(**{away: copy.deepcopy(vd.parts[away]).to("meta")})
    with pytest.raises(ValueError, match="(encoder|diffuser|autoencoder) is on the meta device"):
        walk(apart, picture)


@pytest.mark.parametrize("away", PARTS)
def test_one_part_here_and_the_others_elsewhere(vd, picture, away):
    apart = vd.replace(
        **{name: copy.deepcopy(part).to("meta") for name, part in vd.parts.items() if name != away}
    )
    with pytest.raises(ValueError, match="on the meta device"):
        walk(apart, picture)


def there(x):
    return x.to("meta")


Z = torch.zeros(1, 16, 8, 8)
ELSEWHERE = {
    "pictures for CLIP": lambda vd, p, c: vd.encode_image(there(p)),
    "pictures to embed": lambda vd, p, c: vd.clip.embed_image(there(p)),
    "masks for CLIP": lambda vd, p, c: vd.encode_image(p, there(p[:, :1])),
    "pictures to encode": lambda vd, p, c: vd.image_vae.encode(there(p)),
    "latents to decode": lambda vd, p, c: vd.image_vae.decode(there(Z)),
    "latents to write": lambda vd, p, c: vd.text_vae.decode(there(torch.zeros(1, 64)), torch.Generator()),
    "latent": lambda vd, p, c: vd.sample("image", c, there(Z), 0, FEW),
    "latent to invert": lambda vd, p, c: vd.invert("image", c, there(Z), Sampling(steps=2, cfg=1)),
    "noise": lambda vd, p, c: vd.sample("image", c, Z, there(Z), FEW),
    "tokens": lambda vd, p, c: vd.sample("image", Context("text", there(c.tokens)), Z, 0, FEW),
    "null": lambda vd, p, c: vd.sample("image", Context("text", c.tokens, there(c.null)), Z, 0, FEW),
    "token weights": lambda vd, p, c: Context("text", c.tokens, token_weights=there(torch.ones(1, 32))),
    "region": lambda vd, p, c: Region(there(torch.ones(1, 1, 2, 2))),
    "inpainting mask": lambda vd, p, c: vd.sample("image", c, Z, 0, FEW, mask=there(Z)),
    "start": lambda vd, p, c: vd.sample("image", c, Z, 0, FEW, start=there(Z)),
    "joined": lambda vd, p, c: join([c, Context("text", there(c.tokens))]),
    "pictures to show": lambda vd, p, c: to_pil(there(p)),
    "tokens to compare": lambda vd, p, c: token_similarity(there(c.tokens), c.tokens),
    "embeddings": lambda vd, p, c: similarity(torch.ones(1, 2), there(torch.ones(1, 2))),
    "scores": lambda vd, p, c: best_first(there(torch.ones(2))),
}


@pytest.mark.parametrize("call", ELSEWHERE.values(), ids=ELSEWHERE)
def test_what_lies_elsewhere_is_refused_at_every_door(vd, picture, context, call):
    with pytest.raises(ValueError, match="meta"):
        call(vd, picture, context)


WRONG = [
    (lambda vd, c: vd.encode_image(np.zeros((1, 3, 64, 64))), "must be a tensor .* got ndarray"),
    (lambda vd, c: vd.clip.embed_image(Image.new("RGB", (64, 64))), "must be a tensor .* from_pil makes one"),
    (lambda vd, c: vd.clip.embed_image(torch.full((1, 3, 64, 64), 255.0)), "divide by 255"),
    (lambda vd, c: vd.clip.embed_image(torch.ones(1, 3, 64, 64).byte()), "use images.float"),
    (lambda vd, c: vd.clip.embed_image(torch.rand(1, 64, 64, 3)), r"\[batch, 3, height, width\]"),
    (lambda vd, c: vd.clip.embed_image(torch.full((1, 3, 64, 64), NAN)), "not finite numbers"),
    (lambda vd, c: vd.encode_image(torch.rand(1, 3, 64, 64), np.ones((1, 1, 8, 8))), "must be a tensor"),
    (lambda vd, c: vd.encode_image(torch.rand(1, 3, 64, 64), torch.full((1, 1, 8, 8), 255.0)), "0..1"),
    (lambda vd, c: vd.encode_image(torch.rand(1, 3, 64, 64), focus="style"), "focus lies between"),
    (lambda vd, c: vd.encode_text(None), "There is no prompt to encode"),
    (lambda vd, c: vd.encode_text({"red": 1}), "There is no prompt to encode"),
    (lambda vd, c: vd.encode_text(b"red"), "There is no prompt to encode"),
    (lambda vd, c: vd.text_vae.encode(5), "encodes a sentence or a list"),
    (lambda vd, c: vd.text_vae.decode(np.zeros((1, 64)), torch.Generator()), "must be a torch tensor"),
    (lambda vd, c: vd.text_vae.decode(torch.zeros(1, 64), 3), "generators must be a torch.Generator"),
    (lambda vd, c: vd.text_vae.decode(torch.zeros(1, 64), torch.Generator(), "1"), "temperature must be"),
    (lambda vd, c: vd.image_vae.decode(np.zeros((1, 16, 8, 8))), "must be a torch tensor, got ndarray"),
    (lambda vd, c: vd.sample("image", c, Z[:0], 0, FEW), "at least one sample"),
    (lambda vd, c: vd.sample("image", c, torch.tensor(0.0), 0, FEW), "at least one sample"),
    (lambda vd, c: vd.sample("image", c, Z, 14.6 * torch.randn(Z.shape), FEW), "leave out what scales it"),
    (lambda vd, c: vd.sample("image", "sun", Z, 0, FEW), "contexts must be a Context or a list of them"),
    (lambda vd, c: Context("text", torch.ones(1, 3, 160).long()), "must be floating point numbers"),
    (lambda vd, c: Context(None, c.tokens), "The kind of a context is a name"),
    (lambda vd, c: Context("text", c.tokens, weight="half"), "weight of a text context must be a number"),
    (lambda vd, c: Context("text", c.tokens, guidance=None), "guidance of a text context must be a number"),
    (lambda vd, c: Context("text", c.tokens, region="left"), "must be a Region"),
    (lambda vd, c: Region(np.ones((1, 1, 2, 2))), "must be a torch tensor, got ndarray"),
    (lambda vd, c: Region(torch.full((1, 1, 2, 2), 255.0)), "holds values in 0..1, got 255"),
    (lambda vd, c: Region(torch.full((1, 1, 2, 2), NAN)), "holds values in 0..1, got nan"),
    (lambda vd, c: Region(start="early"), "from a start to a later end"),
    (lambda vd, c: blend(c, "sun", 0.5), "contexts must be a Context or a list of them"),
    (lambda vd, c: blend(c, c, "half"), "ratio of a blend lies between 0 and 1"),
    (lambda vd, c: join(None), "contexts must be a Context or a list of them"),
    (lambda vd, c: from_pil(None), "takes a PIL picture or a list"),
    (lambda vd, c: to_pil(torch.rand(1, 3, 4, 4) * 255), "divide by 255"),
    (lambda vd, c: to_pil(torch.rand(1, 3, 4, 4) > 0.5), "use images.float"),
    (lambda vd, c: token_similarity(c.tokens * NAN, c.tokens), "tokens holds NaN"),
    (lambda vd, c: token_similarity(c, c.tokens), "must be a tensor of floating point numbers"),
    (lambda vd, c: similarity(torch.ones(5), torch.ones(2, 5)), "Embeddings must be"),
    (lambda vd, c: best_first(torch.tensor([1.0, NAN])), "scores holds NaN"),
    (lambda vd, c: best_first(torch.ones(2, 2)), r"scores must be \[N\]"),
    (lambda vd, c: best_first(torch.ones(3), -1), "best must be a finite number of at least 0"),
    (lambda vd, c: load(None), "What is loaded are paths"),
    (lambda vd, c: load(MODEL, parts="clip_text"), "parts must be a list of names"),
    (lambda vd, c: load(MODEL, parts=5), "parts must be a list of names"),
]


@pytest.mark.parametrize("call, sentence", WRONG)
def test_what_does_not_belong_there_is_named(vd, context, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(vd, context)


def test_a_blend_takes_contexts_as_they_are(context):
    image = Context("image", torch.rand(1, 65, 160) / 12)
    assert [each.weight for each in blend(image, context, 0.25)] == [0.75, 0.25]
    assert [each.weight for each in blend([image], [context], 0.25)] == [0.75, 0.25]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_loras_are_merged_in_any_precision(vd, dtype):
    model = load(MODEL, parts=["diffuser.data.image", "diffuser.context.text"], dtype=dtype)
    before = copy.deepcopy(model.diffuser.state_dict())
    apply_lora(model, FEW_STEPS)
    after = model.diffuser.state_dict()
    assert {weight.dtype for weight in after.values()} == {dtype}
    assert any(not torch.equal(before[key], after[key]) for key in before)
    assert all(weight.isfinite().all() for weight in after.values())


def test_a_lora_is_not_merged_without_values():
    model = load(MODEL, parts=["diffuser.data.image", "diffuser.context.text"], device="meta")
    with pytest.raises(ValueError, match="The layer diffuser.* is on the meta device"):
        apply_lora(model, FEW_STEPS)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_lora_in_training_acts_in_any_precision(vd, context, dtype):
    half = vd.replace(diffuser=copy.deepcopy(vd.diffuser).to(dtype))
    lora = Lora(half.diffuser, select(half.diffuser, ["context.text:attn2"]), rank=2, alpha=2)
    with lora.attach(half.diffuser):
        drawn = half.sample("image", context, Z, 0, Sampling("dpmpp_2m", 2, cfg=1.0))
    drawn.square().mean().backward()
    gradients = [parameter.grad for parameter in lora.parameters() if parameter.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
