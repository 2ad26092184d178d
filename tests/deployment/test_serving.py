"""`flowrl.load`: a policy in a control loop, with every backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowrl
from flowrl import cli
from flowrl.contracts.errors import CheckpointError, UsageError
from flowrl.deployment import c_compiler
from flowrl.experiments import deployable, evaluate
from tests.deployment import random_policies
from tests.small_recipe import small

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytestmark = pytest.mark.skipif(c_compiler.compiler() is None, reason="there is no C compiler")

DATA = Path(__file__).parents[1] / "data" / "checkpoints"
PENDULUM = DATA / "pendulum-ppo-ema" / "run"


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Compiled policies of these tests are kept apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.yaml").write_text(small(32))
    assert cli.run(["train", str(folder / "small.yaml"), "--out", str(folder), "--name", "tiny", "--json"]) == 0
    return folder / "tiny"


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of it; its C file is compiled."""
    out = tmp_path_factory.mktemp("export")
    assert cli.run(["export", str(run), "-o", str(out)]) == 0
    return out


def test_every_backend_acts_as_the_policy_in_its_environment(run: Path, folder: Path) -> None:
    obs, noise = random_policies.inputs(2, 2, rows=30)
    expected = deployable.deployable(evaluate.open_checkpoint(run), evaluate.EvalRequest()).act()(obs, noise)
    assert np.abs(expected).max() <= 1  # the bounds of GridWorld's actions
    for path, backend in [(run, "torch"), (run, "onnx"), (run, "c"), (folder, "onnx"), (folder, "c")]:
        act = flowrl.load(path, backend=backend)
        assert act.backend == backend and (act.observation_size, act.action_size, act.nfe) == (2, 2, 2)
        together = act(obs, noise=noise)
        assert np.abs(together - expected).max() < 1e-6, (path, backend)
        alone = np.stack([act(each, noise=draw) for each, draw in zip(obs, noise, strict=True)])
        assert np.abs(alone - expected).max() < 1e-6, (path, backend)
        act.close()
    assert (flowrl.load(run).backend, flowrl.load(folder).backend) == ("torch", "c")


def test_an_export_is_loaded_without_torch(folder: Path) -> None:
    code = (
        "import flowrl, numpy, sys\n"
        f"act = flowrl.load({str(folder)!r}, seed=3)\n"
        "print(act.backend, act(numpy.zeros(2)).tolist(), 'torch' in sys.modules, 'gymnasium' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = flowrl.load(folder, seed=3)(np.zeros(2)).tolist()
    assert done.stdout.strip() == f"c {expected} False False"


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="processor time of a child is not available here")
def test_the_first_action_of_an_export_is_there_within_half_a_second(folder: Path) -> None:
    """Of processor time, with the start of Python: waiting for a busy machine is not counted."""
    code = f"import flowrl, numpy\nflowrl.load({str(folder)!r})(numpy.zeros(2))"
    seconds = []
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        seconds.append(usage.ru_utime + usage.ru_stime)
    print(f"{min(seconds):.2f} s of processor time")
    assert min(seconds) <= 0.5


def test_the_noise_repeats_from_its_seed_and_is_drawn_for_each_action(folder: Path) -> None:
    act, other = flowrl.load(folder, seed=1), flowrl.load(folder, seed=1)
    obs = np.full(2, 0.1, np.float32)
    first = [act(obs) for _ in range(3)]
    assert np.array_equal(first, [other(obs) for _ in range(3)]) and not np.array_equal(first[0], first[1])
    act.reset()
    assert not np.array_equal(act(obs), first[0])  # an episode's beginning does not repeat the last one's noise
    act.reset(1)
    assert np.array_equal(act(obs), first[0])


def test_noise_zero_fixed_and_scaled(run: Path, folder: Path) -> None:
    obs, noise = np.full(2, 0.1, np.float32), np.array([1.0, -2.0], np.float32)
    for path in (run, folder):
        zero = flowrl.load(path, noise="zero")
        assert np.array_equal(zero(obs), zero(obs)) and np.array_equal(zero(obs), zero(obs, noise=np.zeros(2)))
        fixed = flowrl.load(path, noise="fixed", seed=5)
        assert np.array_equal(fixed(obs), fixed(obs)) and not np.array_equal(fixed(obs), zero(obs))
        half = flowrl.load(path, noise_scale=0.5)
        assert np.array_equal(half(obs, noise=noise), flowrl.load(path)(obs, noise=noise / 2))
        none = flowrl.load(path, noise_scale=0)
        assert np.array_equal(none(obs), zero(obs))


def test_the_noise_scale_of_an_export_is_replaced(run: Path, folder: Path, tmp_path: Path) -> None:
    assert cli.run(["export", str(run), "-o", str(tmp_path), "--noise", "half", "--format", "c"]) == 0
    obs, noise = np.full(2, 0.1, np.float32), np.array([1.0, -2.0], np.float32)
    full = flowrl.load(folder)(obs, noise=noise)
    assert np.array_equal(
        flowrl.load(tmp_path)(obs, noise=noise), flowrl.load(folder, noise_scale=0.5)(obs, noise=noise)
    )
    assert np.array_equal(flowrl.load(tmp_path, noise_scale=1.0)(obs, noise=noise), full)


def test_an_export_with_its_own_noise_takes_no_other(run: Path, tmp_path: Path) -> None:
    assert cli.run(["export", str(run), "-o", str(tmp_path), "--noise", "fixed:2"]) == 0
    act = flowrl.load(tmp_path, backend="onnx")
    assert np.allclose(act(np.zeros(2)), flowrl.load(tmp_path, backend="c")(np.zeros(2)), atol=1e-6)
    with pytest.raises(UsageError, match=r"own noise \(fixed\).*--noise input"):
        act(np.zeros(2), noise=np.zeros(2))
    with pytest.raises(UsageError, match="Leave noise and noise_scale out"):
        flowrl.load(tmp_path, noise="random")


def test_the_c_backend_allocates_nothing(folder: Path) -> None:
    act = flowrl.load(folder, backend="c")
    obs, out = np.zeros(2, np.float32), np.zeros(2, np.float32)
    for _ in range(10):
        assert act(obs, out=out) is out
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(200):
        act(obs, out=out)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 1000  # bytes in 200 calls: nothing stays


def test_results_are_new_arrays_unless_out_is_given(folder: Path) -> None:
    act = flowrl.load(folder)
    first = act(np.zeros(2))
    kept = first.copy()
    act(np.ones(2))
    assert np.array_equal(first, kept)
    rows = np.zeros((3, 2), np.float32)
    assert act(np.zeros((3, 2), np.float64), out=rows) is rows and rows.any()
    assert act.select_action([0.0, 0.5]).shape == (2,)


def test_what_is_not_finite_raises_or_holds_the_last_action(run: Path, folder: Path) -> None:
    for path, backend in [(folder, "c"), (folder, "onnx"), (run, "torch")]:
        act = flowrl.load(path, backend=backend)
        with pytest.raises(FloatingPointError, match=r"the observation's numbers \[1\] are not finite"):
            act(np.array([0.0, np.nan]))
        held = flowrl.load(path, backend=backend, on_bad="hold")
        assert held(np.array([np.inf, 0.0])).tolist() == [0, 0]
        last = held(np.zeros(2))
        assert np.array_equal(held(np.array([0.0, np.nan])), last)
        held.reset()
        assert held(np.array([np.inf, 0.0])).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"backend": "C"}, "expected one of auto, torch, onnx, c"),
        ({"backend": "torch"}, "without torch"),
        ({"sampler": "heun"}, "whose sampler"),
        ({"raw": True}, "whose kind of action"),
        ({"noise": "half"}, "expected one of random, zero, fixed"),
        ({"noise_scale": -1}, "from 0"),
        ({"on_bad": "ignore"}, "expected raise or hold"),
    ],
)
def test_wrong_options_are_refused(arguments: dict[str, Any], words: str, folder: Path) -> None:
    with pytest.raises(UsageError, match=words):
        flowrl.load(folder, **arguments)


def test_wrong_arrays_are_refused(folder: Path) -> None:
    act = flowrl.load(folder)
    for wrong in (np.zeros(3), np.zeros((2, 3)), np.zeros((1, 1, 2)), np.zeros((0, 2))):
        with pytest.raises(UsageError, match=r"this policy takes \(2,\) or \(rows, 2\)"):
            act(wrong)
    with pytest.raises(UsageError, match=r"noise= has the shape \(3,\): expected \(1, 2\)"):
        act(np.zeros(2), noise=np.zeros(3))
    with pytest.raises(UsageError, match="out= has the shape"):
        act(np.zeros(2), out=np.zeros(3, np.float32))


def test_samplers_of_a_checkpoint_are_chosen_and_dopri5_needs_torch() -> None:
    obs, noise = random_policies.inputs(2, 2, rows=8)
    run = DATA / "gridworld-fpo" / "run"
    exact, coarse = flowrl.load(run, sampler="dopri5"), flowrl.load(run, sampler="rk4:10", backend="c")
    assert (exact.backend, coarse.sampler, coarse.nfe) == ("torch", "rk4:10", 40)
    assert np.abs(exact(obs, noise=noise) - coarse(obs, noise=noise)).max() < 1e-3
    with pytest.raises(UsageError, match="so its time per action has no bound"):
        flowrl.load(run, sampler="dopri5", backend="onnx")


def test_raw_actions_are_before_squash_and_bounds() -> None:
    obs, noise = random_policies.inputs(3, 1, rows=8)
    raw = flowrl.load(PENDULUM, raw=True, backend="c")(obs, noise=noise)
    bounded = flowrl.load(PENDULUM, backend="torch")(obs, noise=noise)
    assert np.abs(np.clip(raw, -1, 1) * 2 - bounded).max() < 1e-5 and np.abs(raw).max() > 1


def test_latency_counts_its_calls(folder: Path) -> None:
    found = flowrl.load(folder).latency(200)
    assert found.calls == 200 and 0 < found.p50_us <= found.p90_us <= found.p99_us <= found.max_us
    with pytest.raises(UsageError, match="at least 100"):
        flowrl.load(folder).latency(10)


# --- folders that were changed


def changed(folder: Path, out: Path, **values: Any) -> Path:
    """A copy of the export whose policy.json has other values at dotted keys."""
    import shutil

    shutil.copytree(folder, out)
    document = json.loads((out / "policy.json").read_text())
    for key, value in values.items():
        *parents, name = key.split("__")
        at = document
        for parent in parents:
            at = at[parent]
        at[name] = value
    (out / "policy.json").write_text(json.dumps(document))
    return out


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format": 2}, "key 'format' is not 1"),
        ({"noise__mode": "loud"}, "key 'noise.mode' is 'loud'"),
        ({"noise__scale": -1}, "out of range"),
        ({"noise__seed": True}, "key 'noise.seed'"),
        ({"observation__size": 0}, "must be from 1"),
        ({"observation": []}, "key 'observation.size' is missing"),
        ({"files": None}, "key 'files' is missing"),
        ({"c__prefix": "../x"}, "expected a C name"),
        ({"sampler__nfe": "2"}, "key 'sampler.nfe'"),
    ],
)
def test_a_wrong_description_is_refused(values: dict[str, Any], words: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=words):
        flowrl.load(changed(folder, tmp_path / "copy", **values))


def test_a_changed_file_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = changed(folder, tmp_path / "copy")
    (copy / "policy.onnx").write_bytes(b"x" + (copy / "policy.onnx").read_bytes())
    with pytest.raises(CheckpointError, match=r"policy\.onnx is not the file that policy\.json describes"):
        flowrl.load(copy, backend="onnx")
    (copy / "policy.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"policy\.json cannot be used"):
        flowrl.load(copy)


def test_c_code_of_others_is_never_compiled(folder: Path, tmp_path: Path) -> None:
    """Not even with the right checksum."""
    import hashlib

    copy = changed(folder, tmp_path / "copy")
    text = (copy / "policy.c").read_text().replace("int bad = 0, k;", "int bad = 0, k; static int calls; calls++;")
    (copy / "policy.c").write_text(text)
    document = json.loads((copy / "policy.json").read_text())
    document["files"]["policy.c"] = hashlib.sha256(text.encode()).hexdigest()
    (copy / "policy.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="compiling it could run code of others"):
        flowrl.load(copy, backend="c")
    assert flowrl.load(copy).backend == "onnx"  # auto compiles nothing


def test_sizes_that_do_not_fit_the_c_file_are_refused(folder: Path, tmp_path: Path) -> None:
    """The C function reads as many numbers as it was made for, whatever policy.json says."""
    bounds = {f"action__{name}": [1.0] for name in ("low", "high", "scale", "offset")}
    copy = changed(folder, tmp_path / "copy", action__size=1, noise__size=1, **bounds)
    with pytest.raises(CheckpointError, match=r"policy\.json says 2 and 1"):
        flowrl.load(copy, backend="c")


@pytest.mark.parametrize("path", [None, 5, ""])
def test_a_path_that_is_none_is_refused(path: Any) -> None:
    with pytest.raises(UsageError, match="expected the folder of an export, a checkpoint or a run folder"):
        flowrl.load(path)


def test_what_holds_no_real_numbers_is_refused(folder: Path) -> None:
    act = flowrl.load(folder, backend="c")
    for obs in ("x", [1j, 0], np.zeros(2, complex), np.array(["a", "b"]), {"a": 1}, object()):
        with pytest.raises(UsageError, match="real numbers"):
            act(obs)  # type: ignore[arg-type]
    assert act([0, 1]).shape == act(np.zeros(2, np.int8)).shape == (2,)


@pytest.mark.parametrize("seed", [-1, "x", 1.5])
def test_a_seed_is_a_whole_number(seed: Any, folder: Path) -> None:
    act = flowrl.load(folder, backend="c")
    with pytest.raises(UsageError, match="expected a whole number from 0 on"):
        act.reset(seed=seed)
    with pytest.raises(UsageError, match="expected a whole number from 0 on"):
        flowrl.load(folder, backend="c", seed=seed)


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("action", {"low": [float("nan"), -1]}, "it holds NaN"),
        ("action", {"high": [1]}, "'action.high' is not a list of 2 numbers"),
        ("observation", {"history": -1}, "'observation.history' is -1"),
        ("noise", {"size": 7}, "'noise.size' is not 2, the size of the actions"),
    ],
)
def test_a_description_that_no_export_has_is_refused(
    part: str, change: dict[str, Any], words: str, folder: Path, tmp_path: Path
) -> None:
    document = json.loads((folder / "policy.json").read_text())
    document[part] |= change
    (tmp_path / "policy.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=words):
        flowrl.load(tmp_path)
