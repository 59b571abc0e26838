"""Write tables of Markdown from records.

`python benchmarks/table.py RECORD.json… [--into docs/benchmarks.md] [--summary docs/speed.md]`

--into replaces what lies between the lines `<!-- benchmarks -->` and `<!-- /benchmarks -->` of a page;
--summary does so with one short table for users of them all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.cases import FLOWS

START, END = "<!-- benchmarks -->\n", "<!-- /benchmarks -->\n"


def describe_case(row: dict) -> str:
    """Describe what was measured, in short."""
    picture = (
        f", {row['pixels']} px"
        if "pixels" in row and row.get("what") not in ("image-to-text", "text-to-text", "captions")
        else ""
    )
    return f"{row['what']}, {row['size']}{picture}, batch {row['batch']}, {row['dtype']}"


def describe_others(row: dict) -> str:
    """Describe how many times as long the contestants take."""
    return ", ".join(f"{name} {value:.2f}×" for name, value in row["ratios"].items())


def describe_extent(row: dict) -> str:
    """Describe the first and the last point of a curve; those of pixels are kept in thousands."""
    return " … ".join(
        f"{round(1000 * size) if row['what'] == 'pixels' else size:g}"
        for size in (row["sizes"][0], row["sizes"][-1])
    )


def write_mebibytes(count: float) -> str:
    """Write bytes in MiB."""
    return f"{count / 2**20:.0f} MiB"


Column = tuple[str, Callable[[dict], str]]
COLUMNS: dict[str, list[Column]] = {
    "speed": [
        ("speed", describe_case),
        ("seconds", lambda row: f"{row['medians']['ours']:.3g}"),
        ("the others take", describe_others),
        ("GFLOP/s", lambda row: f"{row['achieved_flops'] / 1e9:.0f}" if "share" in row else ""),
        ("of the matrix rate", lambda row: f"{row['share']:.0%}" if "share" in row else ""),
    ],
    "memory": [
        ("memory", describe_case),
        ("weights", lambda row: write_mebibytes(row["ours"]["weights"])),
        ("at most", lambda row: write_mebibytes(row["peak"])),
        ("baseline", lambda row: f"{write_mebibytes(row['baseline_peak'])}, {row['ratio']:.2f}×"),
    ],
    "load": [
        (
            "from file to first step",
            lambda row: f"{row['what']}, {row['size']}, {row['file_dtype']} → {row['dtype']}",
        ),
        ("seconds", lambda row: f"{row['medians']['ours']:.3g}"),
        (
            "of reading alone",
            lambda row: f"{row['to_reading']['ours']:.2f}× (plain {row['to_reading']['plain']:.2f}×)",
        ),
        ("peak of the weights", lambda row: f"{row['peak_to_weights']:.2f}×"),
    ],
    "quality": [
        ("distance to the first of them", lambda row: row["what"]),
        ("evaluations", lambda row: f"{row['evaluations']}"),
        *((flow, lambda row, flow=flow: f"{row['distance'][flow]:.2g}") for flow in FLOWS),
    ],
    "scaling": [
        ("cost against", lambda row: f"{row['what']}; {row['flow']}, {row['size']}, {row['dtype']}"),
        ("from … to", describe_extent),
        (
            "the last takes",
            lambda row: f"{row['seconds']['ours'][-1] / row['seconds']['ours'][0]:.2f}× the first",
        ),
        ("exponent", lambda row: f"{row['exponents']['ours']:.2f}"),
        ("baseline", lambda row: f"{row['exponents']['baseline']:.2f}"),
    ],
}


def write_table(record: dict) -> str:
    """Write one record as a table, under a line that says where it was measured, and how."""
    columns, machine = COLUMNS[record["benchmark"]], record["machine"]
    lines = [[title for title, _ in columns], ["---"] * len(columns)]
    lines += [[cell(row) for _, cell in columns] for row in record["rows"]]
    where = f"{machine['cpu']}, {machine['cores']} cores" + (
        "" if machine["device"] == "cpu" else f", {machine['device']}"
    )
    busy = "" if machine["load"] is None else f", load {machine['load']:.1f}"
    heading = (
        f"{where} ({', '.join(machine['flags'])}), {machine['threads']} threads{busy}, torch "
        f"{machine['torch']}: `{record['command']}`"
    )
    return heading + "\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


NAMES = {
    "baseline": "the official code's way takes",
    "diffusers": "diffusers' UNet takes",
    "core": "ComfyUI's UNet takes",
    "eager": "not compiled it takes",
}
Line = tuple[str, str, list[str]]  # what, its figure, what that is compared with


def write_speed(row: dict) -> Line | None:
    """Write the line of a guided step, or of captions; SeeCoder's backbone is in the whole tables."""
    if row["what"] == "backbone":
        return None
    captions = row["what"] == "captions"
    names = {**NAMES, "baseline": "without a cache it takes"} if captions else NAMES
    what = f"{'decoding' if captions else 'guided step'}: {describe_case(row)}"
    return (
        what,
        f"{row['medians']['ours']:.2g} s",
        [f"{names[name]} {value:.2f}×" for name, value in row["ratios"].items()],
    )


def write_scaling(row: dict) -> Line | None:
    """Write the line of what a batch of texts costs."""
    if row["what"] != "batch" or FLOWS[row["flow"]][0] != "text":
        return None
    last, first = row["seconds"]["ours"][-1], row["seconds"]["ours"][0]
    return (
        f"guided step: {row['flow']}, {row['size']}, batch {row['sizes'][-1]}, {row['dtype']}",
        f"{last:.2g} s",
        [f"{last / first:.2f}× the time of one"],
    )


def write_memory(row: dict) -> Line:
    """Write the line of the most that a step holds."""
    return (
        f"memory: {describe_case(row)}",
        write_mebibytes(row["peak"]),
        [f"{NAMES['baseline']} {row['ratio']:.2f}×"],
    )


def write_load(row: dict) -> Line:
    """Write the line of loading, against reading the file."""
    compared = [
        f"{row['to_reading']['ours']:.2f}× the time of reading alone",
        f"memory {row['peak_to_weights']:.2f}× the weights",
    ]
    what = f"file to first step: {row['what']}, {row['size']}, {row['file_dtype']} → {row['dtype']}"
    return what, f"{row['medians']['ours']:.2g} s", compared


SUMMARIES: dict[str, Callable[[dict], Line | None]] = {
    "speed": write_speed,
    "scaling": write_scaling,
    "memory": write_memory,
    "load": write_load,
}


def write_summary(records: Sequence[dict]) -> str:
    """Write one table of what users ask first. A case that was measured in several runs stands in one line,
    with the figures of the first."""
    lines: dict[str, tuple[str, dict[str, None]]] = {}
    for record in records:
        line_of = SUMMARIES.get(record["benchmark"], lambda row: None)
        for what, figure, compared in filter(None, map(line_of, record["rows"])):
            _, all_compared = lines.setdefault(what, (figure, {}))
            known = {text.rpartition(" ")[0] for text in all_compared}
            all_compared.update(
                dict.fromkeys(text for text in compared if text.rpartition(" ")[0] not in known)
            )
    body = "".join(
        f"| {what} | {figure} | {', '.join(compared)} |\n" for what, (figure, compared) in lines.items()
    )
    return f"| what | figure | compared |\n| --- | --- | --- |\n{body}"


def insert(page: str, tables: str) -> str:
    """Return a page with new tables between its marks. Raises ValueError for a page without them."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(
            f"The page has no lines {START.strip()} and {END.strip()} to put the tables between."
        )
    return before + START + tables + END + after


def replace(page: Path, tables: str) -> None:
    """Put tables into a page. Raises ValueError as `inserted`."""
    page.write_text(insert(page.read_text(encoding="utf-8"), tables), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of some records, or put them into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, help="a page with the two marks, for all tables")
    parser.add_argument("--summary", type=Path, help="a page with the two marks, for one short table")
    options = parser.parse_args(arguments)
    records = [json.loads(path.read_text(encoding="utf-8")) for path in options.records]
    if options.summary is not None:
        replace(options.summary, write_summary(records))
    if options.into is not None:
        replace(options.into, "\n".join(map(write_table, records)))
    if options.into is None and options.summary is None:
        print("\n".join(map(write_table, records)))


if __name__ == "__main__":
    main()
