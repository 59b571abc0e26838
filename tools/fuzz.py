"""Fuzz the parsers of foreign files with atheris, guided by coverage; needs `pip install atheris`.

    python -m tools.fuzz weights CORPUS [--seconds N]      # a libFuzzer option may follow: -- -max_len=4096

A new corpus begins with small good files, without which chance would not get past the first check. A parser
may refuse a file with a ValueError or OSError of one sentence; anything else is a fault and is kept in
CORPUS_faults. The minimal cases of `tests/vd_core/checkpoints/fuzzed/` are replayed by the test suite.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

LONGEST = 1500  # letters of a sentence
# What coverage is measured in: not the Rust (tokenizers) and the C (json) that vocabularies are parsed in.
INSTRUMENTED = [
    "vd_core",
    "seecoder",
    "runner",
    "zipfile",
    "tarfile",
    "pickletools",
    "gzip",
    "open_clip.tokenizer",
]
REFUSALS = (ValueError, OSError)


def load_weights(path: Path) -> None:
    """Open a file of weights and read its tensors, in the whole model and as it is."""
    from vd_core.checkpoints.load import load
    from vd_core.checkpoints.read import read

    for key, tensor in read(path).weights.items():
        assert key and tensor.device.type == "cpu"
    load(path)


def load_context(path: Path) -> None:
    """Load a file as a context."""
    from vd_core.checkpoints.contexts import load_context

    assert load_context(path, None, False).tokens.isfinite().all()


def load_lora(path: Path) -> None:
    """Read a file as a LoRA of the tiny model."""
    from vd_core.checkpoints.lora import read_lora
    from vd_core.config import VDConfig
    from vd_core.diffuser.model import Diffuser

    if not hasattr(load_lora, "diffuser"):
        load_lora.diffuser = Diffuser(VDConfig.tiny().diffuser)
    read_lora(path, load_lora.diffuser)


def load_config(path: Path) -> None:
    """Read a file as the sizes of a model in JSON, as the settings of a pipeline's part, and as the index of
    shards.
    """
    from vd_core.checkpoints.formats import WeightsFile
    from vd_core.checkpoints.load import read_file_config
    from vd_core.checkpoints.pipeline_config import collect_sizes, read_json
    from vd_core.checkpoints.read import read_shards

    text = path.read_bytes().decode("utf-8", "replace")
    attempt(lambda: read_file_config(WeightsFile(path, {}, {"vd_config": text})))
    for part in ("image_unet", "text_unet", "vae", "text_encoder", "image_encoder", "scheduler"):
        attempt(lambda part=part: collect_sizes({part: (path, read_json(path))}, False))
    read_shards(path)


def load_vocabularies(path: Path) -> None:
    """Read a file as each vocabulary."""
    from vd_core.tokenizers import BertTokenizer, ClipTokenizer, Gpt2Tokenizer

    data = path.read_bytes()
    text = data.decode("utf-8", "replace")
    first, _, second = text.partition("\0")
    attempt(lambda: BertTokenizer(text).encode("a strawberry"))
    attempt(lambda: Gpt2Tokenizer(first, second).encode("a strawberry"))
    # packed here: no change of a packed file has the right checksum
    attempt(lambda: ClipTokenizer(gzip.compress(data)).encode("a strawberry"))
    ClipTokenizer(data)


def load_seecoder(path: Path) -> None:
    """Read a file as a SeeCoder, as the nodes do."""
    from seecoder.checkpoints import from_tensors
    from vd_core.checkpoints.read import read

    from_tensors(read(path).weights, str(path))


def read_rows(path: Path) -> None:
    """Read a file as the shard, table, list or picture that its first byte says, and the pictures in it."""
    from vd_core.datasets.find import find_rows
    from vd_core.datasets.read import Reader
    from vd_core.pictures import read_picture

    data = path.read_bytes()
    ending = (".tar", ".tar.gz", ".jsonl", ".csv", ".txt", ".png")[data[0] % 6 if data else 0]
    named = path.with_name(f"rows{ending}")
    named.write_bytes(gzip.compress(data[1:]) if ending == ".tar.gz" else data[1:])
    reader = Reader()
    for row in find_rows(named).keep("picture").rows:
        attempt(lambda row=row: read_picture(reader.read(row), row.id))


def read_answer(path: Path) -> None:
    """Read a file as every answer of a server, as an event, and as what a job ended with."""
    from urllib.parse import urlsplit

    from runner.listener import Listener, read_binary
    from runner.server import SHAPES, Server, find_failure, list_reasons

    data, server, prompt = path.read_bytes(), Server("127.0.0.1:1"), {"1": {"class_type": "Paint"}}
    read_binary(int.from_bytes(data[:4], "big"), data[4:])
    Listener(urlsplit(server.url), {}, "job").read_event(data.decode("utf-8", "replace"))
    for shape in SHAPES:
        attempt(lambda shape=shape: server.read_json(shape, data))
    list_reasons(server.read_json("/prompt", data), prompt)
    for entry in server.read_json("/history", data).values():
        find_failure(entry, prompt)


def read_workflow(path: Path) -> None:
    """Read a file as a workflow: JSON of both formats, and PNG."""
    from runner.core_nodes import CORE_NODES
    from runner.graph import describe_classes
    from runner.prepare import Changes, prepare

    prepare(path, describe_classes(CORE_NODES), Changes(seed=1))


PARSERS: dict[str, Callable[[Path], None]] = {
    "weights": load_weights,
    "contexts": load_context,
    "lora": load_lora,
    "config": load_config,
    "vocabularies": load_vocabularies,
    "seecoder": load_seecoder,
    "rows": read_rows,
    "answers": read_answer,
    "workflows": read_workflow,
}


def make_shard() -> bytes:
    """Make a shard of one text and what is no picture."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("a.png", "a.txt"):
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"red"))
    return file.getvalue()


FLOW = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "Picture"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "%date:yyyy%/a"}},
}
CANVAS = {
    "nodes": [
        {"id": 1, "type": "LoadImage", "outputs": [{"links": [5]}], "widgets_values": ["a.png", "image"]},
        {
            "id": 2,
            "type": "SaveImage",
            "inputs": [{"name": "images", "link": 5}],
            "widgets_values": {"filename_prefix": "a"},
        },
    ],
    "links": [[5, 1, 0, 2, 0, "IMAGE"]],
}
ERROR = {"message": "Too large", "details": "text", "extra_info": {"input_name": "text"}}
ENTRY = {
    "outputs": {"2": {"images": [{"filename": "a.png", "subfolder": "", "type": "output"}]}},
    "status": {"status_str": "error", "messages": [["execution_error", {"node_id": "1"}]]},
}
ANSWERS = (
    {"prompt_id": "job", "error": {"message": "No"}, "node_errors": {"1": {"errors": [ERROR]}}},
    {"job": ENTRY},
    {"type": "progress", "data": {"prompt_id": "job", "node": "1", "value": 1, "max": 3}},
    {"name": "a.png", "subfolder": "", "queue_running": [[0, "job"]]},
)
# Small good files.
SEEDS: dict[str, Callable[[], list[bytes]]] = {
    "vocabularies": lambda: [
        b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nstraw\n##berry",
        b'{"a":0,"b":1,"ab":2,"<|x|>":3}\0#version\na b',
        b"#version\na b\ns t</w>",
    ],
    "rows": lambda: [
        b"\0" + make_shard(),
        b"\1" + make_shard(),
        b'\2{"image": "a.png", "text": "red"}\n',
        b"\3image,text\na.png,red\n",
        b"\4red apple\n",
    ],
    "answers": lambda: [json.dumps(answer).encode() for answer in ANSWERS],
    "workflows": lambda: [json.dumps(flow).encode() for flow in (FLOW, CANVAS, {"prompt": FLOW})],
}


def attempt(call: Callable[[], object]) -> None:
    """Call what may refuse; raise AssertionError where the refusal is no clear sentence."""
    try:
        call()
    except REFUSALS as error:
        said = str(error)
        clear = said.endswith((".", "?")) and "\n" not in said and 10 <= len(said) <= LONGEST
        assert clear and not isinstance(error, UnicodeError), (
            f"no sentence: {type(error).__name__}: {said[:300]!r}"
        )


def try_bytes(parser: str, data: bytes, folder: Path) -> None:
    """Give bytes to a parser. Raises whatever is no refusal."""
    path = folder / "file"
    path.write_bytes(data)
    attempt(lambda: PARSERS[parser](path))


def main(argv: list[str] | None = None) -> None:
    """Run the fuzzer until it is stopped, finds a fault, or its time is over."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parser", choices=PARSERS)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("options", nargs="*", help="of libFuzzer")
    args = parser.parse_args(argv)
    import atheris

    faults = args.corpus.with_name(f"{args.corpus.name}_faults")
    for folder in (args.corpus, faults):
        folder.mkdir(parents=True, exist_ok=True)
    if not any(args.corpus.iterdir()):
        for number, data in enumerate(SEEDS.get(args.parser, list)()):
            (args.corpus / f"seed-{number}").write_bytes(data)
    with tempfile.TemporaryDirectory() as folder:
        # what a parser imports when it first runs is what its coverage is measured in
        with atheris.instrument_imports(include=INSTRUMENTED):
            try_bytes(args.parser, b"", Path(folder))
        limits = [f"-max_total_time={args.seconds}", "-rss_limit_mb=4096", "-timeout=20"]
        options = [*limits, f"-artifact_prefix={faults}/", *args.options, str(args.corpus)]
        atheris.Setup([sys.argv[0], *options], lambda data: try_bytes(args.parser, data, Path(folder)))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
