"""Where there is no memory for a batch, the autoencoder takes it in parts, to the same pictures; a part that
is too large is told.

What no memory of this machine could hold, 16,384 x 16,384, is refused before it is tried: the tensors here
have that shape, and one number.
"""

import importlib
import io

import pytest
import torch
from PIL import Image
from rounding import assert_rounded

from runner.core_nodes import LoadImage
from runner.pack import load_pack
from vd_core.memory import is_out_of_memory


@pytest.fixture(scope="module")
def host():
    """Return the standalone host's modules."""
    pack = load_pack(name="versatile_diffusion_short_of_memory")
    return lambda name: importlib.import_module(f"{pack.__name__}.nodes.host.{name}")


@pytest.fixture
def vae(host):
    """Return the embedded model's VAE."""
    return host("standalone").load_image_vae(host("standalone").MODEL)


def short(work, most, error):
    """Return the same work for batches up to a size; asked is what it was asked for."""
    asked = []

    def limited(batch):
        asked.append(len(batch))
        if len(batch) > most:
            raise error
        return work(batch)

    return limited, asked


CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "9 bytes."
)


@pytest.mark.parametrize("error", [CPU, torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_batches_are_halved_to_the_same_pictures(vae, monkeypatch, error):
    latents = torch.randn(5, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pictures = vae.decode(latents)
        again = vae.encode(pictures)
        for name, given, whole in (("decode", latents, pictures), ("encode", pictures, again)):
            limited, asked = short(getattr(vae.autoencoder, name), 2, error)
            monkeypatch.setattr(vae.autoencoder, name, limited)
            assert_rounded(getattr(vae, name)(given), whole)
            assert asked == [5, 3, 2, 1, 2]


def test_one_picture_too_large_is_told(vae, host, monkeypatch):
    monkeypatch.setattr(vae.autoencoder, "decode", short(vae.autoencoder.decode, 0, CPU)[0])
    with pytest.raises(RuntimeError) as raised:
        vae.decode(torch.zeros(2, 16, 8, 8))
    assert is_out_of_memory(raised.value)


def test_other_errors_are_not_tried_again(vae, monkeypatch):
    limited, asked = short(
        vae.autoencoder.decode, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    )
    monkeypatch.setattr(vae.autoencoder, "decode", limited)
    with pytest.raises(RuntimeError, match="shapes"):
        vae.decode(torch.zeros(2, 16, 8, 8))
    assert asked == [2]


@pytest.fixture
def small_machine(host, monkeypatch):
    """Play a machine of 24 GB."""
    memory = importlib.import_module(f"{host('standalone').__name__.partition('.')[0]}.vd_core.memory")
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 6 << 20}.__getitem__)


def test_a_picture_of_16k_is_refused_before_it_is_encoded_or_decoded(vae, small_machine):
    sentence = (
        "A picture of 16384x16384 needs 128 GB of memory or more, this machine has 24 GB: choose a smaller "
        "size or batch."
    )
    for work, shape in ((vae.encode, (1, 16384, 16384, 3)), (vae.decode, (1, 16, 2048, 2048))):
        with pytest.raises(ValueError) as raised:
            work(torch.zeros(1).expand(shape))
        assert str(raised.value) == sentence


def test_a_latent_of_16k_is_refused_before_it_is_sampled(host, small_machine):
    model = host("standalone").load_flow(host("standalone").MODEL, "image", ["text"], "auto")
    assert model.fit(torch.zeros(1, 4, 8, 8)).shape == (1, 16, 8, 8)
    with pytest.raises(
        ValueError,
        match="A step on 1 latents of 2048x2048 needs 40 GB of memory or more, this machine has 24 GB",
    ):
        model.fit(torch.zeros(1).expand(1, 16, 2048, 2048))


def test_pictures_that_are_damaged_or_too_large_are_refused(host, tmp_path):
    load = LoadImage().execute
    Image.new("1", (16384, 16384)).save(tmp_path / "large.png")
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:-200])
    (tmp_path / "words.png").write_text("no picture")
    for name in ("large.png", "cut.png", "words.png"):
        with pytest.raises(ValueError, match=f"{name} cannot be read as a picture: "):
            load(str(tmp_path / name))
    with pytest.raises(FileNotFoundError):
        load(str(tmp_path / "none.png"))
