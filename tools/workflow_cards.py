"""Draw the cards of the workflows, input above and output below, by running them.

Those of workflows that need files of others say in words what they do.

`python -m tools.workflow_cards [--server URL] [NAME …]`

Without a server those are drawn that run without ComfyUI; with one (a ComfyUI with this pack) all that need
no files of others.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from tools.lay_out_workflows import ROOT, WORKFLOWS, name_twin
from tools.workflow_page import NEEDS_COMFYUI, read_note
from vd_core.lettering import break_lines, load_font
from vd_core.training.dataset import CaptionedPictures

SIDE, ABOVE, GAP = 384, 120, 8  # pixels of a card, of its part for inputs, between pictures
PAPER, TINT, INK, QUIET = (255, 255, 255), (232, 238, 246), (38, 38, 42), (104, 104, 112)
NEEDS_FILES = re.compile("^(real-|ksampler-pfd-|ksampler-controlnet)")
# Workflows whose card shows what a slider does: its name on the command line, and the values.
SLIDERS = {
    "image-variation": ("Look.focus", (0, 0.25, 0.5, 0.75, 1)),
    "dual-context": ("Blend.ratio", (0, 0.25, 0.5, 0.75, 1)),
    "ksampler-dual-context": ("Blend.ratio", (0, 0.25, 0.5, 0.75, 1)),
}


def run(
    name: str, folder: Path, server: str | None, changes: tuple[str, ...] = ()
) -> tuple[list[Image.Image], list[str]]:
    """Run a workflow's twin with changes -> the pictures and the texts that it gives, in the order of their
    files."""
    command = [
        sys.executable,
        "run_workflow.py",
        str(WORKFLOWS / "api" / f"{name}.json"),
        "--output",
        str(folder),
    ]
    command += [word for change in changes for word in ("--set", change)] + (
        ["--server", server] if server else []
    )
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    pictures = [Image.open(path).convert("RGB") for path in sorted(folder.rglob("*.png"))]
    texts = [
        line
        for path in sorted(folder.rglob("*.txt"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line
    ]
    return pictures, list(dict.fromkeys(texts))


def read_inputs(prompt: dict) -> tuple[list[Image.Image], list[str]]:
    """Read what goes into a workflow: its example pictures and its prompts."""
    examples = CaptionedPictures.load(ROOT / "vd_core" / "embedded")
    captions = {caption: image for caption, image in zip(examples.captions, examples.images, strict=True)}
    pictures, texts = [], []
    for node in prompt.values():
        values = node["inputs"]
        if node["class_type"] == "VD_ExamplePicture":
            image = captions[f"{values['name']}, {values['style']} style"]
            pictures.append(Image.fromarray(image.movedim(0, -1).numpy()))
        elif (
            node["class_type"] in ("VD_TextContext", "VD_TextEncode")
            and isinstance(values["text"], str)
            and values["text"]
        ):
            texts.append(values["text"].splitlines()[0])
    return pictures, list(dict.fromkeys(texts))


def fit(picture: Image.Image, width: int, height: int) -> Image.Image:
    """Scale a picture to fit into a box, keeping its shape."""
    scale = min(width / picture.width, height / picture.height)
    return picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))),
        Image.Resampling.LANCZOS,
    )


def draw_card(
    inputs: list[Image.Image],
    prompts: list[str],
    outputs: list[Image.Image],
    texts: list[str],
    labels: list[str],
) -> Image.Image:
    """Draw a card: inputs in a row, then the outputs in a grid with their labels, or the texts."""
    card = Image.new("RGB", (SIDE, SIDE), PAPER)
    pen = ImageDraw.Draw(card)
    x, side = GAP, ABOVE - 2 * GAP
    for picture in inputs[:2] if prompts else inputs[:3]:
        card.paste(fit(picture, side, side), (x, GAP))
        x += side + GAP
    y = GAP + 4
    for prompt in prompts[:2]:
        for line in break_lines(f"“{prompt}”", load_font(20), SIDE - x - GAP)[:2]:
            pen.text((x, y), line, INK, load_font(20))
            y += 26
    pen.line((0, ABOVE, SIDE, ABOVE), (225, 225, 230), 2)
    if outputs:
        shown = outputs[:6]
        wide = shown[0].width > 2 * shown[0].height  # a row on a sheet
        columns = 1 if wide or len(shown) == 1 else 2 if len(shown) in (2, 4) else 3
        rows = -(-len(shown) // columns)
        width, height = (SIDE - GAP) // columns - GAP, (SIDE - ABOVE - GAP) // rows - GAP
        for i, picture in enumerate(shown):
            left, top = GAP + i % columns * (width + GAP), ABOVE + GAP + i // columns * (height + GAP)
            below = 20 if labels else 0
            small = fit(picture, width, height - below)
            card.paste(small, (left + (width - small.width) // 2, top))
            if labels:
                middle = left + (width - load_font(16).getlength(labels[i])) / 2
                pen.text((middle, top + small.height), labels[i], QUIET, load_font(16))
    else:
        y = ABOVE + 2 * GAP
        for text in texts[:5]:
            for line in break_lines(text, load_font(24), SIDE - 2 * GAP)[:2]:
                pen.text((GAP, y), line, INK, load_font(24))
                y += 32
            y += 10
    return card


def draw(path: Path, server: str | None) -> Image.Image:
    """Run the workflow of a canvas file, and draw its card."""
    name = name_twin(path).stem
    inputs, prompts = read_inputs(json.loads(name_twin(path).read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as folder:
        if name not in SLIDERS:
            return draw_card(inputs, prompts, *run(name, Path(folder), server), [])
        slider, values = SLIDERS[name]
        outputs = []
        for value in values:
            outputs += run(
                name, Path(folder, str(value)), server, (f"{slider}={value}", "Size.batch_size=1")
            )[0][:1]
        return draw_card(
            inputs, prompts, outputs, [], [f"{slider.partition('.')[2]} {value:g}" for value in values]
        )


def draw_words(path: Path) -> Image.Image:
    """Draw the card of a workflow that cannot be run here: its title and what it does, in words."""
    card = Image.new("RGB", (SIDE, SIDE), TINT)
    pen, y = ImageDraw.Draw(card), 2 * GAP
    title, text = read_note(path)
    for words, size, most in ((title, 34, 3), (text, 22, 6)):
        plain = re.sub(r"[*`]", "", words).replace("→", "to")  # the font has no arrow
        for line in break_lines(plain, load_font(size), SIDE - 4 * GAP, most):
            pen.text((2 * GAP, y), line, INK, load_font(size))
            y += size + 8
        y += 2 * GAP
    pen.text((2 * GAP, SIDE - 40), "needs published files", QUIET, load_font(20))
    return card


def main() -> None:
    """Draw the cards of the named workflows, or of all that run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of the API twin")
    parser.add_argument("--server", metavar="URL")
    options = parser.parse_args()
    for path in sorted(path for path in WORKFLOWS.rglob("*.json") if path.parent.name != "api"):
        name = name_twin(path).stem
        if options.names and name not in options.names:
            continue
        if NEEDS_FILES.match(name):
            draw_words(path).save(path.with_suffix(".jpg"), quality=88)
        elif options.server or not NEEDS_COMFYUI.match(name):
            print(name, flush=True)
            draw(path, options.server).save(path.with_suffix(".jpg"), quality=88)


if __name__ == "__main__":
    main()
