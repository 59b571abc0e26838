"""Models by their name on the hub: where the cache has them, and what is said where it lacks some."""

import pytest

from vd_core.checkpoints import hub
from vd_core.checkpoints.hub import COMPONENTS, find_snapshot, is_name
from vd_core.checkpoints.load import load
from vd_core.checkpoints.parts import build, collect_state
from vd_core.config import VDConfig

NAME = "somebody/some-model"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return a Hugging Face cache with some folders of a pipeline; returns what adds one."""
    commit = "0" * 40
    root = tmp_path / "models--somebody--some-model"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda name, file: _from(tmp_path, name, file))

    def add(folder, file=WEIGHTS):
        path = root / "snapshots" / commit / folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        return path.parents[1]

    return add


def _from(cache, name, file):
    from huggingface_hub import try_to_load_from_cache

    return try_to_load_from_cache(name, file, cache_dir=cache)


def test_a_complete_snapshot_is_found(cache):
    folder = [cache(component.folder) for component in COMPONENTS][0]
    assert find_snapshot(NAME) == folder


def test_what_is_missing_is_listed_with_its_bytes(cache):
    cache("vae")
    cache("image_encoder", "model.fp16.safetensors")
    cache("text_encoder", "model.safetensors.index.json")
    with pytest.raises(FileNotFoundError) as caught:
        find_snapshot(NAME)
    assert (
        "lacks the weights in image_unet/ (3,438,083,856 bytes), text_unet/ (6,835,393,792 bytes); together "
        "10,273,477,648" in str(caught.value)
    )
    assert find_snapshot(NAME, ["image_vae", "clip_text"]).name == "0" * 40  # enough for these


def test_load_takes_a_name_and_says_what_is_missing(cache):
    with pytest.raises(FileNotFoundError, match="`versatile-diffusion download` fetches them"):
        load(NAME)


def test_paths_are_no_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        is_name("somebody/some-model")
        and not is_name("model.safetensors")
        and not is_name("/a/b")
        and not is_name("a/b/c")
    )
    (tmp_path / "somebody").mkdir()
    (tmp_path / "somebody" / "some-model").mkdir()
    assert not is_name("somebody/some-model")


@pytest.mark.slow
def test_the_bytes_are_those_of_the_model():
    state = collect_state(build(VDConfig(), {part for component in COMPONENTS for part in component.parts}))
    for component in COMPONENTS:
        prefixes = tuple(f"{part}." for part in component.parts)
        assert component.bytes == sum(
            4 * tensor.numel() for key, tensor in state.items() if key.startswith(prefixes)
        )
