"""What the official app's recipes do on the embedded model, as figures: python -m tools.figures.app
[COUNT]"""

import sys

import torch

from vd_core.autoencoders.optimus import edit_latent
from vd_core.checkpoints.load import load
from vd_core.context import Context, blend, join
from vd_core.embedded import FOLDER, MODEL
from vd_core.flows import select_image_tokens
from vd_core.sampling.noise import sample_noise
from vd_core.sampling.options import Sampling
from vd_core.training.dataset import CaptionedPictures
from vd_core.training.evaluate import draw, read, write

THREE = ("noto", "flat", "3d")


class Recipes:
    """The embedded model, its pictures, and the nearest of them to what was drawn."""

    def __init__(self, count: int):
        torch.manual_seed(0)
        self.model, self.data, self.count = load(MODEL), CaptionedPictures.load(FOLDER), count
        self.latents = torch.cat([self.model.image_vae.encode(chunk) for chunk in self.data.pixels.split(64)])

    def pairs(self, style: str) -> torch.Tensor:
        """Trained pictures of a style, evenly over the names."""
        found = [int(i) for i in self.data.train if self.data.styles[self.data.style[i]] == style]
        return torch.tensor(found)[torch.linspace(0, len(found) - 1, self.count).long()]

    def nearest(self, drawn: torch.Tensor) -> torch.Tensor:
        """Find the number of the nearest picture to each latent."""
        return torch.cdist(drawn.flatten(1), self.latents.flatten(1)).argmin(dim=1)

    def caption(self, number: int) -> str:
        return self.data.names[self.data.name[number]]

    def i2t2i(self) -> tuple[float, float, float]:
        """Pictures of flat style whose name is replaced by the next one's: shares of (edited captions with
        the new name, drawn pictures nearest to one of that name, and to one of the old style)."""
        rows = self.pairs("flat")
        old, new = ([self.caption(int(i)) for i in order] for order in (rows, rows.roll(-1)))
        seen = self.model.encode_image(self.data.pixels[rows], null="black")
        latents = write(self.model, [seen], len(rows))
        edited = edit_latent(latents, self.model.text_vae.encode(old), self.model.text_vae.encode(new))
        said = read(self.model, edited)
        words = join([self.model.encode_text(said), self.model.encode_text(new)])
        style = select_image_tokens(self.model.encode_image(self.data.pixels[rows]), "style")
        found = self.nearest(draw(self.model, blend([style], [words], 0.67), self.latents[rows]))
        names = [self.caption(int(i)) for i in found]
        told = compute_share(name in text for name, text in zip(new, said, strict=True))
        return (
            told,
            compute_share(a == b for a, b in zip(names, new, strict=True)),
            compute_share(self.data.style[found] == self.data.style[rows]),
        )

    def subject(self, pictures: bool = True) -> tuple[float, float]:
        """Three pictures of a thing in other styles and the text "line style", which does not name it: shares
        of drawn pictures nearest to one of that thing, and to one of that style; without the pictures, what
        the text alone draws."""
        rows = self.pairs("line")
        words = self.model.encode_text(["line style"] * len(rows))
        contexts = [words]
        if pictures:
            looks = [
                self.model.encode_image(self.data.pixels[[self.other(int(i), style) for i in rows]])
                for style in THREE
            ]
            contexts = blend([join(looks)], [words], 0.5)
        found = self.nearest(draw(self.model, contexts, self.latents[rows]))
        return compute_share(self.data.name[found] == self.data.name[rows]), compute_share(
            self.data.style[found] == self.data.style[rows]
        )

    def other(self, number: int, style: str) -> int:
        """Return the picture of the same thing in another style, or itself."""
        same = (self.data.name == self.data.name[number]) & (self.data.style == self.data.styles.index(style))
        return int(same.nonzero()[0]) if same.any() else number

    def decode_predicted(self, error: float) -> float:
        """Predicted contexts of pictures and their captions, `error` times their spread off, from a blurred
        start: share of drawn pictures whose nearest is the true one."""
        rows = self.pairs("flat")
        pixels, generator = self.data.pixels[rows], torch.Generator().manual_seed(1)

        def predicted(tokens):
            return tokens + error * tokens.std() * torch.randn(tokens.shape, generator=generator)

        looks = predicted(self.model.encode_image(pixels).tokens)
        looks = looks / looks[:, :1].norm(dim=-1, keepdim=True)
        words = self.model.encode_text([self.data.captions[i] for i in rows])
        contexts = blend(
            [Context("image", looks)], [Context("text", predicted(words.tokens), words.null)], 0.4
        )
        blurred = torch.nn.functional.interpolate(
            torch.nn.functional.avg_pool2d(pixels, 8), scale_factor=8, mode="bilinear"
        )
        start = self.model.image_vae.encode(blurred)
        sampling = Sampling("ddim", steps=50, cfg=2.0, fidelity=0.25)
        return compute_share(
            self.nearest(self.model.sample("image", contexts, start, sample_noise(1), sampling)) == rows
        )


def compute_share(truths) -> float:
    """Compute the share of true values."""
    truths = [bool(truth) for truth in truths]
    return sum(truths) / len(truths)


if __name__ == "__main__":
    recipes = Recipes(int(sys.argv[1]) if len(sys.argv) > 1 else 40)
    print("I2T2I: new name said, new name drawn, style kept:", recipes.i2t2i())
    print("subject: thing, style:", recipes.subject(), "without pictures:", recipes.subject(False))
    for error in (0.0, 0.5, 1.0, 2.0):
        print(f"brain decoding, error {error}: own picture nearest:", recipes.decode_predicted(error))
