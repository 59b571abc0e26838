"""The installable library: a wheel of `vd_core` and `seecoder` with their weights and one command, and
nothing of the pack."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "vd_core", "seecoder")
DRAW = """
import torch, vd_core, seecoder
from vd_core import MODEL, Sampling, load
vd = load(MODEL)
prompt = vd.encode_text(["red apple, 3d style"])
latents = vd.sample("image", [prompt], torch.zeros(1, 16, 8, 8), 1, Sampling(steps=3))
picture = vd.image_vae.decode(latents)
assert picture.shape == (1, 3, 64, 64) and picture.isfinite().all() and picture.std() > 0.05, picture
print(vd_core.__file__, seecoder.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return the wheel, built from a copy: setuptools leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder)
    options = ["--no-build-isolation"] if can_build() else []
    run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *options, "--wheel-dir", "dist", "."],
        folder,
    )
    (path,) = (folder / "dist").glob("*.whl")
    return path


def can_build():
    """Whether the setuptools of this environment can; where it is older or absent, pip fetches one."""
    try:
        return int(version("setuptools").split(".")[0]) >= 77
    except PackageNotFoundError:
        return False


def run(command, folder):
    """Run a command outside of the checkout and return what it printed."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "OMP_NUM_THREADS": "1"
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_library_with_its_weights_and_nothing_else(wheel):
    names = ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"vd_core", "seecoder"}
    sources = [
        path.relative_to(ROOT).as_posix()
        for package in ("vd_core", "seecoder")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert {"vd_core/py.typed", "seecoder/py.typed", "vd_core/embedded/pictures.webp"} < set(sources)
    assert sorted(set(sources) - set(names)) == []


@pytest.mark.slow
def test_it_draws_from_a_fresh_environment_in_another_folder(wheel, tmp_path):
    """Only what the library needs is seen of this environment."""
    venv.create(tmp_path / "env", with_pip=False)
    paths = sysconfig.get_paths(vars={"base": str(tmp_path / "env"), "platbase": str(tmp_path / "env")})
    python, purelib = Path(paths["scripts"]) / Path(sys.executable).name, Path(paths["purelib"])
    (purelib / "dependencies.pth").write_text(
        "\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    )
    install = ["install", "--quiet", "--no-index", "--no-deps", "--ignore-installed", str(wheel)]
    run([sys.executable, "-m", "pip", "--python", str(python), *install], tmp_path)
    (tmp_path / "elsewhere").mkdir()
    files = run([str(python), "-c", DRAW], tmp_path / "elsewhere").split()
    assert all(Path(file).is_relative_to(purelib) for file in files), files
    command = Path(paths["scripts"]) / "versatile-diffusion"
    weights = purelib / "vd_core" / "embedded" / "versatile_diffusion_emoji.safetensors"
    assert "image_vae" in run([str(command), "inspect", str(weights)], tmp_path / "elsewhere")
    assert "train" in run([str(python), "-m", "seecoder", "--help"], tmp_path / "elsewhere")


def test_every_promise_of_security_names_tests_that_are_there():
    promised = (ROOT / "SECURITY.md").read_text(encoding="utf-8").split("## What is ")[1]
    promises = re.split(r"(?m)^- ", promised)[1:]
    assert len(promises) >= 12
    for promise in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)`", promise)
        assert named, promise[:80]
        for name in named:
            assert "def test_" in (ROOT / name).read_text(encoding="utf-8"), name
