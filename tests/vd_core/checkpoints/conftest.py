"""The tiny model, as a model and as a file."""

import pytest
import torch
from checkpoint_files import CONFIG, VOCABULARIES

from vd_core.autoencoders.image_kl import AutoencoderKL
from vd_core.autoencoders.optimus import Optimus
from vd_core.checkpoints.parts import collect_state
from vd_core.checkpoints.write import save_model
from vd_core.diffuser.model import Diffuser
from vd_core.encoders.clip import Clip
from vd_core.flows import VersatileDiffusion


@pytest.fixture(scope="module")
def model() -> VersatileDiffusion:
    torch.manual_seed(0)
    return VersatileDiffusion(
        CONFIG,
        Diffuser(CONFIG.diffuser),
        Clip(CONFIG.clip),
        AutoencoderKL(CONFIG.image_vae),
        Optimus(CONFIG.text_vae, VOCABULARIES),
    )


@pytest.fixture(scope="module")
def state(model) -> dict[str, torch.Tensor]:
    return collect_state(model)


@pytest.fixture
def own(model, tmp_path):
    """Return the model as a file of our own layout, with its vocabularies."""
    path = tmp_path / "own.safetensors"
    save_model(path, model, VOCABULARIES)
    return path
