"""Pickles that stand for far more than they hold are refused before torch reads them; those of torch.save are
not.
"""

import time

import pytest
import torch

from tools.torture.bad_pickles import FORMS, ODD
from vd_core.checkpoints.pickles import check_pickles
from vd_core.checkpoints.read import read

KEYS = "contains a dictionary whose keys are neither texts nor numbers; it was refused and not run"
UNREADABLE = "is truncated or corrupt .its pickle cannot be read"
ENDLESS = {
    "nested pairs as a key": KEYS,
    "nested wide tuples as a key": UNREADABLE,
    "nested pairs called": UNREADABLE,
    "nested lists called": UNREADABLE,
    "a list in itself": "holds a list, not a dictionary of tensors",
    "a million lists": "its pickle has more than 500000 steps",
    "a storage of 100 GB": r"claims \d+ bytes",
    "zeros of 100 GB": r"contains code \(torch.zeros\)",
    "bytearray of 25 GB": r"contains code \(builtins.bytearray\)",
}


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("name", ENDLESS)
def test_endless_pickles_are_refused_at_once(name, form, tmp_path):
    path, started = tmp_path / "model.pth", time.process_time()
    path.write_bytes(FORMS[form](ODD[name]()))
    with pytest.raises(ValueError, match=f"model.pth .*{ENDLESS[name]}"):
        read(path)
    assert time.process_time() - started < 3


def test_a_pickle_that_goes_on_beyond_what_is_read_of_it():
    with pytest.raises(ValueError, match="takes more than 8 MB"):
        check_pickles(b"\x80\x02X\x00\x00\x00\x40" + bytes(99), 1, 1000, cut=True)


def saved(content, path, new):
    torch.save(content, path, _use_new_zipfile_serialization=new)
    return path


STRANGE = {
    "sparse_coo": (
        lambda: torch.eye(3).to_sparse(),
        r"contains tensors of a kind that no weights have \(sparse_tensor\)",
    ),
    "sparse_csr": (
        lambda: torch.eye(3).to_sparse_csr(),
        r"contains tensors of a kind that no weights have \(sparse_tensor\)",
    ),
    "meta": (
        lambda: torch.empty(3, device="meta"),
        r"contains tensors of a kind that no weights have \(meta_tensor_no_storage\)",
    ),
    "quantized": (
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8),
        r"no weights have \(qtensor\)",
    ),
    "stride 0": (
        lambda: torch.ones(1).expand(10**6, 10**6),
        "claims a tensor of 1000000000000 numbers where 1 are stored",
    ),
    "overlapping": (
        lambda: torch.ones(12).as_strided((10, 10), (1, 0)),
        "claims a tensor of 100 numbers where",
    ),
    "complex": (
        lambda: torch.ones(3, dtype=torch.complex64),
        "holds a tensor of type complex64, which no weights have: a",
    ),
    "uint16": (
        lambda: torch.ones(3, dtype=torch.uint16),
        "holds a tensor of type uint16, which no weights have: a",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", STRANGE)
def test_tensors_that_are_no_weights(name, new, tmp_path):
    make, sentence = STRANGE[name]
    path = saved({"a": make()}, tmp_path / "model.pth", new)
    if name == "uint16" and not new:
        sentence = "contains numbers of 8 bits or without sign in the format from before torch 1.6"
    with pytest.raises(ValueError, match=f"model.pth .*{sentence}"):
        read(path)


def test_weights_of_eight_bits_and_parameters_are_read(tmp_path):
    tensors = {
        "a": torch.ones(3).to(torch.float8_e4m3fn),
        "b": torch.nn.Parameter(torch.ones(2)),
        "c": torch.ones(3, dtype=torch.int16),
    }
    found = dict(read(saved(tensors, tmp_path / "model.pth", True)).weights)
    assert found["a"].dtype == torch.float8_e4m3fn and not found["b"].requires_grad and found["c"].sum() == 3


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_what_torch_saves_is_read(new, tmp_path):
    module, path = torch.nn.Linear(3, 3), tmp_path / "model.pth"
    # which share a pair of numbers
    optimizer = torch.optim.AdamW([{"params": [module.weight]}, {"params": [module.bias]}])
    module(torch.ones(3)).sum().backward()
    optimizer.step()
    shared = torch.rand(3)
    many = {f"layers.{number}.weight": torch.rand(2, 2) for number in range(300)} | {
        "a": shared,
        "b": shared,
        "c": module.weight,
    }
    for content, count in (
        (many, 303),
        ({"state_dict": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, 2),
    ):
        torch.save(content, path, _use_new_zipfile_serialization=new)
        assert len(read(path).weights) == count
