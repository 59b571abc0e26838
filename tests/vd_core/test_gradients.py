"""Gradients through encoding, sampling and decoding, against central differences, and nothing kept where none
are asked for.
"""

import copy

import pytest
import torch

from vd_core import MODEL, Context, Sampling, load
from vd_core.sampling.energy import Energy

CLOSE = 1e-3  # of the derivative
SAMPLINGS = {
    "ddim": Sampling(steps=3, cfg=2.0),
    "unipc": Sampling("unipc", steps=4, cfg=2.0, spacing="linspace"),
    "img2img": Sampling("dpmpp_2m", steps=4, cfg=1.5, strength=0.75),
    "pndm": Sampling("pndm", steps=3, cfg=2.0),
}


@pytest.fixture(scope="module")
def vd():
    """In float64, so that differences are exact enough."""
    return load(
        MODEL,
        parts=["diffuser.data.image", "diffuser.context.image", "diffuser.context.text", "image_vae"],
        dtype=torch.float64,
    )


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def unit(tokens):
    return tokens / tokens[:, :1].norm(dim=-1, keepdim=True)


TEXT, IMAGE, LATENT, NOISE, WAY = (
    unit(draw(1, 5, 160)),
    unit(draw(1, 6, 160)),
    draw(1, 16, 4, 4),
    draw(1, 16, 4, 4),
    draw(1, 16, 4, 4),
)


def loss(vd, sampling, tokens=TEXT, latent=LATENT, noise=NOISE):
    """Return a scalar of what is drawn under two contexts, decoded."""
    contexts = [Context("image", IMAGE, weight=0.6), Context("text", tokens, 0.5 * TEXT, weight=0.4)]
    drawn = vd.sample("image", contexts, latent, noise, sampling)
    return (drawn * WAY).sum() + vd.image_vae.decode_unclamped(drawn).square().mean()


def check(value, gradient, direction, step=1e-4):
    """Compare <gradient, direction> with the central difference along it."""
    with torch.no_grad():
        difference = (value(step) - value(-step)) / (2 * step)
    assert difference.abs() > 1e-6
    assert (gradient * direction).sum().item() == pytest.approx(difference.item(), rel=CLOSE)


@pytest.mark.parametrize("name", SAMPLINGS)
def test_gradients_reach_tokens(vd, name):
    tokens, direction = TEXT.clone().requires_grad_(), draw(1, 5, 160) / 30
    loss(vd, SAMPLINGS[name], tokens).backward()
    check(lambda step: loss(vd, SAMPLINGS[name], TEXT + step * direction), tokens.grad, direction)


@pytest.mark.parametrize("which", ["latent", "noise"])
def test_gradients_reach_latents_and_noise(vd, which):
    given = {"latent": LATENT, "noise": NOISE}[which]
    leaf, direction = given.clone().requires_grad_(), draw(1, 16, 4, 4)
    loss(vd, SAMPLINGS["img2img"], **{which: leaf}).backward()
    check(
        lambda step: loss(vd, SAMPLINGS["img2img"], **{which: given + step * direction}), leaf.grad, direction
    )


@pytest.mark.parametrize(
    "part", ["context.text.0.transformer_blocks.0.attn2.to_k", "data.image.1.conv1", "time_embed.linear_1"]
)
def test_gradients_reach_weights_that_require_them(vd, part):
    trained = vd.replace(diffuser=copy.deepcopy(vd.diffuser))
    names = dict(trained.diffuser.named_parameters())
    weight = names[f"{part}.weight"].requires_grad_()
    loss(trained, SAMPLINGS["ddim"]).backward()
    direction = draw(*weight.shape) * weight.detach().abs().mean()

    def value(step):
        weight.add_(step * direction)
        result = loss(trained, SAMPLINGS["ddim"])
        weight.sub_(step * direction)
        return result

    check(value, weight.grad, direction)
    assert sum(parameter.grad is not None for parameter in names.values()) == 1


def test_nothing_is_kept_where_no_gradient_is_asked_for(vd):
    drawn = vd.sample("image", Context("text", TEXT), LATENT, NOISE, SAMPLINGS["ddim"])
    assert not drawn.requires_grad and not drawn.is_inference()
    drawn += 1  # results are ordinary tensors


def test_results_can_be_learned_from():
    """A loop of a user: encode, then make a parameter of it."""
    vd = load(MODEL, parts=["clip_text", "clip_vision"])
    for context in (vd.encode_text("red apple"), vd.encode_image(torch.rand(1, 3, 64, 64))):
        tokens = torch.nn.Parameter(context.tokens)
        tokens.square().sum().backward()
        assert tokens.grad is not None


def test_energies_do_not_swallow_gradients(vd):
    steered = Sampling(steps=2, energies=[Energy(lambda x0, alpha: x0.square().mean(dim=(1, 2, 3)))])
    with pytest.raises(ValueError, match="Gradients do not pass through samples that energies steer"):
        loss(vd, steered, TEXT.clone().requires_grad_())
    with torch.no_grad():
        loss(vd, steered, TEXT.clone().requires_grad_())


def test_half_precision_on_the_cpu_has_gradients_too():
    """bfloat16 attention is written out block by block there, into memory that autograd must follow."""
    vd = load(MODEL, parts=["diffuser.data.image", "diffuser.context.text"], dtype=torch.bfloat16)
    tokens = TEXT.float().requires_grad_()
    vd.sample(
        "image", Context("text", tokens), LATENT.float(), NOISE.float(), SAMPLINGS["ddim"]
    ).sum().backward()
    assert tokens.grad.isfinite().all() and tokens.grad.abs().max() > 0
