"""Open every kind of bad file at every door of the library, in this process: a program for `watch.py`.

python tests/open_bad_files.py FOLDER EVERY     # every so many of the pickles
"""

import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from picture_files import picture_files  # noqa: E402

from tools.torture import bad_claims  # noqa: E402
from tools.torture.bad_pickles import make_attacks  # noqa: E402
from vd_core.checkpoints.contexts import load_context  # noqa: E402
from vd_core.checkpoints.load import load  # noqa: E402
from vd_core.checkpoints.lora import read_lora  # noqa: E402
from vd_core.diffuser.model import Diffuser  # noqa: E402
from vd_core.pictures import read_picture  # noqa: E402


def main(folder: Path) -> None:
    """Print how many files were opened; each must be refused, or be what it says."""
    warnings.simplefilter("ignore")
    opened, diffuser = 0, Diffuser(bad_claims.TINY.diffuser)
    doors = (
        lambda path: read_picture(path, path.name),
        load,
        load_context,
        lambda path: read_lora(path, diffuser),
        bad_claims.load_seecoder,
    )
    names = list(make_attacks(folder / "canary"))[:: int(sys.argv[2])]
    names += [(f"eps {n}", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n") for n in range(2)]
    for name, content in names:
        path = folder / ("picture.png" if name.startswith("eps") else "model.pth")
        path.write_bytes(content)
        for door in doors:
            opened += 1
            try:
                door(path)
            except (ValueError, OSError):
                continue
            raise AssertionError(f"{name} was read")
    for file in picture_files():
        (folder / file.name).write_bytes(file.content)
        read_picture(folder / file.name, file.name)
        opened += 1
    assert not (folder / "canary").exists()
    print(opened)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
