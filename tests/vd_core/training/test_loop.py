"""The training loop: resuming, averaging, learning rate, logs and damaged checkpoints."""

import json
from itertools import pairwise

import pytest
import torch
from torch import nn

from vd_core.training.loop import Group, fit, learning_rate

TRAINED_ON = {"data": "abc"}


def tiny_module(seed=0):
    """Make a module with all that a checkpoint must hold: parameters, both kinds of buffers, dropout."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))


def tiny_losses(module, generator):
    x = torch.randn(16, 3, generator=generator)
    yield "first", (module(x)[:, 0] - x.sum(dim=1)).square().mean()
    yield "second", (module(x)[:, 1] - x.prod(dim=1)).square().mean()


def stopped_at(step):
    """Return the losses, until the process is killed."""
    calls = []

    def losses(module, generator):
        calls.append(1)
        if len(calls) > step:
            raise KeyboardInterrupt
        yield from tiny_losses(module, generator)

    return losses


def train(out, module=None, losses=tiny_losses, steps=12, **options):
    return fit(
        module or tiny_module(),
        losses,
        out,
        **{"steps": steps, "lr": 0.01, "trained_on": TRAINED_ON, "save_every": 5, **options},
    )


def test_clipped_apart_one_sides_gradients_do_not_matter_to_the_other(tmp_path):
    """The first side's gradients change by a factor of a million from step to step; the second one learns as
    if alone."""

    def losses(module, generator):
        scale = 1e3 if torch.rand(1, generator=generator) < 0.5 else 1e-3
        yield "first", scale * module[0].weight.sum()
        yield "second", 0.01 * module[1].weight.square().sum()

    def run(name, **options):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
        groups = [Group(list(side.parameters())) for side in module]
        return train(tmp_path / name, module, losses, ema=0, groups=groups, **options)[1].weight

    def alone(module, generator):
        yield "second", 0.01 * module[1].weight.square().sum()

    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    wanted = train(tmp_path / "alone", module, alone, ema=0, groups=[Group(list(module[1].parameters()))])[
        1
    ].weight
    torch.testing.assert_close(run("apart", clip_apart=True), wanted)
    assert not torch.allclose(run("together"), wanted, rtol=1e-2)


def checkpoint(out):
    return torch.load(out / "checkpoint.pt", weights_only=True)


def assert_same_states(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_killed_and_resumed_is_uninterrupted_bit_for_bit(tmp_path):
    whole = train(tmp_path / "whole")
    torch.manual_seed(123)  # the resumed process has another past
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "parts", losses=stopped_at(8))
    assert checkpoint(tmp_path / "parts")["step"] == 5
    torch.rand(7)
    resumed = train(tmp_path / "parts", module=tiny_module(seed=9))
    assert_same_states(resumed.state_dict(), whole.state_dict())
    ours, theirs = checkpoint(tmp_path / "parts"), checkpoint(tmp_path / "whole")
    assert_same_states(ours["module"], theirs["module"])
    for number, state in theirs["optimizer"]["state"].items():
        assert_same_states(ours["optimizer"]["state"][number], state)


def test_a_finished_run_is_only_loaded(tmp_path):
    whole = train(tmp_path)

    def never(module, generator):
        raise AssertionError

    again = train(tmp_path, module=tiny_module(seed=9), losses=never)
    assert_same_states(again.state_dict(), whole.state_dict())


def test_the_result_is_the_average_in_eval_mode(tmp_path):
    module, weights, averages = tiny_module(), [], []
    weights.append({key: value.clone() for key, value in module.state_dict().items()})

    def sheet(average, out):
        assert not average.training and out == tmp_path
        weights.append({key: value.clone() for key, value in module.state_dict().items()})
        averages.append({key: value.clone() for key, value in average.state_dict().items()})

    result = train(tmp_path, module, save_every=1, sheet=sheet, ema=0.3)
    expected = weights[0]
    for step, (state, average) in enumerate(zip(weights[1:], averages, strict=True)):
        decay = min(0.3, (1 + step) / (10 + step))
        for key, value in state.items():
            expected[key] = (
                decay * expected[key] + (1 - decay) * value if value.is_floating_point() else value
            )
            torch.testing.assert_close(average[key], expected[key])
    assert_same_states(result.state_dict(), averages[-1])
    assert not result.training and not any(p.requires_grad for p in result.parameters())
    assert not torch.equal(result[0].weight, module[0].weight)


def test_other_data_are_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(
        ValueError,
        match="holds another run: data is xyz, there it was abc. Choose an empty folder, or the same data.",
    ):
        train(tmp_path, trained_on={"data": "xyz"})


def test_losses_of_one_step_add_up(tmp_path):
    def together(module, generator):
        yield "both", sum(loss for _, loss in tiny_losses(module, generator))

    def first(module, generator):
        yield next(tiny_losses(module, generator))

    parts, whole, half = (
        train(tmp_path / name, losses=losses)
        for name, losses in (("a", tiny_losses), ("b", together), ("c", first))
    )
    for a, b in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(parts[3].weight, half[3].weight, rtol=1e-3, atol=1e-4)


def test_it_learns(tmp_path):
    module = nn.Linear(3, 1)

    def losses(module, generator):
        x = torch.randn(64, 3, generator=generator)
        yield "sum", (module(x)[:, 0] - x.sum(dim=1)).square().mean()

    result = train(tmp_path, module, losses, steps=600, save_every=600, lr=0.05, weight_decay=0)
    torch.testing.assert_close(result.weight, torch.ones(1, 3), rtol=0, atol=0.01)


def test_seeds_and_steps_draw_other_numbers(tmp_path):
    seen = []

    def losses(module, generator):
        seen.append(torch.rand(1, generator=generator).item())
        yield "none", 0 * module[0].weight.sum()

    for seed in (0, 1, 0):
        train(tmp_path / f"{seed}{len(seen)}", losses=losses, steps=3, seed=seed)
    assert len(set(seen)) == 6 and seen[:3] == seen[6:]


def test_the_journal_holds_means_since_the_last_record(tmp_path):
    means = iter(range(1000))

    def losses(module, generator):
        yield "count", 0 * module[0].weight.sum() + float(next(means))

    train(tmp_path, losses=losses, steps=30, save_every=30)
    train(tmp_path, losses=losses, steps=60, save_every=60)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(record["step"], record["count"]) for record in records] == [(30, 14.5), (50, 39.5), (60, 54.5)]


def test_learning_rate():
    rates = [learning_rate(step, 1000, 0.5) for step in range(1000)]
    assert rates[0] == pytest.approx(0.5 / 200) and rates[99] == pytest.approx(0.25) and rates[199] == 0.5
    assert set(rates[199:751]) == {0.5}
    assert rates[875] == pytest.approx(0.25) and rates[999] == pytest.approx(0.5 / 250)
    differences = [b - a for a, b in pairwise(rates)]
    assert all(d > 0 for d in differences[:199]) and all(d < 0 for d in differences[750:])
    assert [learning_rate(step, 4000, 0.5) for step in range(751)] == rates[:751]


def test_short_runs_have_a_learning_rate():
    assert all(0 < learning_rate(step, 3, 0.5) <= 0.5 for step in range(3))


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "bit":  # in a tensor, where torch itself sees nothing
        content[content.index((torch.load(path)["module"]["0.weight"]).numpy().tobytes()) + 2] ^= 1
    path.write_bytes(content[: len(content) // 2] if how == "cut" else b"" if how == "empty" else content)
    if how == "other":
        torch.save({"step": 3}, path)


@pytest.mark.parametrize("how", ["bit", "cut", "empty", "other"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, caplog, how):
    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", losses=stopped_at(11))
    damage(tmp_path / "run" / "checkpoint.pt", how)
    resumed = train(tmp_path / "run")
    assert (
        "checkpoint.pt is damaged" in caplog.text
        and "going on from the checkpoint before it, of step 5" in caplog.text
    )
    assert_same_states(resumed.state_dict(), whole.state_dict())


def test_where_both_checkpoints_are_damaged_nothing_is_written(tmp_path):
    train(tmp_path)
    for name in ("checkpoint.pt", "checkpoint.before.pt"):
        damage(tmp_path / name, "cut")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        ValueError,
        match="checkpoint.pt and .*before.pt cannot be read: put back a whole copy, or delete them",
    ):
        train(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_of_other_layers_is_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(ValueError, match="is one of other layers: choose an empty folder"):
        train(tmp_path, module=nn.Linear(3, 2))


def test_a_killed_save_leaves_the_checkpoint_before_it(tmp_path):
    train(tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").rename(tmp_path / "run" / "checkpoint.before.pt")
    assert_same_states(train(tmp_path / "run").state_dict(), train(tmp_path / "whole").state_dict())


def test_damaged_lines_of_the_log_are_left_out(tmp_path, caplog):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, losses=stopped_at(8))
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"step": "x"}\n\xff\x00\n[1]\n{"step": 7, "secon')
    train(tmp_path)
    assert "log.jsonl: 4 damaged lines are left out" in caplog.text
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [
        5,
        10,
        12,
    ]


def test_changes_are_refused_spelled_out_or_accepted(tmp_path):
    train(tmp_path, steps=5)
    other = {"data": "xyz", "lr": 0.5}
    with pytest.raises(ValueError, match="data is xyz, there it was abc; lr is 0.5, there it was None"):
        train(tmp_path, trained_on=other)
    train(tmp_path, trained_on=other, accept_changes=True)
    assert checkpoint(tmp_path)["accepted"] == [
        "at step 5: data is xyz, there it was abc; lr is 0.5, there it was None"
    ]
    train(tmp_path, accept_changes=True)  # nothing is left to train, and it is recorded all the same
    assert checkpoint(tmp_path)["accepted"][1:] == [
        "at step 12: data is abc, there it was xyz; lr is None, there it was 0.5"
    ]
    train(tmp_path)


def test_one_run_at_a_time(tmp_path):
    def again(module, generator):
        train(tmp_path)
        yield from tiny_losses(module, generator)

    with pytest.raises(ValueError, match="is in use by another run"):
        train(tmp_path, losses=again)


@pytest.mark.parametrize("seed", [2**62, 2**63 - 1])
def test_large_seeds_are_seeds(tmp_path, seed):
    train(tmp_path, steps=2, seed=seed)


def test_no_warmup_is_full_rate_at_once():
    assert learning_rate(0, 100, 0.5, warmup=0) == 0.5
