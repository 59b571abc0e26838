"""Pickles that stand for far more than they hold are refused before torch reads them; those of torch.save are not."""

import time

import pytest
import torch

from seecoder import checkpoints as seecoder_files
from tools.torture.bad_pickles import FORMS, ODD
from vd_core.checkpoints import read as files
from vd_core.checkpoints.pickles import check_pickles

ENDLESS = {
    "nested pairs as a key": "nests more than 1000 values in one",
    "nested wide tuples as a key": "repeats itself within itself|nests more than 1000 values in one",
    "nested pairs called": "nests more than 1000 values in one",
    "nested lists called": "repeats itself within itself",
    "a list in itself": "repeats itself within itself",
    "a million lists": "has more than 1000000 steps",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", list(ENDLESS)[:-1])
def test_endless_pickles_are_refused_at_once(name, form, tmp_path):
    path, started = tmp_path / "model.pth", time.process_time()
    path.write_bytes(FORMS[form](ODD[name]()))
    with pytest.raises(ValueError, match=f"model.pth is truncated or corrupt .its pickle ({ENDLESS[name]})"):
        files.read(path)
    if name != "a list in itself":  # which torch reads
        with pytest.raises(ValueError, match="model.pth is neither a safetensors file nor one of torch.save"):
            seecoder_files.read(path)
    assert time.process_time() - started < 1


def test_steps_and_bytes_are_counted():
    with pytest.raises(ValueError, match=ENDLESS["a million lists"]):
        check_pickles(b"\x80\x02" + b"]" * 1_000_001, 1)
    with pytest.raises(ValueError, match="takes more than 8 MB"):
        check_pickles(b"\x80\x02X\x00\x00\x00\x40" + bytes(99), 1, cut=True)


def test_names_that_are_put_again_are_not_trusted():
    """A place in the memo that once held a name may hold a pair later."""
    pickled = b"\x80\x02}X\x01\x00\x00\x00aq\x00" + b"h\x00\x86q\x00" * 60 + b"K\x01s."
    with pytest.raises(ValueError, match="without end"):
        seecoder_files.check_pickle(pickled)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_what_torch_saves_is_read(new, tmp_path):
    module, path = torch.nn.Linear(3, 3), tmp_path / "model.pth"
    optimizer = torch.optim.AdamW([{"params": [module.weight]}, {"params": [module.bias]}])  # which share a pair of numbers
    module(torch.ones(3)).sum().backward()
    optimizer.step()
    shared = torch.rand(3)
    many = {f"layers.{number}.weight": torch.rand(2, 2) for number in range(300)} | {"a": shared, "b": shared, "c": module.weight}
    for content, count in ((many, 303), ({"state_dict": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, 2)):
        torch.save(content, path, _use_new_zipfile_serialization=new)
        assert len(files.read(path).weights) == len(seecoder_files.read(path)) == count
