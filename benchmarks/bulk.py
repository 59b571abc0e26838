"""Bulk jobs on Ray: what a second worker brings, and what is left of a job that is killed again and again.

    python benchmarks/bulk.py workers    # rows per second of 1 and of 2 workers, taking turns
    python benchmarks/bulk.py kills      # 500 pictures, killed three times, then one of them changed
    python benchmarks/bulk.py flat       # time and memory per part over 100,000 rows of four kinds of files

Each takes about 3 minutes on two idle cores; `kills --workers 0` does without Ray.
The pictures are those of the embedded model, over again where there are not enough. A worker's rate counts
from the moment when every worker has written its first part, so that starting Ray and loading the model does
not count; both are shown.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.measure import ROOT, compute_ratio
from vd_core.bulk.job import open_job
from vd_core.bulk.parts import locate_part, write_part
from vd_core.bulk.tasks import Settings
from vd_core.datasets.read import Reader
from vd_core.datasets.rows import Row
from vd_core.embedded import FOLDER
from vd_core.pictures import read_picture, to_pil
from vd_core.training.dataset import CaptionedPictures

BATCH = 4


def write_pictures(folder: Path, count: int) -> None:
    """Write so many PNG files."""
    folder.mkdir()
    pictures = to_pil(CaptionedPictures.load(FOLDER).pixels)
    for number in range(count):
        pictures[number % len(pictures)].save(folder / f"{number:04}.png")


def make_command(source: Path, out: Path, workers: int, steps: int) -> list[str]:
    """Return the command of the job: a variation of each picture."""
    options = ["--workers", str(workers), "--steps", str(steps), "--batch", str(BATCH)]
    return [sys.executable, "-m", "vd_core", "bulk", "variation", str(source), str(out), *options]


def measure_rate(out: Path, workers: int) -> float:
    """Measure a finished job in rows per second, from when all workers had written a part to the end."""
    written = sorted(path.stat().st_mtime for path in out.glob("part-*"))
    return (len(written) - workers) * BATCH / (written[-1] - written[workers - 1])


def measure_workers(rows: int, repeats: int, steps: int) -> dict[str, float]:
    """Print and return the medians of the rates, and the ratio of neighbours."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    with TemporaryDirectory() as folder:
        write_pictures(Path(folder, "in"), rows)
        for number in range(repeats):
            for workers, found in rates.items():
                out, start = Path(folder, f"{number}-{workers}"), time.monotonic()
                subprocess.run(
                    make_command(Path(folder, "in"), out, workers, steps),
                    cwd=ROOT,
                    check=True,
                    capture_output=True,
                )
                found.append(measure_rate(out, workers))
                print(
                    f"{workers} workers: {found[-1]:.1f} rows/s; {time.monotonic() - start:.1f} s in all",
                    flush=True,
                )
    result = {"one": median(rates[1]), "two": median(rates[2]), "ratio": compute_ratio(rates[2], rates[1])}
    print(
        f"medians: {result['one']:.1f} and {result['two']:.1f} rows/s; 2 workers do {result['ratio']:.2f} "
        "times as much as 1"
    )
    return result


def kill_and_resume(rows: int, kills: int, steps: int, workers: int) -> bool:
    """Print, and return, whether a job that was killed ends with the files of an uninterrupted one."""
    with TemporaryDirectory() as folder:
        source, whole, killed = (Path(folder, name) for name in ("in", "whole", "killed"))
        write_pictures(source, rows)
        parts = -(-rows // BATCH)
        for wanted in sorted(random.Random(0).sample(range(1, parts), kills)):
            stop(make_command(source, killed, workers, steps), killed, wanted)
            left = [path.name for path in killed.glob(".part-*")]
            print(
                f"killed with {len(list(killed.glob('part-*')))} of {parts} parts written, {len(left)} begun",
                flush=True,
            )
        before = {path.name: path.stat().st_mtime_ns for path in killed.glob("part-*")}
        for out in (killed, whole):
            subprocess.run(
                make_command(source, out, workers, steps), cwd=ROOT, check=True, capture_output=True
            )
        again = [name for name, at in before.items() if (killed / name).stat().st_mtime_ns != at]
        files = [
            {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in out.glob("[!.]*")}
            for out in (killed, whole)
        ]
        found = "the same bytes" if files[0] == files[1] else "DIFFERENT bytes"
        print(f"{rows} rows: {found} in {len(files[0])} files; {len(again)} parts done twice")
        return (
            files[0] == files[1]
            and not again
            and change_and_resume(make_command(source, killed, workers, steps), source, killed)
        )


def change_and_resume(job: Sequence[str], source: Path, out: Path) -> bool:
    """Print, and return, whether a changed picture is refused by name, and then its part alone made anew."""
    changed = sorted(source.iterdir())[len(list(source.iterdir())) // 2]
    changed.write_bytes(
        next(
            path for path in sorted(source.iterdir()) if path.read_bytes() != changed.read_bytes()
        ).read_bytes()
    )
    refused = subprocess.run(job, cwd=ROOT, capture_output=True, text=True)
    print(f"one picture changed: exit status {refused.returncode}, {refused.stderr.strip().splitlines()[-1]}")
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    subprocess.run([*job, "--accept-changes"], cwd=ROOT, check=True, capture_output=True)
    anew = [
        path.name for path in sorted(out.glob("part-*")) if path.stat().st_mtime_ns != before.get(path.name)
    ]
    part = f"part-{int(changed.stem) // BATCH:06d}.tar"
    print(f"with --accept-changes made anew: {', '.join(anew)} of {len(before)} parts")
    return refused.returncode == 1 and changed.name in refused.stderr and anew == [part]


def write_rows(folder: Path, count: int) -> None:
    """Write pictures as a quarter each: files, a shard, a compressed shard and a parquet file."""
    import pyarrow
    from pyarrow import parquet

    (folder / "in").mkdir()
    contents = []
    for picture in to_pil(CaptionedPictures.load(FOLDER).pixels):
        contents.append(io.BytesIO())
        picture.save(contents[-1], "PNG")
    files = [contents[number % len(contents)].getvalue() for number in range(count // 4)]
    for number, content in enumerate(files):
        (folder / "in" / f"file{number:06}.png").write_bytes(content)
    for name, mode in (("shard.tar", "w"), ("shard.tar.gz", "w:gz")):
        with tarfile.open(folder / "in" / name, mode) as shard:
            for number, content in enumerate(files):
                member = tarfile.TarInfo(f"{number:06}.png")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    parquet.write_table(
        pyarrow.table({"image": files}), folder / "in" / "table.parquet", row_group_size=count
    )


def measure_flatness(rows: int, batch: int = 100) -> None:
    """Print CPU time per part and memory over all parts: pictures read, results written, no model."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_rows(folder, rows)
        settings, start = Settings("embed"), time.monotonic()
        job = open_job(folder / "in", folder / "out", settings, batch)
        listed, memory = time.monotonic() - start, read_peak_memory()
        print(
            f"{len(job.rows)} rows listed and read for their fingerprints in {listed:.0f} s, {memory:.0f} MB "
            "at most"
        )
        reader, seconds = Reader(), {}
        for number in job.missing():
            start = time.process_time()  # on a busy machine it varies less
            part = [Row(*row) for row in json.loads(json.dumps(job.part(number)))]
            pictures = [read_picture(reader.read(row), row.id) for row in part]
            results = [
                {"id": row.id, "error": "", "embedding": list(picture.size)}
                for row, picture in zip(part, pictures, strict=True)
            ]
            write_part(locate_part(job.out, "embed", number), results, number * batch)
            kind = Path(part[0].id.partition("#")[0]).suffix
            seconds.setdefault(kind, []).append(time.process_time() - start)
        for kind, times in seconds.items():
            tenth = len(times) // 10
            first, last = median(times[1 : 1 + tenth]), median(times[-tenth:])
            print(
                f"{kind}: {first * 1000:.0f} ms of CPU per part of {batch} rows at first, {last * 1000:.0f} "
                "ms at last"
            )
        print(f"{read_peak_memory():.0f} MB at most over all parts")


def read_peak_memory() -> float:
    """Return the largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def stop(job: Sequence[str], out: Path, parts: int) -> None:
    """Kill a job with all its processes once it has written so many parts."""
    process = subprocess.Popen(
        job, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and len(list(out.glob("part-*"))) < parts:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 1 when rows differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="what", required=True)
    for name, rows, steps in (("workers", 128, 20), ("kills", 500, 2), ("flat", 100_000, 0)):
        option = commands.add_parser(name).add_argument
        option("--rows", type=int, default=rows)
        option("--steps", type=int, default=steps)
        option("--repeats" if name == "workers" else "--kills", type=int, default=3, dest="times")
        if name == "kills":
            option("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    if options.what == "kills":
        is_whole = kill_and_resume(options.rows, options.times, options.steps, options.workers)
        return 0 if is_whole else 1
    if options.what == "flat":
        measure_flatness(options.rows)
        return 0
    measure_workers(options.rows, options.times, options.steps)
    return 0


if __name__ == "__main__":
    sys.exit(main())
