from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flowrl.cli import run
from flowrl.contracts.errors import UsageError
from flowrl.contracts.protocols import Sampler, Velocity
from flowrl.evaluation import machine
from flowrl.evaluation.latency import (
    Effort,
    FlowInputs,
    Row,
    Timing,
    bench,
    endpoint_error,
    evaluations,
    generate,
    race,
    reference_endpoints,
)
from flowrl.experiments import latency
from flowrl.samplers import registry

# ----------------------------------------------------------------------------------------------- timing


def measure(call: Callable[[], object], effort: Effort, *, warmup: int = 3) -> Timing:
    return race([call], effort, warmup=warmup, rounds=1)[0]


def spin(milliseconds: float) -> Callable[[], None]:
    def call() -> None:
        end = time.perf_counter_ns() + int(milliseconds * 1e6)
        while time.perf_counter_ns() < end:
            pass

    return call


def test_a_call_of_known_length_is_timed_right() -> None:
    timing = measure(spin(0.2), Effort(least=20, seconds=0))
    assert timing.calls == 20
    assert 200 <= timing.p50_us <= timing.p90_us <= timing.p99_us
    assert timing.p50_us < 1000  # a busy machine may interrupt some of the calls, not half of them


def test_percentiles_are_those_of_the_calls() -> None:
    lengths = iter([0.001] * 15 + [0.03] * 5)  # a quarter is long: p50 short, p90 and p99 long
    timing = measure(lambda: time.sleep(next(lengths)), Effort(least=20, seconds=0), warmup=0)
    assert 1_000 <= timing.p50_us < 30_000 <= timing.p90_us <= timing.p99_us


def test_a_quick_call_is_timed_often_enough_and_a_slow_one_as_often_as_there_is_time() -> None:
    assert measure(lambda: None, Effort(enough=150, seconds=10, least=1)).calls == 150
    assert 2 <= measure(lambda: time.sleep(0.01), Effort(enough=150, seconds=0.05, least=1)).calls <= 6
    assert measure(lambda: time.sleep(0.01), Effort(enough=150, seconds=0.01, least=4)).calls == 4


def test_the_processor_share_is_low_asleep_and_high_at_work() -> None:
    asleep = measure(lambda: time.sleep(0.005), Effort(least=10, seconds=0))
    awake = measure(spin(5), Effort(least=10, seconds=0))
    assert asleep.cpu_share < 0.2
    assert awake.cpu_share > 2 * asleep.cpu_share


def test_garbage_is_not_collected_while_timing() -> None:
    enabled = []
    measure(lambda: enabled.append(gc.isenabled()), Effort(least=3, seconds=0), warmup=0)
    assert enabled == [False] * 3
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        measure(lambda: 1 / 0, Effort(least=3, seconds=0), warmup=0)
    assert gc.isenabled()


def test_candidates_take_turns() -> None:
    order: list[str] = []
    calls = [lambda: order.append("a"), lambda: order.append("b")]
    timings = race(calls, Effort(least=4, seconds=0), warmup=1, rounds=2)
    assert "".join(order) == "ab" + "aabb" + "bbaa"  # warm-up, then two rounds, the second in reverse
    assert [timing.calls for timing in timings] == [4, 4]


# --------------------------------------------------------------------------------------------- samplers


class GaussianField:
    """The exact velocity that carries N(0, 1) to N(mu, sigma²): x_t = t mu + s(t) eps with
    s² = t² sigma² + (1 - t)², so v = mu + c (x - t mu) with c = d ln s / dt = (t sigma² - (1 - t)) / s²."""

    def __init__(self, mu: float, sigma: float) -> None:
        self.mu, self.sigma = mu, sigma

    def bind(self, obs: Tensor) -> Velocity:
        def velocity(x: Tensor, t: float | Tensor) -> Tensor:
            c = (t * self.sigma**2 - (1 - t)) / (t**2 * self.sigma**2 + (1 - t) ** 2)
            return self.mu + c * (x - t * self.mu)

        return velocity

    def endpoint(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        """The flow solved on paper, from 0 to 1."""
        return self.mu + self.sigma * x


ONCE = Effort(least=1, seconds=0)


def euler(steps: int) -> Sampler:
    return registry.make("euler", {"steps": steps})


def test_endpoint_error_by_hand() -> None:
    exact = torch.tensor([[0.0, 10.0], [2.0, 16.0]])  # variances 1 and 9: spread sqrt(5)
    shifted = exact + torch.tensor([[1.0, -1.0], [3.0, 3.0]])  # mean square (1 + 1 + 9 + 9) / 4 = 5
    assert endpoint_error(shifted, exact) == pytest.approx(1.0)
    assert endpoint_error(exact, exact) == 0


def test_two_euler_steps_on_a_gaussian_flow_err_by_half() -> None:
    # sigma = 1: c(0) = -1, c(1/2) = 0, so x_1 - mu = (1 - 1/2)(1 + 0) eps = eps / 2 instead of eps
    field = GaussianField(mu=3, sigma=1)
    noise = torch.randn(1000, 2, dtype=torch.float64)
    endpoints = generate(field, euler(2), torch.zeros(1000, 1), noise)
    torch.testing.assert_close(endpoints, 3 + noise / 2)
    root_mean_square, spread = noise.square().mean().sqrt(), noise.var(dim=0, correction=0).mean().sqrt()
    expected = 0.5 * float(root_mean_square / spread)
    assert endpoint_error(endpoints, 3 + noise) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("sigma", "steps", "euler_std"),  # the standard deviation that Euler reaches instead of sigma
    [(0.25, 4, 0.1360), (0.5, 4, 0.3405), (0.5, 10, 0.4308), (1.0, 8, 0.8508), (2.0, 2, 0.8000)],
)
def test_the_benchs_endpoint_error_is_that_of_euler(sigma: float, steps: int, euler_std: float) -> None:
    field = GaussianField(mu=0, sigma=sigma)
    (row,) = bench(
        FlowInputs(field, 1, 40), {("euler", steps): euler(steps)}, [1], 0, reference=field.endpoint, effort=ONCE
    )
    # x_1 = euler_std eps instead of sigma eps; the mean square of the noise is its variance to 1 %
    assert row.endpoint_error == pytest.approx(1 - euler_std / sigma, rel=1e-2)


def test_samplers_of_predicted_actions_are_graded_with_the_last_step_of_a_policy() -> None:
    """The exact prediction of N(0, 1): to v at t = 1, 0 instead of x, Heun's error would be a fortieth at 20 steps."""

    class Predicted:
        latest_time = 0.98

        def bind(self, obs: Tensor) -> Callable[[Tensor, float], Tensor]:
            return lambda x, t: (t * x / (t * t + (1 - t) ** 2) - x) / max(1 - t, 0.02)

    samplers = {("heun", 20): registry.make("heun", {"steps": 20})}
    reference = registry.make(*latency.REFERENCE)
    (row,) = bench(FlowInputs(Predicted(), 1, 40), samplers, [1], 0, reference=reference, effort=ONCE)  # type: ignore[arg-type]
    assert row.nfe == 41
    assert row.endpoint_error < 1e-3


def test_a_tight_dopri5_is_the_truth() -> None:
    field = GaussianField(mu=-1, sigma=0.5)
    noise = torch.randn(64, 3)
    reference = registry.make(*latency.REFERENCE)
    endpoints = reference_endpoints(field, torch.zeros(64, 1), noise, reference)
    assert endpoints.dtype == torch.float64
    torch.testing.assert_close(endpoints, -1 + 0.5 * noise.double(), rtol=0, atol=1e-6)


class LinearField(nn.Module):
    """A network that computes in the precision of its weights alone: v = W (x + obs)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def bind(self, obs: Tensor) -> Velocity:
        return lambda x, t: self.layer(x + obs)


def test_a_networks_reference_is_computed_in_float64_and_the_network_left_alone() -> None:
    field = LinearField()
    obs, noise = torch.randn(5, 2), torch.randn(5, 2)
    assert reference_endpoints(field, obs, noise, euler(3)).dtype == torch.float64
    assert field.layer.weight.dtype == torch.float32


def test_a_field_of_float32_alone_gets_a_float32_reference() -> None:
    layer = LinearField()

    class Wrapped:  # no module, so it cannot be converted
        bind = layer.bind

    obs, noise = torch.randn(5, 2), torch.randn(5, 2)
    assert reference_endpoints(Wrapped(), obs, noise, euler(3)).dtype == torch.float32


@pytest.mark.parametrize("name", registry.general())
@pytest.mark.parametrize("steps", [1, 3])
def test_counted_evaluations_are_the_declared_ones(name: str, steps: int) -> None:
    try:
        sampler = registry.make(name, {"steps": steps})
    except UsageError:
        sampler = registry.make(name)
    field = GaussianField(mu=0, sigma=2)
    inputs = [(torch.zeros(4, 1), torch.randn(4, 3)) for _ in range(2)]
    counted = evaluations(field, sampler, inputs)
    declared = getattr(sampler, "nfe", None)
    if declared is not None:
        assert counted == declared
    else:
        assert counted > 6  # adaptive: at least one step of six


def test_a_row_for_every_sampler_and_batch_with_the_front_of_each_batch() -> None:
    samplers = {("euler", steps): euler(steps) for steps in (1, 16)}
    field = GaussianField(mu=0, sigma=0.5)
    rows = bench(FlowInputs(field, 1, 2), samplers, [1, 7], 0, reference=field.endpoint, effort=Effort(enough=100))
    assert [(row.sampler, row.steps, row.batch, row.nfe) for row in rows] == [
        ("euler", 1, 1, 1), ("euler", 16, 1, 16), ("euler", 1, 7, 1), ("euler", 16, 7, 16),
    ]  # fmt: skip
    assert all(row.pareto for row in rows)  # one step is faster, sixteen are nearer
    assert rows[0].p50_us < rows[1].p50_us
    assert rows[0].endpoint_error > rows[1].endpoint_error
    assert rows[0].endpoint_error == rows[2].endpoint_error  # a fixed grid does not depend on the batch


def test_a_sampler_without_a_fixed_grid_is_graded_on_fewer_rows() -> None:
    called = 0

    def adaptive(velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        nonlocal called
        called += 1
        return euler(4)(velocity, x, t0, t1)

    field = GaussianField(mu=0, sigma=0.5)
    samplers = {("adaptive", None): adaptive, ("euler", 4): euler(4)}
    first, second = bench(FlowInputs(field, 1, 40), samplers, [1], 0, reference=field.endpoint, effort=ONCE)
    assert first.endpoint_error == pytest.approx(second.endpoint_error, rel=0.05)
    assert called == 8 + 32 + 3 + 4  # counting NFE, endpoints, warm-up, one call in each of four rounds


def test_the_same_seed_gives_the_same_error() -> None:
    field = GaussianField(mu=0, sigma=0.5)

    def error(seed: int) -> float:
        samplers = {("euler", 2): euler(2)}
        return bench(FlowInputs(field, 1, 2), samplers, [1], seed, reference=euler(50), effort=ONCE)[0].endpoint_error

    assert error(3) == error(3) != error(4)


def test_a_sampler_that_fails_is_left_out_and_reported() -> None:
    def broken(velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        raise RuntimeError("no way")

    lines: list[str] = []
    field = GaussianField(mu=0, sigma=1)
    samplers = {("broken", None): broken, ("euler", 1): euler(1)}
    rows = bench(FlowInputs(field, 1, 2), samplers, [1], 0, reference=field.endpoint, effort=ONCE, report=lines.append)
    assert [row.sampler for row in rows] == ["euler"]
    assert any("broken" in line and "no way" in line for line in lines)


# ---------------------------------------------------------------------------------------------- machine


@pytest.mark.parametrize(
    ("load", "others", "share", "good"),
    [
        (0.1, 0.05, 0.99, True),
        (3.1, 0.05, 0.99, True),  # the load is still coming down, but no other process ran
        (3.1, 1.4, 0.99, False),  # another process on the other core
        (3.1, None, 0.99, False),  # only the load is known
        (0.4, None, 0.99, True),
        (None, None, 0.99, True),
        (0.1, 0.05, 0.80, False),  # another process had our core a fifth of the time
    ],
)
def test_the_verdict_on_two_cores(load: float | None, others: float | None, share: float, good: bool) -> None:
    verdict = machine.judge(2, load, load, others, share)
    assert verdict.good is good
    assert bool(verdict.reason) is not good


def test_the_reason_names_load_and_cores() -> None:
    assert "load 3.1 on 2 cores" in machine.judge(2, 3.1, 3.1, 1.4, 1.0).reason


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the load of other programs is known on Linux only")
def test_load_of_another_process_is_measured() -> None:
    watch = machine.LoadMonitor()
    busy = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass"
    with subprocess.Popen([sys.executable, "-S", "-c", busy]):
        time.sleep(1.2)
        verdict = watch.verdict([1.0])  # before the process is waited for
    assert verdict.others is not None
    assert verdict.others > 0.4  # one core nearly all the time, or what a crowded machine left of it


def test_a_compiler_that_the_measurement_waited_for_is_not_another_program() -> None:
    before = machine._own_seconds()
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], check=True)
    assert machine._own_seconds() - before > 0.4


# ---------------------------------------------------------------------------------------------- command


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "STANDARD_SIZES", {"XS": (3, 2, (8,))})


@pytest.mark.usefixtures("small")
def test_the_command_prints_and_writes_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "new" / "folder")
    options = ["--samplers", "euler,heun", "--steps", "1,2", "--batch", "3", "--out", out, "--json"]
    assert run(["bench-latency", *options]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert json.loads((tmp_path / "new/folder/latency.json").read_text()) == document
    assert (tmp_path / "new/folder/latency-XS-batch3.png").read_bytes().startswith(b"\x89PNG")
    rows = document["networks"][0]["rows"]
    assert [(row["sampler"], row["steps"], row["nfe"]) for row in rows] == [
        ("euler", 1, 1), ("euler", 2, 2), ("heun", 1, 2), ("heun", 2, 4),
    ]  # fmt: skip
    assert " ".join(rows[0]) == (
        "sampler steps backend batch nfe endpoint_error p50_us p90_us p99_us max_us calls cpu_share pareto hz"
    )
    assert document["machine"]["threads"] == 1
    assert isinstance(document["good"], bool)
    assert "latency.json" in printed.err
    assert printed.err.splitlines()[-1].startswith("next: ")


OWN = """\
import sys
calls = 0
class Own:
    def __call__(self, velocity, x, t0, t1):
        global calls
        calls += 1
        {body}
"""


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("return x / 0", 0, "own.py:Own has no error: its actions are not finite"),
        ("sys.exit(0)", 0, "left out own.py:Own: SystemExit: 0 (own.py:7)"),
        ("return x.double()", 0, "left out own.py:Own: the sampler 'own.py:Own' returned"),
        ("return x if calls < 200 else sys.exit(0)", 2, "flowrl: the sampler 'own.py:Own' failed: SystemExit: 0"),
    ],
)
def test_a_faulty_sampler_is_reported(
    body: str, code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN.format(body=body))
    assert run(["bench-latency", "--samplers", "euler,own.py:Own", "--steps", "1", "--batch", "1"]) == code
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("small")
def test_figures_of_a_busy_machine_are_not_called_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = machine.judge(2, 3.1, 3.3, 1.7, 0.9)
    monkeypatch.setattr(machine.LoadMonitor, "verdict", lambda watch, shares: busy)
    options = ["--samplers", "euler", "--steps", "1", "--batch", "1", "--out", str(tmp_path)]
    assert run(["bench-latency", *options]) == 0
    assert "not good figures: load 3.1 on 2 cores" in capsys.readouterr().out
    assert json.loads((tmp_path / "latency.json").read_text())["good"] is False


@pytest.mark.parametrize(
    ("option", "value"),
    [("--steps", "1,x"), ("--steps", "0"), ("--batch", "''"), ("--batch", "-3"), ("--samplers", "eulr")],
)
def test_mistakes_are_reported_before_anything_is_measured(
    option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["bench-latency", option, value, "--out", str(out)]) == 2
    assert value in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.usefixtures("small")
def test_other_backends_compute_the_same_samplers_in_the_same_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    options = ["--sampler", "euler:2,dopri5", "--batch", "1,3", "--backends", "torch,onnx", "--out", str(tmp_path)]
    assert run(["bench-latency", *options, "--json"]) == 0
    printed = capsys.readouterr()
    rows = json.loads(printed.out)["networks"][0]["rows"]
    assert [(row["sampler"], row["backend"], row["batch"]) for row in rows] == [
        ("euler", "torch", 1), ("euler", "onnx", 1), ("dopri5", "torch", 1),
        ("euler", "torch", 3), ("euler", "onnx", 3), ("dopri5", "torch", 3),
    ]  # fmt: skip
    assert rows[0]["endpoint_error"] == rows[1]["endpoint_error"]
    assert all(row["p50_us"] <= row["p99_us"] <= row["max_us"] for row in rows)
    assert all(row["hz"] == pytest.approx(1e6 / (2 * row["p99_us"])) for row in rows)
    assert "left out dopri5 in onnx: sampler 'dopri5' cannot be exported" in printed.err
    assert (tmp_path / "latency-XS-batch3-onnx.png").exists()


def test_half_the_period_is_the_gate_of_a_rate_and_the_stricter_gate_counts() -> None:
    assert latency.Gate.of(None, None) is None
    assert latency.Gate.of(None, 1000.0) == latency.Gate(500.0, "--hz 1000, half of whose period is 500 µs")
    assert latency.Gate.of(600.0, 1000.0) == latency.Gate.of(None, 1000.0)
    assert latency.Gate.of(400.0, 1000.0) == latency.Gate(400.0, "--max-p99-us 400")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("most", "code"), [("1e9", 0), ("0.01", 7)])
def test_the_gate_decides_the_exit_code_on_a_thousand_calls(
    most: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = machine.judge(2, 0.0, 0.0, 0.0, 1.0)
    monkeypatch.setattr(machine.LoadMonitor, "verdict", lambda watch, shares: quiet)
    options = ["--sampler", "euler:1", "--max-p99-us", most, "--out", str(tmp_path)]
    assert run(["bench-latency", *options]) == code
    said = capsys.readouterr().err
    assert ("every p99 is within" in said) == (code == 0)
    assert ("--max-p99-us 0.01: euler:1 in torch: p99" in said) == (code == 7)
    (row,) = json.loads((tmp_path / "latency.json").read_text())["networks"][0]["rows"]
    assert row["batch"] == 1 and row["calls"] >= 1000


def test_a_busy_measurement_is_repeated_and_the_least_p99_of_each_row_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([[90.0, 30.0], [20.0, 40.0], [25.0, 50.0]])

    def rows(*_: object, **__: object) -> list[Row]:
        p99s = zip("ab", next(measured), strict=True)
        return [Row(name, 1, "c", 1, 1.0, 0.0, 1.0, 1.0, p99, p99, 1000, 1.0, True) for name, p99 in p99s]

    monkeypatch.setattr(latency, "bench", rows)
    busy = machine.judge(2, 3.1, 3.3, 1.7, 0.9)
    monkeypatch.setattr(machine.LoadMonitor, "verdict", lambda watch, shares: busy)
    policy = latency.standard(0)[:1]

    def found(most: float) -> list[float]:
        document = latency.run(policy, {}, [1], 0, gate=latency.Gate(most, ""))
        return [row["p99_us"] for row in document["networks"][0]["rows"]]

    assert found(35.0) == [20.0, 30.0]  # two measurements were enough
    measured = iter([[90.0, 30.0]] * 3)
    assert found(10.0) == [90.0, 30.0]
    assert next(measured, None) is None  # three measurements, no more


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("options", [["--hz", "1"], []])
def test_what_was_not_measured_passes_no_gate(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The steps of dopri5 are not fixed, so ONNX cannot compute it: a gate without a row would always pass."""
    pytest.importorskip("onnxruntime")
    asked = ["--sampler", "dopri5", "--backends", "onnx", "--batch", "1", "--out", str(tmp_path)]
    assert run(["bench-latency", *asked, *options]) == 2
    assert "dopri5 was not measured in onnx" in capsys.readouterr().err


def test_an_unknown_backend_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench-latency", "--backends", "torch,onxx"]) == 2
    assert "--backends onxx: expected one of torch, onnx, c. Did you mean 'onnx'?" in capsys.readouterr().err
