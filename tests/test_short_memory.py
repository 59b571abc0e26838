"""Where there is no memory for a batch, the autoencoder takes it in parts, to the same pictures; a part that is too large is told."""

import importlib

import pytest
import torch

import run_workflow


@pytest.fixture(scope="module")
def host():
    """The standalone host's modules."""
    pack = run_workflow.load_pack(name="versatile_diffusion_short_of_memory")
    return lambda name: importlib.import_module(f"{pack.__name__}.nodes.host.{name}")


@pytest.fixture
def vae(host):
    """The embedded model's VAE."""
    return host("standalone").load_image_vae(host("standalone").MODEL)


def short(work, most, error):
    """The same work for batches up to a size; asked is what it was asked for."""
    asked = []

    def limited(batch):
        asked.append(len(batch))
        if len(batch) > most:
            raise error
        return work(batch)

    return limited, asked


CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


@pytest.mark.parametrize("error", [CPU, torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_batches_are_halved_to_the_same_pictures(vae, monkeypatch, error):
    latents = torch.randn(5, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        pictures = vae.decode(latents)
        again = vae.encode(pictures)
        for name, given, whole in (("decode", latents, pictures), ("encode", pictures, again)):
            limited, asked = short(getattr(vae.autoencoder, name), 2, error)
            monkeypatch.setattr(vae.autoencoder, name, limited)
            torch.testing.assert_close(getattr(vae, name)(given), whole, atol=2e-5, rtol=1e-4)
            assert asked == [5, 3, 2, 1, 2]


def test_one_picture_too_large_is_told(vae, host, monkeypatch):
    monkeypatch.setattr(vae.autoencoder, "decode", short(vae.autoencoder.decode, 0, CPU)[0])
    with pytest.raises(RuntimeError) as raised:
        vae.decode(torch.zeros(2, 16, 8, 8))
    assert host("runner").out_of_memory(raised.value)


def test_other_errors_are_not_tried_again(vae, monkeypatch):
    limited, asked = short(vae.autoencoder.decode, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    monkeypatch.setattr(vae.autoencoder, "decode", limited)
    with pytest.raises(RuntimeError, match="shapes"):
        vae.decode(torch.zeros(2, 16, 8, 8))
    assert asked == [2]
