"""Inversion and the hires pass on the embedded model."""

from tools.figures.latents import CAPTIONS, invert_and_sample, refine


def test_more_steps_lead_back_more_exactly():
    found = invert_and_sample((5, 20))
    assert found[20] > found[5] + 3 > 25


def test_the_tie_holds_the_second_pass_to_the_first():
    found = refine(CAPTIONS[:2], 0.6, ("plain", "tie"))
    assert found["tie"][0] > found["plain"][0] + 1
