"""Precision and device of a model and of what it is given."""

import pytest
import torch

from vd_core import MODEL, Sampling, load
from vd_core.diffuser.precision import choose_dtype, find_fastest_dtype
from vd_core.placement import convert_for, warn_of_half
from vd_core.sampling.noise import sample_noise


@pytest.fixture(scope="module", params=[torch.float16, torch.bfloat16], ids=str)
def half(request):
    return load(MODEL, dtype=request.param)


@pytest.fixture(scope="module")
def embedded():
    return load(MODEL)


def picture():
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_every_part_takes_and_gives_float32(half, embedded):
    """Half weights between float32 pictures and latents, as README's lines use them."""
    latents = half.image_vae.encode(picture())
    decoded = half.image_vae.decode(latents)
    assert latents.dtype == decoded.dtype == torch.float32
    torch.testing.assert_close(
        decoded, embedded.image_vae.decode(embedded.image_vae.encode(picture())), atol=0.1, rtol=0
    )
    context = half.encode_text("red apple, flat style")
    # half precision may be slow here
    contexts, few = (
        [context, half.encode_image(picture())],
        Sampling(steps=2),
    )
    drawn = half.sample("image", contexts, torch.zeros(1, 16, 8, 8), sample_noise(1), few)
    assert drawn.dtype == torch.float32 and drawn.isfinite().all()
    words = half.text_vae.encode("red apple")
    assert half.text_vae.decode(words.float(), torch.Generator(), temperature=0)


def test_a_model_is_described_and_moved():
    vd = load(MODEL, parts=["image_vae"], dtype=torch.float16)
    assert repr(vd).splitlines() == [
        "VersatileDiffusion(no flow)",
        "  image_vae: 2,819,187 parameters, float16, on cpu",
    ]
    assert vd.to(dtype=torch.float32) is vd and vd.image_vae.quant_conv.weight.dtype == torch.float32
    assert vd.to(torch.float64).image_vae.quant_conv.weight.dtype == torch.float64
    assert vd.device == torch.device("cpu") and vd.to("meta").device == torch.device("meta")


def test_weights_of_a_loaded_model_are_frozen():
    vd = load(MODEL, parts=["image_vae"])
    assert not any(parameter.requires_grad for parameter in vd.image_vae.parameters())
    assert not vd.image_vae.decode(torch.zeros(1, 16, 8, 8)).requires_grad


SENTENCES = [
    (lambda vd: vd.encode_text("sun"), "The text encoder is on the meta device"),
    (lambda vd: vd.encode_image(picture()), "The image encoder is on the meta device"),
    (lambda vd: vd.image_vae.decode(torch.zeros(1, 16, 8, 8)), "The image autoencoder is on the meta device"),
    (lambda vd: vd.text_vae.encode("a"), "The text autoencoder is on the meta device"),
    (
        lambda vd: vd.text_vae.decode(torch.zeros(1, vd.text_vae.config.latent_width), torch.Generator()),
        "The text autoencoder is on",
    ),
]


@pytest.fixture(scope="module")
def nowhere():
    return load(MODEL).to("meta")


@pytest.mark.parametrize("call, sentence", SENTENCES)
def test_weights_without_values_end_in_a_sentence(nowhere, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(nowhere)


def test_what_is_given_must_be_on_the_weights_device(embedded):
    with pytest.raises(ValueError, match="latents given to the image autoencoder are on the meta device"):
        embedded.image_vae.decode(torch.zeros(1, 16, 8, 8, device="meta"))

    class There(torch.Tensor):
        """A tensor on a device that this machine does not have."""

        device = torch.device("cuda:0")

    with pytest.raises(
        ValueError, match="The latents are on cuda:0 and the image autoencoder is on cpu: move them together"
    ):
        convert_for(torch.zeros(1), torch.zeros(1).as_subclass(There), "latents", "image autoencoder")


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"device": "cuda:99"}, "cannot be used here"),
        ({"device": "nowhere"}, "cannot be used here"),
        ({"dtype": "float16"}, "Weights are of torch.float32"),
        ({"dtype": torch.int8}, "Weights are of torch.float32"),
    ],
)
def test_other_devices_and_types_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        load(MODEL, parts=["image_vae"], **options)


def test_it_moves_as_a_torch_module_does(embedded):
    for arguments, options in (
        ((torch.float64,), {}),
        (("cpu", torch.float64), {}),
        ((), {"dtype": torch.float64, "device": "cpu"}),
    ):
        assert {weight.dtype for weight in embedded.to(*arguments, **options).weights().values()} == {
            torch.float64
        }
        embedded.to(torch.float32)


def test_float16_on_a_cpu_is_said_to_be_slow_once(caplog):
    warn_of_half.cache_clear()
    for _ in range(2):
        load(MODEL, parts=["image_vae"], dtype=torch.float16)
    assert [entry.message for entry in caplog.records] == [
        "float16 is many times slower on a CPU than float32: choose float32, or bfloat16."
    ]


def test_types_are_chosen_by_name():
    assert choose_dtype("bfloat16", "cpu") == torch.bfloat16 and choose_dtype("auto", "cuda") == torch.float16
    assert choose_dtype("auto", "cpu") == find_fastest_dtype()
