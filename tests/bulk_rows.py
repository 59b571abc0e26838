"""What the tests of bulk jobs share: a quick job, and pictures to work on."""

import io

import numpy as np
from PIL import Image

from vd_core.bulk.tasks import Settings
from vd_core.sampling.options import Sampling

QUICK = Settings("variation", seed=3, sampling=Sampling("dpmpp_2m", 2, 2.0))


def picture(number):
    return Image.fromarray(
        np.random.default_rng(number).integers(0, 256, (40 + number, 50, 3), dtype=np.uint8)
    )


def content(number):
    file = io.BytesIO()
    picture(number).save(file, format="png")
    return file.getvalue()
