"""Fuzz the parsers of foreign files with atheris, guided by coverage; needs `pip install atheris`.

    python -m tools.fuzz weights CORPUS [--seconds N]      # a libFuzzer option may follow: -- -max_len=4096

A parser may refuse a file with a ValueError or OSError of one sentence; anything else is a fault and is kept
in CORPUS_faults. The minimal cases of `tests/vd_core/checkpoints/fuzzed/` are replayed by the test suite.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

LONGEST = 1500  # letters of a sentence
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
    ClipTokenizer(data)


def load_seecoder(path: Path) -> None:
    """Read a file as a SeeCoder, as the nodes do."""
    from seecoder.checkpoints import from_tensors
    from vd_core.checkpoints.read import read

    from_tensors(read(path).weights, str(path))


PARSERS: dict[str, Callable[[Path], None]] = {
    "weights": load_weights,
    "contexts": load_context,
    "lora": load_lora,
    "config": load_config,
    "vocabularies": load_vocabularies,
    "seecoder": load_seecoder,
}


def attempt(call: Callable[[], object]) -> None:
    """Call what may refuse; raise AssertionError where the refusal is no clear sentence."""
    try:
        call()
    except REFUSALS as error:
        said = str(error)
        clear = said.endswith(".") and "\n" not in said and 10 <= len(said) <= LONGEST
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
    with tempfile.TemporaryDirectory() as folder:
        # what a parser imports when it first runs is what its coverage is measured in
        with atheris.instrument_imports(include=["vd_core", "seecoder", "zipfile", "pickletools"]):
            try_bytes(args.parser, b"", Path(folder))
        limits = [f"-max_total_time={args.seconds}", "-rss_limit_mb=4096", "-timeout=20"]
        options = [*limits, f"-artifact_prefix={faults}/", *args.options, str(args.corpus)]
        atheris.Setup([sys.argv[0], *options], lambda data: try_bytes(args.parser, data, Path(folder)))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
