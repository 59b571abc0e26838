"""MODELs on cards with little memory: core brings every weight layer by layer, or keeps 8 bits of each, and
no result changes."""

import pytest

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def found(inside):
    """What `small_cards_in_comfyui.py` prints."""
    return inside("small_cards_in_comfyui.py", "--use-pytorch-cross-attention")[0]


@pytest.mark.parametrize("data", ["image", "text"])
def test_all_weights_come_layer_by_layer_and_change_nothing(found, data):
    """The script also ran it with all of them left behind, where any that is not brought stops it."""
    assert found[data]["outside"] == {}
    assert found[data]["bytes"] == -8000  # core's own table of 1000 noise levels, twice, is no layer
    assert found[data]["partly loaded"] is True and found[data]["partly loaded, changed"] == 0


@pytest.mark.parametrize("data", ["image", "text"])
def test_weights_of_8_bits_are_rounded_and_nothing_else(found, data):
    assert found[data]["8 bits"] is True and found[data]["8 bits, changed"] == 0


def test_image_variation_at_512_pixels_fits_small_cards(found):
    whole, text = found["image variation at 512 px"], found["caption"]
    for what, counted in (("image variation, 512 px", whole), ("caption", text)):
        figures = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in counted.items())
        print(f"{what}, float16: {figures}")
        assert (
            counted["outside"] == 0
            and counted["layer by layer"] < counted["largest"] + counted["half a step"]
        )
    assert whole["weights"] + whole["step"] < 2 * 2**30
    assert whole["layer by layer"] < 100 * 2**20
