"""The benchmarks compute what they claim to compare; at tiny sizes, seconds in all."""

import argparse
import json
import os
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from benchmarks import bulk, load, measure, memory, quality, scaling, speed, table
from benchmarks.baseline import count_flops, make_plain_diffuser, make_plain_step, use_plain_attention
from benchmarks.cases import FLOWS, SIZES, Case
from vd_core.context import Context
from vd_core.diffuser.layers import Attention

TINY = {flow: Case(SIZES["tiny"], data, kinds, pixels=64, batch=2) for flow, (data, kinds) in FLOWS.items()}


@pytest.mark.parametrize("flow", FLOWS)
@torch.inference_mode()
def test_the_baseline_computes_the_same_step(flow):
    case = TINY[flow]
    ours, plain = (
        speed.make_step(case, case.diffuser)(),
        make_plain_step(case, make_plain_diffuser(case.diffuser))(),
    )
    assert ours.std() > 0.1
    assert (
        ours - plain
    ).abs().max() < 2e-4 * ours.abs().max()  # float32 on the way to values of about 10, guided


def test_plain_attention_is_plain_only_inside_and_reads_emphasis():
    torch.manual_seed(0)
    attention, x, emphasis = Attention(8, 2), torch.randn(2, 5, 8), torch.tensor([[1.0, 0, 2, 0.5, 1]])
    product = attention(x, x, emphasis)
    with use_plain_attention():
        torch.testing.assert_close(attention(x, x, emphasis), product)
        assert Attention.forward.__name__ == "attend_by_einsum"
    assert Attention.forward.__name__ == "forward"


def test_the_baseline_is_dense_float32_and_shares_what_is_so_already():
    diffuser = TINY["text-to-image"].diffuser
    assert (
        make_plain_diffuser(diffuser).time_embed.linear_1.weight.data_ptr()
        == diffuser.time_embed.linear_1.weight.data_ptr()
    )
    half = replace(TINY["text-to-image"], dtype=torch.bfloat16).diffuser.to(memory_format=torch.channels_last)
    weights = list(make_plain_diffuser(half).parameters())
    assert all(weight.dtype == torch.float32 and weight.is_contiguous() for weight in weights)


# Published: 1.607, 1.637 and 2.407 TFLOP, counted on the official modules.
@pytest.mark.parametrize(
    "flow, teraflops", [("text-to-image", 1.607), ("image-variation", 1.637), ("dual", 2.407)]
)
def test_flops_of_a_guided_step_at_full_size(flow, teraflops):
    data, kinds = FLOWS[flow]
    assert count_flops(Case(SIZES["full"], data, kinds, pixels=512)) / 1e12 == pytest.approx(
        teraflops, abs=5e-4
    )


def test_contestants_take_turns():
    calls = []
    seconds = measure.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3  # the first round does not count
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}


def test_ratios_are_of_neighbours():
    """A machine that is ten times slower in the second round changes no ratio."""
    assert measure.compute_ratios({"ours": [1.0, 10.0, 1.0], "plain": [2.0, 20.0, 2.0]}) == {"plain": 2.0}


def test_speed_writes_what_it_measured(tmp_path):
    file = tmp_path / "speed.json"
    arguments = [
        "--size",
        "tiny",
        "--pixels",
        "64",
        "--repeats",
        "1",
        "--only",
        "text-to-text",
        "captions",
        "--json",
        str(file),
    ]
    rows = speed.main(arguments)
    record = json.loads(file.read_text())
    assert (
        record["rows"] == rows
        and record["benchmark"] == "speed"
        and record["machine"]["torch"] == torch.__version__
    )
    flow, captions = rows
    assert (flow["what"], captions["what"]) == ("text-to-text", "captions")
    assert flow["medians"]["ours"] == pytest.approx(flow["flops"] / flow["achieved_flops"])
    assert flow["share"] == pytest.approx(flow["achieved_flops"] / flow["matrix_flops"])


def test_compiled_steps_are_of_the_same_weights_and_their_distance_is_told(capsys):
    diffuser = TINY["text-to-image"].diffuser
    twin = speed.compile_twin(diffuser, "reduce-overhead")
    assert twin.compiled.mode == "reduce-overhead" and diffuser.compiled is None
    assert all(
        one.data_ptr() == other.data_ptr()
        for one, other in zip(twin.parameters(), diffuser.parameters(), strict=True)
    )
    figures = speed.time_first_step(lambda: torch.full((4,), 1.5), lambda: torch.ones(4))
    assert (
        figures["difference"] == 0.5
        and f"{figures['first']:.3g} s, 0.5 from eager" in capsys.readouterr().out
    )


def test_exponents_of_exact_powers():
    a, k = scaling.fit_exponent([1, 2, 4], [3.0, 12.0, 48.0])
    assert (a, k) == (pytest.approx(3), pytest.approx(2))
    with pytest.raises(ValueError, match="two sizes"):
        scaling.fit_exponent([2, 2], [1.0, 1.0])


def test_scaling_measures_fits_and_draws(tmp_path, monkeypatch):
    monkeypatch.setitem(scaling.POINTS, "steps", (1, 3))
    arguments = [
        "--size",
        "tiny",
        "--pixels",
        "64",
        "--repeats",
        "1",
        "--only",
        "steps",
        "--plots",
        str(tmp_path),
    ]
    (row,) = scaling.main(arguments)
    assert row["sizes"] == [1, 3] and len(row["seconds"]["ours"]) == len(row["seconds"]["baseline"]) == 2
    assert (tmp_path / "scaling-steps.png").stat().st_size > 1000


def test_a_file_of_the_layers_that_a_flow_needs(tmp_path):
    """Loaded it gives a step of full variance; every tensor's bytes are read, and no more."""
    options = argparse.Namespace(scratch=tmp_path, size="tiny", flow="image-to-text", file_dtype="float16")
    case = TINY["image-to-text"]
    path = load.write_random_file(case, options)
    diffuser = load.load(path, parts=load.list_flow_parts(case)).diffuser
    assert list(diffuser.data) == ["text"] and list(diffuser.context) == ["image"]
    assert sum(map(len, load.read_bytes(path))) == 2 * sum(weight.numel() for weight in diffuser.parameters())
    plain = load.load_plainly(path, case).state_dict()
    assert all(torch.equal(weight, plain[key]) for key, weight in diffuser.state_dict().items())
    with torch.inference_mode():
        assert speed.make_step(case, diffuser)().isfinite().all()


def test_memory_counts_a_step_and_its_weights():
    options = argparse.Namespace(size="tiny", pixels=64, batch=1, device="cpu", dtype="float32")
    row = memory.measure_case("text-to-image", "ours", options)
    assert row["weights"] == 4 * sum(weight.numel() for weight in TINY["text-to-image"].diffuser.parameters())
    assert measure.read_memory("VmHWM") >= measure.read_memory("VmRSS") > row["weights"]


def test_tables_stand_between_the_marks():
    row = {
        "what": "dual",
        "size": "tiny",
        "pixels": 64,
        "batch": 2,
        "dtype": "float32",
        "medians": {"ours": 0.5},
        "ratios": {"baseline": 1.5},
    }
    written = table.write_table(
        {
            "benchmark": "speed",
            "machine": measure.describe_machine("cpu"),
            "command": "python x",
            "rows": [row],
        }
    )
    assert (
        "| dual, tiny, 64 px, batch 2, float32 | 0.5 | baseline 1.50× |" in written
        and "`python x`" in written
    )
    page = f"a\n{table.START}old\n{table.END}b\n"
    assert table.insert(page, written) == f"a\n{table.START}{written}{table.END}b\n"
    with pytest.raises(ValueError, match="between"):
        table.insert("a\n", written)


def test_the_summary_has_one_line_for_each_case(tmp_path):
    row = {
        "what": "dual",
        "size": "tiny",
        "pixels": 64,
        "batch": 2,
        "dtype": "float32",
        "medians": {"ours": 0.5},
    }
    pixels = {"what": "pixels", "flow": "dual", "size": "tiny", "dtype": "float32", "sizes": [4.096, 65.536]}
    pixels |= {"exponents": {"ours": 1.0, "baseline": 1.0}, "seconds": {"ours": [1.0, 2.0]}}
    rows = {
        "speed": [row | {"ratios": {"baseline": 1.5}}, {"what": "backbone"}],
        "scaling": [pixels],
        "quality": [{}],
    }
    records = [{"benchmark": name, "rows": those} for name, those in rows.items()]
    again = {
        "benchmark": "speed",
        "rows": [row | {"medians": {"ours": 0.7}, "ratios": {"baseline": 1.6, "core": 1.2}}],
    }
    line = (
        "| guided step: dual, tiny, 64 px, batch 2, float32 | 0.5 s | the official code's way takes 1.50×, "
        "ComfyUI's UNet takes 1.20× |"
    )
    assert table.write_summary([*records, again]).splitlines()[2:] == [line]
    assert table.describe_extent(pixels) == "4096 … 65536"
    record, page = tmp_path / "record.json", tmp_path / "page.md"
    record.write_text(json.dumps(again))
    page.write_text(table.START + table.END)
    table.main([str(record), "--summary", str(page)])
    assert "| 0.7 s | the official code's way takes 1.60×" in page.read_text()


def test_rows_per_second_count_from_when_all_workers_run(tmp_path):
    for number, at in enumerate((100.0, 130.0, 131.0, 132.0)):  # a second worker that starts late
        part = tmp_path / f"part-{number:06}.tar"
        part.touch()
        os.utime(part, (at, at))
    assert bulk.measure_rate(tmp_path, workers=2) == 2 * bulk.BATCH / 2.0
    assert bulk.measure_rate(tmp_path, workers=1) == 3 * bulk.BATCH / 32.0


def test_a_job_is_killed_where_it_stands(tmp_path):
    code = (
        "import pathlib, time\nfor i in range(9): pathlib.Path(f'part-{i}').touch(); "
        "time.sleep(0.2)\ntime.sleep(60)"
    )
    bulk.stop([sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r})\n{code}"], tmp_path, parts=3)
    assert 3 <= len(list(tmp_path.iterdir())) < 9


def test_quality_is_the_distance_to_the_first_setting(model, monkeypatch):
    """Few steps here: more of them are nearer, and float32 is next to float64."""
    few = {
        "many": quality.Setting("ddim", 8),
        "half": quality.Setting("ddim", 4),
        "two": quality.Setting("ddim", 2),
    }
    interval = {"guided at first": quality.Setting("ddim", 4, quality.GuidanceOptions(end=0.4))}
    monkeypatch.setitem(quality.TABLES, "steps", few | interval)
    monkeypatch.setitem(
        quality.TABLES,
        "bits",
        {"float64": quality.Setting("ddim", 2, dtype=torch.float64), "float32": few["two"]},
    )
    tokens = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(3))
    contexts = {kind: Context(kind, F.normalize(tokens, dim=-1)) for kind in ("text", "image")}
    monkeypatch.setattr(quality, "read_contexts", lambda model, samples: contexts)
    many, half, two, at_first = quality.measure_distances(model, "steps", 2)
    assert [row["evaluations"] for row in (many, half, two, at_first)] == [16, 8, 4, 5]
    for flow in FLOWS:
        assert many["distance"][flow] == 0 < half["distance"][flow] < two["distance"][flow]
    _, single = quality.measure_distances(model, "bits", 2)
    # The group norms of the tiny text flow run over two values and amplify rounding.
    assert all(
        0 < value < (1e-3 if FLOWS[flow][0] == "image" else 0.2) for flow, value in single["distance"].items()
    )
    written = table.write_table(
        {
            "benchmark": "quality",
            "machine": measure.describe_machine("cpu"),
            "command": "x",
            "rows": [many, half],
        }
    )
    assert "| many | 16 | 0 |" in written
