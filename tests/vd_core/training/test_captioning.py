"""Training of texts from images against captions known by heart: few patches, and context layers that are
taught by others."""

import pytest
import torch

from vd_core.config import DataConfig, DiffuserConfig, ScheduleConfig
from vd_core.context import Context
from vd_core.diffuser.model import Diffuser
from vd_core.sampling.schedule import Schedule
from vd_core.training import captioning
from vd_core.training.captioning import KEPT, captioning_losses, keep_few_patches, matching_loss
from vd_core.training.diffuser import FlowData

SIZES = DiffuserConfig(
    model_channels=32,
    channel_mult=(1,),
    num_res_blocks=(1,),
    attention=(True,),
    num_heads=2,
    data={"text": DataConfig("0d", channels=8, second_dim=2)},
    context={"image": 16, "text": 16},
)
NULLS = {"image": torch.zeros(2, 65, 16), "text": torch.zeros(1, 3, 16)}


@pytest.fixture
def diffuser():
    torch.manual_seed(0)
    return Diffuser(SIZES)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def match(diffuser, said, seen):
    x, t = torch.randn(4, 8, generator=generator(1)), torch.tensor([10, 400, 800, 990])
    return matching_loss(diffuser, "text", x, t, Context("text", said), Context("image", seen))


def test_layers_that_say_the_same_have_nothing_to_learn(diffuser):
    tokens, others = (torch.randn(4, 5, 16, generator=generator(seed)) for seed in (2, 3))
    diffuser.context["image"].load_state_dict(diffuser.context["text"].state_dict())
    assert match(diffuser, tokens, tokens).item() == 0
    assert match(diffuser, tokens, others).item() > 1e-3


def test_a_pupil_that_adds_nothing_is_wrong_by_all_that_the_teacher_adds(diffuser):
    tokens = torch.randn(4, 5, 16, generator=generator(2))
    for layer in diffuser.context["image"]:
        torch.nn.init.zeros_(layer.proj_out.weight)
        torch.nn.init.zeros_(layer.proj_out.bias)
    expected, h = [], []
    x, t = torch.randn(4, 8, generator=generator(1)), torch.tensor([10, 400, 800, 990])
    with torch.no_grad():
        diffuser(
            x, t, [Context("text", tokens)], "text", trace=lambda step, value: h.append((step.op, value))
        )
    for (_, before), (op, after) in zip(h, h[1:], strict=False):
        if op == "context":
            expected.append((after - before).square().mean() / (after - before).var())
    assert match(diffuser, tokens, tokens).item() == pytest.approx(
        float(torch.stack(expected).mean()), rel=1e-5
    )


def test_only_the_pupils_layers_learn(diffuser):
    match(diffuser, *(torch.randn(4, 5, 16, generator=generator(seed)) for seed in (2, 3))).backward()
    learning = {
        name.split(".")[0] + "." + name.split(".")[1]
        for name, p in diffuser.named_parameters()
        if p.grad is not None
    }
    assert learning == {"context.image"} and all(
        p.grad is not None for p in diffuser.context["image"].parameters()
    )


def test_a_teacher_that_adds_nothing_yet_does_no_harm(diffuser):
    for layer in [*diffuser.context["text"], *diffuser.context["image"]]:
        torch.nn.init.zeros_(layer.proj_out.weight)
        torch.nn.init.zeros_(layer.proj_out.bias)
    tokens = torch.randn(4, 5, 16, generator=generator(2))
    assert match(diffuser, tokens, tokens).item() == 0


def test_few_patches_are_seen_and_always_the_global_token():
    tokens = torch.arange(3 * 65.0).reshape(3, 65, 1)
    seen = keep_few_patches(tokens, generator())
    assert seen.shape == (3, 1 + KEPT, 1) and torch.equal(seen[:, 0], tokens[:, 0])
    for row, whole in zip(seen[:, 1:, 0].tolist(), tokens[:, 1:, 0].tolist(), strict=True):
        assert len(set(row)) == KEPT and set(row) < set(whole)
    assert not torch.equal(seen, keep_few_patches(tokens, generator(1)))


def test_what_is_dropped_is_dropped_for_teacher_and_pupil(diffuser, monkeypatch):
    heard = []

    def listen(diffuser, data, x, t, teacher, pupil):
        heard.append((teacher.tokens, pupil.tokens))
        return x.sum()

    monkeypatch.setattr(captioning, "matching_loss", listen)
    rows = torch.arange(1.0, 7)[:, None, None]
    flows = FlowData(
        {"text": torch.zeros(6, 8)},
        {"image": rows.expand(6, 65, 16), "text": -rows.expand(6, 3, 16)},
        NULLS,
    )
    next(
        captioning_losses(flows, torch.arange(6), Schedule(ScheduleConfig()), 200, dropout=0.3)(
            diffuser, generator()
        )
    )
    ((said, seen),) = heard
    assert torch.equal(said[:, 0, 0], -seen[:, 0, 0])  # the same sample, or both unconditional
    assert 0.2 < (said[:, 0, 0] == 0).float().mean() < 0.4


def test_pictures_of_one_thing_are_mixed_and_stay_more_themselves(diffuser, monkeypatch):
    heard = []
    monkeypatch.setattr(captioning, "MIXED", 1.0)
    monkeypatch.setattr(
        captioning,
        "matching_loss",
        lambda diffuser, data, x, t, teacher, pupil: heard.append((teacher.tokens, pupil.tokens)) or x.sum(),
    )
    names, rows = torch.tensor([2, 0, 2, 0, 1, 2]), torch.eye(6, 16)[:, None]
    flows = FlowData(
        {"text": torch.zeros(6, 8)}, {"image": rows.expand(6, 65, 16), "text": rows.expand(6, 3, 16)}, NULLS
    )
    next(captioning_losses(flows, names, Schedule(ScheduleConfig()), 300, dropout=0.0)(diffuser, generator()))
    own, parts = heard[0][0][:, 0, :6].argmax(dim=1), heard[0][1][:, 0, :6]
    torch.testing.assert_close(parts.sum(dim=1), torch.ones(300))
    assert (parts[torch.arange(300), own] >= 0.5).all() and (parts > 0).sum(dim=1).max() == 2
    mixed = (parts > 0).float() @ torch.nn.functional.one_hot(names).float()
    assert ((mixed > 0).sum(dim=1) == 1).all()  # of one name
    met = {(int(a), int(b)) for a, row in zip(own, parts, strict=True) for b in row.nonzero()[:, 0]}
    assert met == {(a, b) for a in range(6) for b in range(6) if names[a] == names[b]}


def test_both_losses_fall(diffuser):
    made = generator(5)
    flows = FlowData(
        {"text": torch.randn(4, 8, generator=made)},
        {
            "image": torch.randn(4, 1, 16, generator=made).expand(4, 65, 16),
            "text": torch.randn(4, 3, 16, generator=made),
        },
        NULLS,
    )
    learned = [
        p for name, p in diffuser.named_parameters() if name.startswith(("context.image.", "data.text."))
    ]
    optimizer = torch.optim.Adam(learned, lr=3e-3)
    losses, seen = captioning_losses(flows, torch.arange(4), Schedule(ScheduleConfig(prediction="v")), 32), []
    for step in range(200):
        optimizer.zero_grad()
        seen.append({})
        for name, loss in losses(diffuser, generator(step)):
            loss.backward()
            seen[-1][name] = loss.item()
        optimizer.step()
    for name in ("match", "captions"):
        first, last = (sum(each[name] for each in part) for part in (seen[:20], seen[-20:]))
        print(f"{name}: {first / 20:.3f} -> {last / 20:.3f}")
        assert last < 0.9 * first
