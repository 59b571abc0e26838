"""What the tests share: one thread, small vocabularies, a model with random weights that has every part, and
the pack."""

import signal
from dataclasses import replace

import pytest
import torch

from runner.pack import load_pack
from tools.figures.nodes import make_functions
from vd_core.autoencoders.image_kl import AutoencoderKL
from vd_core.autoencoders.optimus import Optimus
from vd_core.checkpoints.write import save_model
from vd_core.config import VDConfig
from vd_core.diffuser.model import Diffuser
from vd_core.encoders.clip import Clip
from vd_core.flows import VersatileDiffusion
from vd_core.tokenizers import ClipTokenizer, Gpt2Tokenizer
from vd_core.training.vocabularies import learn_vocabularies

CAPTIONS = ("red apple, noto style", "a cat's hat, flat style", "two dogs don't run, 3d style")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny tensors on a busy machine: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def interrupts_arrive():
    """Restore SIGINT: a shell starts what runs in the background with it ignored, and tests would wait."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def same_numbers_in_every_run():
    """Make what a test draws without a generator of its own independent of the tests before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def vocabularies():
    """Every word of `CAPTIONS` is one token."""
    return learn_vocabularies(CAPTIONS)


@pytest.fixture(scope="session")
def config(vocabularies):
    """Return the tiny model, with these vocabularies."""
    tiny = VDConfig.tiny()
    clip_size = ClipTokenizer(vocabularies.clip_merges).bpe.vocab_size
    gpt2_size = Gpt2Tokenizer(vocabularies.gpt2_vocab, vocabularies.gpt2_merges).eos + 1
    text_vae = replace(
        tiny.text_vae,
        encoder=replace(tiny.text_vae.encoder, vocab_size=len(vocabularies.bert.splitlines())),
        decoder=replace(tiny.text_vae.decoder, vocab_size=gpt2_size),
    )
    return replace(
        tiny, clip=replace(tiny.clip, text=replace(tiny.clip.text, vocab_size=clip_size)), text_vae=text_vae
    )


@pytest.fixture(scope="session")
def model(config, vocabularies):
    """Random weights; nothing may change them."""
    torch.manual_seed(0)
    tokenizer = ClipTokenizer(vocabularies.clip_merges, config.clip.text.positions)
    parts = (
        Diffuser(config.diffuser),
        Clip(config.clip, tokenizer),
        AutoencoderKL(config.image_vae),
        Optimus(config.text_vae, vocabularies),
    )
    for part in parts:
        part.requires_grad_(False)
        for name, parameter in part.named_parameters():
            # norms start as identities, which hides a forgotten weight
            if parameter.ndim == 1 and "norm" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return VersatileDiffusion(config, *parts)


@pytest.fixture(scope="session")
def models(tmp_path_factory, model, vocabularies):
    """Return a models folder with that model as tiny.safetensors."""
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "tiny.safetensors", model, vocabularies)
    return folder


@pytest.fixture(scope="session")
def pack():
    """Return the pack, imported as ComfyUI imports it."""
    return load_pack(name="versatile_diffusion_under_test")


@pytest.fixture(scope="session")
def nodes(pack):
    """Every node as a function of its inputs; defaults are filled in."""
    return make_functions(pack)


@pytest.fixture
def loaded(nodes, models, monkeypatch):
    """Return the outputs of the loaders, by name."""
    monkeypatch.setenv("VD_MODELS", str(models))
    names = ("image_model", "vae", "text_model", "text_vae", "clip", "clip_vision")
    loaders = ("VD_LoadImageModel", "VD_LoadTextModel", "VD_LoadClip", "VD_LoadClipVision")
    return dict(
        zip(
            names,
            (output for loader in loaders for output in nodes[loader](model="tiny.safetensors")),
            strict=True,
        )
    )
