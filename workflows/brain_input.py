"""Files like those that brain decoding predicts, for the workflow brain-decoding: python
workflows/brain_input.py

Four predictions of one picture, as from four people: the true contexts of the embedded model and noise. A
decoder of real recordings (fMRI, EEG) writes the same kind of files: [people, 257, 768] for the picture and
[people, 77, 768] for its caption.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[1]
PICTURE, CAPTION, PEOPLE, ERROR = "rocket.png", "rocket, 3d style", 4, 0.5


def predicted(tokens: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Noisy guesses [PEOPLE, n, d] of tokens [1, n, d]; the noise is ERROR times as strong as the tokens
    differ among each other."""
    return tokens + ERROR * tokens.std() * torch.randn(PEOPLE, *tokens.shape[1:], generator=generator)


def main() -> None:
    """Write the two contexts, and a blurred picture in place of one that is decoded from early visual
    areas."""
    sys.path.insert(0, str(ROOT))
    from PIL import Image

    from vd_core.checkpoints.load import load
    from vd_core.embedded import MODEL
    from vd_core.pictures import from_pil

    folder, vd, generator = ROOT / "workflows" / "input", load(MODEL), torch.Generator().manual_seed(1)
    picture = Image.open(folder / PICTURE).convert("RGB")
    seen = predicted(vd.encode_image(from_pil([picture])).tokens, generator)
    seen = seen / seen[:, :1].norm(dim=-1, keepdim=True)
    save_file({"tokens": seen.half()}, folder / "brain-pictures.safetensors", {"vd_kind": "image"})
    save_file(
        {"tokens": predicted(vd.encode_text([CAPTION]).tokens, generator).half()},
        folder / "brain-texts.safetensors",
    )
    picture.resize((8, 8), Image.Resampling.BOX).resize(picture.size, Image.Resampling.BICUBIC).save(
        folder / "brain-guess.png"
    )


if __name__ == "__main__":
    main()
