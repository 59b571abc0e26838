"""A third kind of data beside pictures and texts: from its config, an encoder and an autoencoder, with no
word of it in the code."""

import ast
import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

from research.melodies import autoencoder
from research.melodies.encoder import encode_melody
from research.melodies.evaluate import count_parameters, sample
from research.melodies.melodies import HOLD, REST, draw_roll, recognise, spell, write_songbook, write_wav
from research.melodies.train import KIND, extend, grow, train
from vd_core.checkpoints.load import load
from vd_core.checkpoints.lora import apply_lora, save_lora
from vd_core.checkpoints.report import inspect
from vd_core.config import DataConfig, VDConfig
from vd_core.diffuser.model import Diffuser
from vd_core.embedded import FOLDER, MODEL
from vd_core.flows import VersatileDiffusion
from vd_core.sampling.options import Sampling
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.lora import Lora, select

CORE = Path(__file__).resolve().parents[2] / "vd_core"
# Where the code asks whether something is a picture or a text, and why that stops no other kind.
QUESTIONS = {
    "bulk/tasks.py": "a task reads pictures or texts",
    "checkpoints/pipeline_config.py": "diffusers' pipelines may lack the image UNet",
    "context.py": "which token of CLIP's a mean norm is measured by",
    "training/diffuser.py": "official sampling takes other unconditional tokens for pictures",
    "checkpoints/contexts.py": "CLIP's global token of a picture has norm 1",
    "checkpoints/key_maps.py": "Stable Diffusion's transformers are those of texts",
    "checkpoints/parts.py": "the two towers of CLIP",
    "encoders/clip.py": "the two towers of CLIP",
    "interpolation.py": "texts turn CLIP's embeddings of pictures",
    "training/flow_sheets.py": "a user's folder holds pictures and captions",
}


@pytest.fixture(scope="module")
def data():
    every = CaptionedPictures.load(FOLDER)
    few = every.train[::70]
    return replace(
        every,
        images=every.images[few],
        name=every.name[few],
        style=every.style[few],
        is_held_out=every.is_held_out[few],
    )


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """Return the file of the new layers after three steps, and the model without and with them."""
    old = load(MODEL)
    batches = dict.fromkeys(
        (
            ("melody", "text"),
            ("melody", "image"),
            ("melody", "melody"),
            ("text", "melody"),
            ("image", "melody"),
        ),
        3,
    )
    file = train(old, data, tmp_path_factory.mktemp("run"), steps=3, batches=batches)
    return file, old, load([file, MODEL])


def test_no_code_of_the_core_knows_the_kind():
    assert not [path for path in CORE.rglob("*.py") if "melod" in path.read_text(encoding="utf-8").lower()]


def test_the_core_asks_for_a_kind_in_few_places_only():
    asking = set()
    for path in CORE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            if any(isinstance(side, ast.Constant) and side.value in ("image", "text") for side in sides):
                asking.add(path.relative_to(CORE).as_posix())
    assert asking == set(QUESTIONS)


def test_a_kind_is_data():
    config = extend(VDConfig())
    assert list(config.diffuser.data) == ["image", "text", "melody"] == list(config.diffuser.context)
    assert VDConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    sizes = json.loads(KIND.read_text())
    assert config.diffuser.data["melody"] == DataConfig(**sizes["data"]["melody"])


def test_melodies_pass_the_autoencoder_and_the_encoder():
    book = write_songbook(["rocket", "bus", "red apple"], 5).flatten(0, 1)
    latents = autoencoder.encode(book)
    assert latents.shape == (15, 64) and set(latents.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(autoencoder.decode(latents + 0.9 * torch.rand_like(latents).sub(0.5)), book)
    context = encode_melody(book)
    assert context.tokens.shape == (15, 16, 256)
    torch.testing.assert_close(context.tokens.norm(dim=2), torch.ones(15, 16))
    assert (torch.cdist(context.tokens.flatten(1), context.tokens.flatten(1)) > 0.5).sum() == 15 * 14


def test_melodies_spell_names_in_rhythms(data, tmp_path):
    assert spell("abc", 0).tolist() == [2, HOLD, 3, HOLD, 4, HOLD] * 2 + [2, HOLD, 3, HOLD]
    assert spell("Z z", 3).tolist() == [REST, 3] * 8 and spell("am", 4).tolist() == [2, 4] * 8
    book = write_songbook(data.names, 5)
    assert len(book.flatten(0, 1).unique(dim=0)) == 5 * len(data.names) and int(book.max()) <= 15
    played = book[7, 3].clone()
    played[5] = REST if played[5] else HOLD  # one wrong token does not matter
    assert [int(x) for x in recognise(played[None], book)] == [7, 3]
    # the lowest note lies below
    assert draw_roll(spell("a", 1)).shape == (3, 64, 64) and draw_roll(spell("a", 1))[0, 56:60].max() < 0.9
    write_wav(tmp_path / "a.wav", spell("bee", 0))
    assert (tmp_path / "a.wav").stat().st_size > 2 * 16 * 2000
    for name, style in (("123", 0), ("bee", 5)):
        with pytest.raises(ValueError, match="cannot be played"):
            spell(name, style)


def test_only_the_new_layers_are_trained(trained):
    _, old, new = trained
    start, state = grow(old).diffuser.state_dict(), new.diffuser.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in old.diffuser.state_dict().items())
    moved = [
        key
        for key in state
        if key not in old.diffuser.state_dict() and not torch.equal(state[key], start[key].half().float())
    ]
    assert {key.split(".")[1] for key in moved} == {"melody"} and {key.split(".")[0] for key in moved} == {
        "data",
        "context",
    }


def test_the_four_flows_are_bit_equal_with_the_new_layers_present(trained, data):
    _, old, new = trained
    given = {"image": old.encode_image(data.pixels[:2]), "text": old.encode_text(data.captions[:2])}
    for output, kind in product(old.config.diffuser.data, given):
        assert torch.equal(sample(old, output, given[kind]), sample(new, output, given[kind]))


def test_all_nine_flows_run(trained, data):
    file, _, new = trained
    melodies = write_songbook(data.names, 5)[data.name[:2], data.style[:2]]
    given = [new.encode_image(data.pixels[:2]), new.encode_text(data.captions[:2]), encode_melody(melodies)]
    shapes = {"image": (2, 16, 8, 8), "text": (2, 64), "melody": (2, 64)}
    for context in given:
        for output, shape in shapes.items():
            latents = sample(new, output, context)
            assert (
                latents.shape == shape
                and latents.isfinite().all()
                and not torch.equal(latents[0], latents[1])
            )
    blended, alone = (
        new.sample("melody", some, torch.zeros(2, 64), 1, Sampling(steps=3)) for some in (given, given[:1])
    )
    assert blended.isfinite().all() and not torch.equal(blended, alone)
    flows = inspect([file, MODEL])["flows"]
    assert len(flows) == 9 and not any(flows.values())


def test_parameters_of_separate_models_are_counted():
    config = extend(VDConfig.tiny()).diffuser
    one, many = count_parameters(config)

    def size(data, contexts):
        return sum(p.numel() for p in Diffuser(config, data, contexts).parameters())

    assert one == size(config.data, config.context)
    assert (
        many == sum(size([data], [kind]) for data, kind in product(config.data, config.context)) > 2.5 * one
    )


def test_a_lora_for_pictures_fits_a_model_with_a_second_kind_of_pictures(tmp_path):
    tiny = VDConfig.tiny().diffuser
    two = replace(tiny, data=tiny.data | {"sketch": DataConfig("2d", channels=1, side=8)})
    torch.manual_seed(0)
    source, target = Diffuser(tiny), Diffuser(two)
    lora = Lora(source, select(source, ["data.image", "context.text:attn"]), 2, 2.0)
    for layer in lora.layers:
        torch.nn.init.ones_(layer.up)
    save_lora(tmp_path / "lora.safetensors", lora.changes(), tiny, ["image"])
    before = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    model = VersatileDiffusion(replace(VDConfig.tiny(), diffuser=two), target)
    assert apply_lora(model, tmp_path / "lora.safetensors") == len(lora.layers)
    changed = {
        ".".join(key.split(".")[:2])
        for key, tensor in target.state_dict().items()
        if not torch.equal(tensor, before[key])
    }
    assert changed == {"data.image", "context.text"}
