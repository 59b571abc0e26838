"""The options of sampling: what is taken, and the sentence for what is not."""

from dataclasses import FrozenInstanceError, replace

import pytest

from vd_core.sampling.corrections import GuidanceOptions
from vd_core.sampling.energy import Energy
from vd_core.sampling.options import OFFICIAL, Sampling

NAN, INF = float("nan"), float("inf")


def test_the_defaults_are_the_official_apps():
    assert (OFFICIAL.sampler, OFFICIAL.steps, OFFICIAL.cfg, OFFICIAL.eta) == ("ddim", 50, 7.5, 0.0)
    assert Sampling() == OFFICIAL and replace(OFFICIAL, steps=20) == Sampling(steps=20) != OFFICIAL


def test_the_value_is_frozen_whatever_it_was_made_from():
    scales = [2.0, 5.0]
    sampling = Sampling(cfg=scales, energies=[Energy(lambda x0, alpha: x0)])
    scales.append(1.0)
    assert sampling.cfg == (2.0, 5.0) and isinstance(sampling.energies, tuple)
    with pytest.raises(FrozenInstanceError):
        sampling.steps = 20


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("sampler", "heun", r"sampler must be one of ddim, .*unipc.*, got 'heun'\."),
        ("sampler", None, "sampler must be one of ddim, .*, got None"),
        ("steps", 0, r"steps must be a whole number of at least 1, got 0\."),
        ("steps", 2.5, "steps must be a whole number of at least 1, got 2.5"),
        ("steps", True, "steps must be a whole number of at least 1, got True"),
        ("cfg", NAN, r"cfg must be a finite number, got nan\."),
        ("cfg", [2.0, INF], "cfg must be a finite number, got inf"),
        ("cfg", "7.5", "cfg must be a finite number, got '7.5'"),
        ("eta", 1.5, r"eta must be a finite number from 0 to 1, got 1.5\."),
        ("eta", -0.1, "eta must be a finite number from 0 to 1, got -0.1"),
        ("eta", NAN, "eta must be a finite number from 0 to 1, got nan"),
        ("temperature", -1, r"temperature must be a finite number of at least 0, got -1\."),
        ("temperature", INF, "temperature must be a finite number of at least 0, got inf"),
        ("fidelity", 1.1, "fidelity must be a finite number from 0 to 1, got 1.1"),
        ("fidelity", "half", "fidelity must be a finite number from 0 to 1, got 'half'"),
        ("strength", 0.01, "A strength of 0.01 leaves none of 50 steps to run: take more steps or a larger"),
        ("noise", "per batch", r"noise must be one of per sample, official, shared, got 'per batch'\."),
        ("guidance", 0.7, r"guidance must be given as GuidanceOptions, got float\."),
        ("energies", [7], "energies must be given as Energy, got int"),
        ("energies", None, "energies must be given as Sequence, got NoneType"),
        ("shift", None, "shift must be given as ResolutionShift, got NoneType"),
        ("low_pass", GuidanceOptions(), "low_pass must be given as LowPassGuidance, got GuidanceOptions"),
    ],
)
def test_what_is_refused(field, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        Sampling(**{field: value})
