"""Samplers against analytic truths: on Gaussian data the best denoiser and the solution of the diffusion ODE
are known exactly."""

from math import log2, sqrt

import pytest
import torch

from vd_core.config import ScheduleConfig
from vd_core.sampling.noise import batch_noise
from vd_core.sampling.options import Sampling
from vd_core.sampling.samplers import SAMPLERS, run_sampler
from vd_core.sampling.schedule import Schedule, Steps
from vd_core.sampling.spacing import choose_steps

SCHEDULE = Schedule(ScheduleConfig())
ODE_SAMPLERS = ["ddim", "euler", "dpmpp_2m", "unipc"]
MEAN, STD = 0.7, 0.5
START = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Thousands of steps on tiny tensors: on a busy machine, waiting for a second thread takes longer than
    everything else."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def gaussian_denoiser(steps):
    """Return the exact noise prediction for data drawn from N(MEAN, STD^2), looked up by timestep."""
    alphas = {t: alpha for t, alpha, _ in steps}

    def denoise(x, t):
        alpha = alphas[t]
        return sqrt(1 - alpha) * (x - sqrt(alpha) * MEAN) / (alpha * STD**2 + 1 - alpha)

    return denoise


def gaussian_solution(x, steps):
    """Where the diffusion ODE leads x: the number of standard deviations from the mean never changes."""
    first, last = steps.alphas_cumprod[0].item(), steps.alphas_cumprod[-1].item()
    ratio = sqrt((last * STD**2 + 1 - last) / (first * STD**2 + 1 - first))
    return sqrt(last) * MEAN + ratio * (x - sqrt(first) * MEAN)


def mixture_denoiser(steps, modes=(-1.2, -0.2, 0.5, 1.5), std=0.1):
    """Return the exact noise prediction for an even mixture of narrow Gaussians: anything but linear."""
    alphas = {t: alpha for t, alpha, _ in steps}
    modes = torch.tensor(modes, dtype=torch.float64)

    def denoise(x, t):
        alpha = alphas[t]
        variance = alpha * std**2 + 1 - alpha
        distance = x[..., None] - sqrt(alpha) * modes
        share = torch.softmax(-(distance**2) / (2 * variance), dim=-1)
        return sqrt(1 - alpha) * (share * distance).sum(-1) / variance

    return denoise


def continuous_steps(n, jagged):
    """n steps over half the log-SNR from -1 to 2.5, all alike or every second one three times as long as the
    others."""
    lengths = torch.tensor([1.0, 3.0 if jagged else 1.0], dtype=torch.float64).repeat(n // 2)
    u = torch.cat([torch.zeros(1), lengths.cumsum(0) / lengths.sum()])
    return Steps(torch.arange(n - 1, -1, -1), torch.sigmoid(2 * (-1 + 3.5 * u)))


def run(name, denoise, x, steps, seed=0, callback=None, **options):
    noise = batch_noise(seed)
    return run_sampler(denoise, x, steps, lambda: noise.draw(x.shape), Sampling(name, **options), callback)


@pytest.mark.parametrize("jagged", [False, True])
@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("euler", 1), ("dpmpp_2m", 2), ("unipc", 3)])
def test_order_of_convergence(name, order, jagged):
    errors = []
    for n in (40, 80, 160):
        steps = continuous_steps(n, jagged)
        errors.append(
            (run(name, gaussian_denoiser(steps), START, steps) - gaussian_solution(START, steps))
            .abs()
            .max()
            .item()
        )
    slopes = [log2(coarse / fine) for coarse, fine in zip(errors, errors[1:], strict=False)]
    assert slopes == pytest.approx([order, order], abs=0.2)


@pytest.mark.parametrize("name", ODE_SAMPLERS)
def test_all_ode_samplers_end_at_the_same_place(name):
    steps = SCHEDULE.steps(1000)
    error = (run(name, gaussian_denoiser(steps), START, steps) - gaussian_solution(START, steps)).abs().max()
    assert error < 4e-3


@pytest.mark.parametrize("name", ["dpmpp_2m", "unipc"])
def test_20_steps_beat_50_of_ddim(name):
    """On nonlinear data, each on the timesteps made for it, compared with its own 1000-step solution from the
    same start."""
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]

    def error(name, n, spacing):
        steps, fine = SCHEDULE.steps(n, spacing), SCHEDULE.steps(1000)
        truth = fine.last(int(steps.timesteps[0]))  # from the same noise level
        return (
            (run(name, mixture_denoiser(steps), x, steps) - run("unipc", mixture_denoiser(truth), x, truth))
            .abs()
            .mean()
            .item()
        )

    for spacing in ("official", "quadratic"):
        assert error(name, 20, "quadratic") < error("ddim", 50, spacing) / 4


def test_euler_is_eulers_method_in_sigma():
    steps = SCHEDULE.steps(20)
    denoise = gaussian_denoiser(steps)
    scaled = START / sqrt(steps.alphas_cumprod[0])
    for t, alpha, alpha_next in steps:
        eps = denoise(scaled * sqrt(alpha), t)
        scaled = scaled + (sqrt(1 / alpha_next - 1) - sqrt(1 / alpha - 1)) * eps
    torch.testing.assert_close(
        run("euler", denoise, START, steps, eta=1.0), scaled * sqrt(steps.alphas_cumprod[-1])
    )


@pytest.mark.parametrize("n", [1000, 50, 3])
def test_ddim_at_eta_1_is_ddpm(n):
    steps = SCHEDULE.steps(n)
    denoise = mixture_denoiser(steps)
    torch.testing.assert_close(
        run("ddim", denoise, START, steps, eta=1.0, temperature=0.9),
        run("ddpm", denoise, START, steps, temperature=0.9),
    )


@pytest.mark.parametrize(("name", "eta"), [("ddpm", 0.0), ("ddim", 1.0), ("ddim", 0.5)])
def test_noisy_samplers_give_the_distribution(name, eta):
    steps = SCHEDULE.steps(250)
    x = batch_noise(1).draw((20_000, 1)).double()
    result = run(name, gaussian_denoiser(steps), x, steps, eta=eta)
    last = steps.alphas_cumprod[-1].item()
    assert result.mean().item() == pytest.approx(sqrt(last) * MEAN, abs=0.015)
    assert result.std().item() == pytest.approx(sqrt(last * STD**2 + 1 - last), abs=0.02)
    cold = run(name, gaussian_denoiser(steps), x, steps, eta=eta, temperature=0.0)
    assert cold.std() < 0.8 * result.std()


@pytest.mark.parametrize("name", ["ddgan", "lcm"])
def test_few_steps_with_draws_of_the_data_give_the_distribution(name):
    """A network that draws its data from p(x0 | x), as DDGAN's generator does, samples exactly in four
    steps."""
    steps = choose_steps(SCHEDULE, name, 4)
    alphas = dict(zip(steps.timesteps.tolist(), steps.alphas_cumprod.tolist(), strict=False))
    draws = torch.Generator().manual_seed(5)

    def denoise(x, t):
        alpha = alphas[t]
        variance = 1 / (1 / STD**2 + alpha / (1 - alpha))
        mean = variance * (MEAN / STD**2 + sqrt(alpha) * x / (1 - alpha))
        x0 = mean + sqrt(variance) * torch.randn(x.shape, dtype=x.dtype, generator=draws)
        return (x - sqrt(alpha) * x0) / sqrt(1 - alpha)

    first = alphas[999]
    noise = batch_noise(1).draw((20_000, 1)).double()
    x = sqrt(first) * MEAN + sqrt(first * STD**2 + 1 - first) * noise
    result = run(name, denoise, x, steps)
    assert result.mean().item() == pytest.approx(MEAN, abs=0.015) and result.std().item() == pytest.approx(
        STD, abs=0.015
    )


def test_ddgan_is_ddpm_until_its_last_step():
    steps = SCHEDULE.steps(6, "sgm_uniform")
    seen = {name: [] for name in ("ddgan", "ddpm")}
    for name, states in seen.items():
        run(
            name,
            mixture_denoiser(steps),
            START,
            steps,
            temperature=0.7,
            callback=lambda i, total, x, x0, states=states: states.append((x, x0)),
        )
    for ours, theirs in zip(seen["ddgan"][:-1], seen["ddpm"], strict=False):
        assert torch.equal(ours[0], theirs[0])
    assert torch.equal(seen["ddgan"][-1][0], seen["ddpm"][-1][1])


def test_two_lcm_steps_by_hand():
    steps = Steps(torch.tensor([9, 7]), torch.tensor([0.25, 0.64, 0.99], dtype=torch.float64))
    x, noise = torch.tensor([[2.0]]), torch.tensor([[10.0]])
    result = run_sampler(lambda x, t: x / 4, x, steps, lambda: noise, Sampling("lcm", temperature=0.1))
    first = (2 - sqrt(0.75) * 0.5) / 0.5
    second = 0.8 * first + 0.6 * 0.1 * 10
    assert result.item() == pytest.approx((second - 0.6 * second / 4) / 0.8, rel=1e-6)


def test_one_ddim_step_by_hand():
    steps = Steps(torch.tensor([7]), torch.tensor([0.25, 0.64], dtype=torch.float64))
    x, noise = torch.tensor([[2.0]]), torch.tensor([[10.0]])
    seen = []
    result = run_sampler(
        lambda x, t: x / 4,
        x,
        steps,
        lambda: noise,
        Sampling(eta=0.5, temperature=0.1),
        lambda *report: seen.append(report),
    )
    x0 = (2 - sqrt(0.75) * 0.5) / 0.5
    sigma = 0.5 * sqrt((1 - 0.64) / (1 - 0.25) * (1 - 0.25 / 0.64))
    assert steps.compute_ddim_sigmas(0.5).tolist() == pytest.approx([sigma])
    expected = 0.8 * x0 + sqrt(0.36 - sigma**2) * 0.5 + sigma * 0.1 * 10
    assert result.item() == pytest.approx(expected, rel=1e-6)
    assert [(i, total) for i, total, _, _ in seen] == [(0, 1)]
    assert seen[0][2] is result and seen[0][3].item() == pytest.approx(x0, rel=1e-6)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("shape", [(2, 4, 3, 5), (3, 7)])
@pytest.mark.parametrize("n", [1, 2, 3, 30])
def test_one_call_per_step_one_report_per_step(name, shape, n):
    steps = SCHEDULE.steps(n)
    exact, told, reported = gaussian_denoiser(steps), [], []

    def denoise(x, t):
        assert x.shape == shape and x.dtype == torch.float32
        told.append(t)
        return exact(x, t)

    def callback(i, total, x, x0):
        assert x.shape == x0.shape == shape
        reported.append((i, total, x))

    x = batch_noise(3).draw(shape)
    before = x.clone()
    result = run(name, denoise, x, steps, callback=callback)
    assert told == steps.timesteps.tolist()
    assert [(i, total) for i, total, _ in reported] == [(i, len(steps)) for i in range(len(steps))]
    assert (
        result is reported[-1][2]
        and result.shape == shape
        and result.dtype == torch.float32
        and result.isfinite().all()
    )
    assert torch.equal(x, before)  # the caller's tensor is not written to


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_step_leaves_x_alone(name):
    assert run(name, None, START, SCHEDULE.steps(10).last(0)) is START


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_callback_stops_the_sampler_by_raising(name):
    steps, calls = SCHEDULE.steps(10), []

    def callback(i, total, x, x0):
        calls.append(i)
        if i == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(name, gaussian_denoiser(steps), START, steps, callback=callback)
    assert calls == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "draws"),
    [("ddim", 10), ("euler", 10), ("ddpm", 10), ("dpmpp_2m", 0), ("unipc", 0), ("ddgan", 9), ("lcm", 9)],
)
def test_draws_of_noise(name, draws):
    """DDIM draws at every step even at eta 0, as the official one does; text decoding afterwards depends on
    it."""
    steps, drawn = SCHEDULE.steps(10), []

    def noise():
        drawn.append(1)
        return torch.zeros_like(START)

    run_sampler(gaussian_denoiser(steps), START, steps, noise, Sampling(name))
    assert len(drawn) == draws


@pytest.mark.parametrize("name", SAMPLERS)
def test_half_precision_stays_half_precision(name):
    steps = SCHEDULE.steps(20)
    result = run(name, gaussian_denoiser(steps), START.half(), steps)
    assert result.dtype == torch.float16 and result.isfinite().all()


def test_data_is_never_clipped():
    steps = SCHEDULE.steps(50)
    for name in SAMPLERS:
        assert run(name, lambda x, t: torch.zeros_like(x), START, steps).abs().max() > 5
