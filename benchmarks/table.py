"""Tables of Markdown from records: `python benchmarks/table.py RECORD.json… [--into docs/speed.md]`.

--into replaces what lies between the lines `<!-- benchmarks -->` and `<!-- /benchmarks -->` of a page.
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


def case(row: dict) -> str:
    """What was measured, in short."""
    picture = f", {row['pixels']} px" if "pixels" in row and row.get("what") not in ("image-to-text", "text-to-text", "captions") else ""
    return f"{row['what']}, {row['size']}{picture}, batch {row['batch']}, {row['dtype']}"


def others(row: dict) -> str:
    """How many times as long the contestants take."""
    return ", ".join(f"{name} {value:.2f}×" for name, value in row["ratios"].items())


def mebibytes(count: float) -> str:
    """Bytes in MiB."""
    return f"{count / 2**20:.0f} MiB"


Column = tuple[str, Callable[[dict], str]]
COLUMNS: dict[str, list[Column]] = {
    "speed": [
        ("speed", case),
        ("seconds", lambda row: f"{row['medians']['ours']:.3g}"),
        ("the others take", others),
        ("GFLOP/s", lambda row: f"{row['achieved_flops'] / 1e9:.0f}" if "share" in row else ""),
        ("of the matrix rate", lambda row: f"{row['share']:.0%}" if "share" in row else ""),
    ],
    "memory": [
        ("memory", case),
        ("weights", lambda row: mebibytes(row["ours"]["weights"])),
        ("at most", lambda row: mebibytes(row["peak"])),
        ("baseline", lambda row: f"{mebibytes(row['baseline_peak'])}, {row['ratio']:.2f}×"),
    ],
    "load": [
        ("from file to first step", lambda row: f"{row['what']}, {row['size']}, {row['file_dtype']} → {row['dtype']}"),
        ("seconds", lambda row: f"{row['medians']['ours']:.3g}"),
        ("of reading alone", lambda row: f"{row['to_reading']['ours']:.2f}× (plain {row['to_reading']['plain']:.2f}×)"),
        ("peak of the weights", lambda row: f"{row['peak_to_weights']:.2f}×"),
    ],
    "quality": [
        ("distance to the first of them", lambda row: row["what"]),
        ("evaluations", lambda row: f"{row['evaluations']}"),
        *((flow, lambda row, flow=flow: f"{row['distance'][flow]:.2g}") for flow in FLOWS),
    ],
    "scaling": [
        ("cost against", lambda row: f"{row['what']}; {row['flow']}, {row['size']}, {row['dtype']}"),
        ("from … to", lambda row: f"{row['sizes'][0]:g} … {row['sizes'][-1]:g}"),
        ("the last takes", lambda row: f"{row['seconds']['ours'][-1] / row['seconds']['ours'][0]:.2f}× the first"),
        ("exponent", lambda row: f"{row['exponents']['ours']:.2f}"),
        ("baseline", lambda row: f"{row['exponents']['baseline']:.2f}"),
    ],
}


def table(record: dict) -> str:
    """One record as a table, under a line that says where it was measured and how to measure it again."""
    columns, machine = COLUMNS[record["benchmark"]], record["machine"]
    lines = [[title for title, _ in columns], ["---"] * len(columns)]
    lines += [[cell(row) for _, cell in columns] for row in record["rows"]]
    where = f"{machine['cpu']}, {machine['cores']} cores" + ("" if machine["device"] == "cpu" else f", {machine['device']}")
    busy = "" if machine["load"] is None else f", load {machine['load']:.1f}"
    heading = (
        f"{where} ({', '.join(machine['flags'])}), {machine['threads']} threads{busy}, torch {machine['torch']}: `{record['command']}`"
    )
    return heading + "\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def inserted(page: str, tables: str) -> str:
    """A page with new tables between its marks. Raises ValueError for a page without them."""
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"The page has no lines {START.strip()} and {END.strip()} to put the tables between.")
    return before + START + tables + END + after


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of some records, or put them into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, help="a page with the two marks")
    options = parser.parse_args(arguments)
    tables = "\n".join(table(json.loads(path.read_text(encoding="utf-8"))) for path in options.records)
    if options.into is None:
        print(tables)
    else:
        options.into.write_text(inserted(options.into.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()
