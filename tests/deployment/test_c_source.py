"""The C file computes the policy, for every kind of policy, and is a well-behaved C file."""

from __future__ import annotations

import ctypes
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowrl.contracts.errors import CheckpointError, StorageError, UsageError
from flowrl.deployment import backends, c_compiler, c_reader, c_source
from flowrl.deployment.folding import fold
from flowrl.deployment.noise_choice import NoiseChoice
from flowrl.deployment.program import Program
from tests.deployment import c_programs, random_policies
from tests.deployment.c_programs import needs, needs_compiler

FLOWS: list[dict[str, Any]] = [
    {"hidden": (1,)},
    {"hidden": (3, 3), "activation": "relu"},
    {"hidden": (31,), "activation": "elu", "parameterisation": "eps"},
    {"hidden": (32, 33), "activation": "tanh", "parameterisation": "data"},
    {"hidden": (33, 64, 31), "sampler": ("rk4", 2)},
    {"hidden": (64,), "sampler": ("ab2", 7), "parameterisation": "data", "activation": "elu"},
    {"hidden": (100, 7), "sampler": ("heun", 3), "parameterisation": "data"},
    {"hidden": (100,), "sampler": ("heun", 3), "parameterisation": "eps", "activation": "relu"},
    {"hidden": (1024,), "sampler": ("midpoint", 1), "activation": "tanh"},
    {"hidden": (5, 6, 7, 8, 9, 10), "sampler": ("ralston", 2), "activation": "elu"},
    {"hidden": (32,) * 4, "sampler": ("euler", 10), "observation": 17, "action": 6, "masked": True},
    {"observation": 700, "action": 40, "masked": True, "action_limit": 0.7},
    {"observation": 1, "action": 1, "normalise": False, "action_limit": 1.0},
    {"action": 33, "parameterisation": "data", "activation": "tanh"},
    {"base": "normal", "output_scale": 0, "hidden": (33,)},
    {"base": "mixture", "output_scale": 0, "sampler": ("euler", 10), "masked": True},
    {"base": "mixture", "output_scale": 0, "components": 3, "sampler": ("ab2", 4), "action": 12, "hidden": (33, 5)},
    {"base": "mixture", "output_scale": 0, "components": 7, "sampler": ("rk4", 2), "action": 1, "action_limit": 0.9},
]
GAUSSIANS: list[dict[str, Any]] = [
    {},
    {"std": "state_dependent", "hidden": (40,), "activation": "silu"},
    {"std": "state_dependent", "action": 20, "masked": True, "activation": "elu"},
    {"std": "fixed", "hidden": (8, 8, 8), "activation": "relu", "observation": 1, "action": 1},
]
ENDS = [(None, ""), ("tanh", "bounded"), ("clip", "mixed"), ("tanh", "mixed"), ("clip", "unbounded")]


def programs() -> list[tuple[str, Program]]:
    """Every policy above, each with one of the ends in turn."""
    made = []
    for number, (kind, settings) in enumerate(
        [*(("flow", each) for each in FLOWS), *(("gaussian", each) for each in GAUSSIANS)]
    ):
        policy = random_policies.flow(**settings) if kind == "flow" else random_policies.gaussian(**settings)
        squash, sides = ENDS[number % len(ENDS)]
        limits = random_policies.bounds(settings.get("action", 3), squash, sides=sides) if squash else None
        made.append((f"{kind} {settings} {squash} {sides}", fold(policy, limits)))
    return made


@pytest.fixture(scope="module")
def euler() -> Program:
    """A usual flow, bounded by tanh."""
    return fold(random_policies.flow(7, 3, sampler=("euler", 5)), random_policies.bounds(3, "tanh"))


@needs_compiler
@pytest.mark.parametrize("number", range(len(FLOWS) + len(GAUSSIANS)))
def test_the_c_file_computes_the_program(number: int, tmp_path: Path) -> None:
    what, program = programs()[number]
    obs, noise = random_policies.inputs(program.observation_size, program.action_size)
    backend = c_programs.library(tmp_path, program)
    found = backends.actions_of(backend, program.action_size, given=True)(obs, noise)
    reference = program.evaluate(obs, noise)
    assert np.abs(found - reference).max() < 5e-6 * max(1.0, np.abs(reference).max()), what
    assert np.abs(reference).max() > 0.01, what  # not all zeros


@needs_compiler
def test_a_missing_noise_is_zeros_or_the_fixed_draw(tmp_path: Path, euler: Program) -> None:
    obs, noise = random_policies.inputs(7, 3, rows=5)
    draw = noise[:1]
    plain = c_programs.library(tmp_path, euler)
    zeros, given = np.zeros((5, 3), np.float32), np.zeros((5, 3), np.float32)
    assert plain(obs, None, zeros) and plain(obs, np.zeros_like(noise), given)
    assert np.array_equal(zeros, given) and not np.array_equal(zeros[0], zeros[1])
    (tmp_path / "fixed").mkdir()
    fixed = c_programs.library(tmp_path / "fixed", euler, choice=NoiseChoice("fixed"), fixed=draw[0].astype(np.float64))
    one, other = np.zeros((5, 3), np.float32), np.zeros((5, 3), np.float32)
    fixed(obs, None, one)
    plain(obs, np.repeat(draw, 5, axis=0), other)
    assert np.array_equal(one, other)


@needs_compiler
@pytest.mark.parametrize("at", ["mean", "logit", "noise"])
def test_a_mixture_that_is_not_finite_is_told(at: str, tmp_path: Path) -> None:
    """The exponential clamps NaN, and noise of 1e30 makes all components infinitely unlikely."""
    program = fold(random_policies.flow(7, 3, base="mixture", output_scale=0))
    *hidden, (weights, bias) = program.layers
    if at != "noise":
        bias = bias.copy()
        bias[4 if at == "mean" else -1] = np.inf  # written as the largest number, whose square or double is infinite
    program = replace(program, layers=(*hidden, (weights, bias)))
    obs, noise = random_policies.inputs(7, 3, rows=4)
    act = c_programs.library(tmp_path, program)
    actions = np.zeros((4, 3), np.float32)
    assert not act(obs, noise * np.float32(1e30 if at == "noise" else 1), actions)
    assert np.isnan(actions).all()


@needs_compiler
def test_the_files_of_an_export_compile_strictly_and_pass_their_own_test(tmp_path: Path, euler: Program) -> None:
    c_programs.write(tmp_path, euler, name="trot")
    strict = " ".join(["-O2", *c_programs.STRICT])
    printed = c_programs.run(["make", "test", f"CFLAGS={strict}"], tmp_path).stdout
    assert re.search(r"64 actions: max \|error\| \S+, allowed 1e-05", printed)
    text = (tmp_path / "policy.c").read_text() + (tmp_path / "policy.h").read_text()
    assert "trot_act" in text and "TROT_OBS" in text and not re.search(r"\bflowrl_|\bFLOWRL_", text)
    wrong = (tmp_path / "policy.c").read_text().replace("start[k] = x[k];", "start[k] = 0.9f * x[k];")
    (tmp_path / "policy.c").write_text(wrong)
    with pytest.raises(AssertionError, match="FAILED: the actions are not those of the policy"):
        c_programs.run(["make", "-B", "test"], tmp_path)


@needs_compiler
@pytest.mark.parametrize("settings", [{"parameterisation": "data"}, {"base": "mixture", "output_scale": 0}])
def test_sanitizers_find_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    """In a network of the widths 3, 33 and 64, of which two are no multiple of the tile, with a plan with memory."""
    policy = random_policies.flow(7, 3, hidden=(3, 33, 64), sampler=("ab2", 5), **settings)
    c_programs.write(tmp_path, fold(policy, random_policies.bounds(3, "tanh", sides="mixed")))
    flags = ["-g", "-O1", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
    c_programs.run(["cc", "-std=c99", *flags, "policy.c", "test_policy.c", "-o", "test"], tmp_path)
    assert "64 actions" in c_programs.run(["./test", "100"], tmp_path).stdout


@needs_compiler
@needs("valgrind")
@pytest.mark.slow
def test_valgrind_finds_nothing(tmp_path: Path) -> None:
    policy = random_policies.flow(7, 3, hidden=(33, 5), sampler=("rk4", 2), parameterisation="eps")
    c_programs.write(tmp_path, fold(policy, random_policies.bounds(3, "clip", sides="mixed")))
    c_programs.run(["cc", "-std=c99", "-g", "-O1", "policy.c", "test_policy.c", "-o", "test"], tmp_path)
    c_programs.run(["valgrind", "--error-exitcode=9", "--quiet", "./test", "10"], tmp_path)


@needs_compiler
@needs("g++")
def test_a_c_plus_plus_program_links_it(tmp_path: Path, euler: Program) -> None:
    c_programs.write(tmp_path, euler)
    (tmp_path / "main.cpp").write_text(
        '#include "policy.h"\n'
        "int main() { float obs[FLOWRL_OBS] = {}, action[FLOWRL_ACT]; return flowrl_act(obs, nullptr, action); }\n"
    )
    c_programs.run(["cc", "-std=c99", "-c", "policy.c"], tmp_path)
    c_programs.run(["g++", "main.cpp", "policy.o", "-o", "main"], tmp_path)
    c_programs.run(["./main"], tmp_path)


@needs_compiler
@needs("nm")
def test_it_has_no_writable_memory_and_needs_no_mathematical_library(tmp_path: Path, euler: Program) -> None:
    c_programs.write(tmp_path, euler)
    c_programs.run(["cc", "-std=c99", "-O3", "-c", "policy.c"], tmp_path)
    symbols = [line.split() for line in c_programs.run(["nm", "policy.o"], tmp_path).stdout.splitlines()]
    assert {words[-2] for words in symbols} <= {"T", "t", "r", "U"}  # code, constants, and what is undefined:
    assert {words[-1] for words in symbols if words[-2] == "U"} <= {"memcpy", "memset", "memmove", "__stack_chk_fail"}


@needs_compiler
def test_fast_math_is_refused(tmp_path: Path, euler: Program) -> None:
    with pytest.raises(StorageError, match="compile without -ffast-math"):
        c_programs.library(tmp_path, euler, ("-O1", "-ffast-math", "-shared", "-fPIC"))


@needs_compiler
def test_the_exponential_is_right_to_two_units_in_the_last_place(tmp_path: Path, euler: Program) -> None:
    c_programs.write(tmp_path, euler)
    (tmp_path / "exp.c").write_text(
        '#include "policy.c"\nvoid every(const float *v, float *e, int n) { exp_(v, e, n); }\n'
    )
    c_programs.run(["cc", "-std=c99", "-O2", "-fPIC", "-shared", "exp.c", "-o", "exp.so"], tmp_path)
    values = np.concatenate([np.linspace(-87, 87, 1_000_001), np.linspace(-1, 1, 200_001)]).astype(np.float32)
    values = np.append(values, np.float32([-500, 500, np.nan, -np.inf, np.inf, 0]))
    found = np.zeros_like(values)
    every = ctypes.CDLL(str(tmp_path / "exp.so")).every
    every(ctypes.c_void_p(values.ctypes.data), ctypes.c_void_p(found.ctypes.data), len(values))
    exact = np.exp(np.clip(np.nan_to_num(values, nan=-87.0), -87, 87).astype(np.float64))
    assert (np.abs(found - exact) / np.spacing(exact.astype(np.float32))).max() <= 2
    assert found[-1] == 1


@needs_compiler
def test_threads_may_call_it_at_once(tmp_path: Path, euler: Program) -> None:
    backend = c_programs.library(tmp_path, euler)
    act = c_compiler.function(tmp_path / "policy.so", "flowrl")
    obs, noise = random_policies.inputs(7, 3, rows=2000)
    alone = backends.actions_of(backend, 3, given=True)(obs, noise)
    together = np.zeros_like(alone)

    def every(start: int) -> None:
        for row in range(start, len(obs), 4):
            act(obs[row].ctypes.data, noise[row].ctypes.data, together[row].ctypes.data)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(every, range(4)))
    assert np.array_equal(alone, together)


@needs_compiler
def test_the_noise_is_standard_normal_and_continues_from_its_state(tmp_path: Path, euler: Program) -> None:
    c_programs.library(tmp_path, euler)
    draw = ctypes.CDLL(str(tmp_path / "policy.so")).flowrl_noise
    draw.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    state, noise = np.zeros(1, np.uint64), np.zeros((40_000, 3), np.float32)
    for row in noise:
        draw(state.ctypes.data, row.ctypes.data)
    values = np.sort(noise.reshape(-1).astype(np.float64))
    count = len(values)
    assert abs(values.mean()) < 4 / np.sqrt(count) and abs(values.var() - 1) < 4 * np.sqrt(2 / count)
    from math import erf

    normal = np.array([0.5 * (1 + erf(value / np.sqrt(2))) for value in values])
    distance = np.abs(normal - (np.arange(count) + 0.5) / count).max()
    assert distance < 1.63 / np.sqrt(count)  # Kolmogorov and Smirnov, 1 %
    correlation = np.corrcoef(noise.T)
    assert np.abs(correlation - np.eye(3)).max() < 4 / np.sqrt(len(noise))
    again = np.zeros(3, np.float32)
    state[0] = 0
    draw(state.ctypes.data, again.ctypes.data)
    assert np.array_equal(again, noise[0])
    word = 0xE220A8397B1DCDAF  # the first of splitmix64 from the state 0
    radius, angle = np.sqrt(-2 * np.log(((word >> 40) + 1) / 2**24)), 2 * np.pi * (word & 0xFFFFFF) / 2**24
    assert noise[0, :2] == pytest.approx([radius * np.cos(angle), radius * np.sin(angle)], abs=2e-6)


def test_numbers_give_the_float_back(euler: Program) -> None:
    text = c_source.source(euler, NoiseChoice())
    found = re.search(r"observation_weights\[\d+\] = \{\n([^}]*)\}", text)
    assert found is not None
    values = np.array([float(each.strip().rstrip("f")) for each in found[1].split(",") if each.strip()], np.float32)
    assert np.array_equal(values, c_source.tiles(euler.observation_weights).astype(np.float32).reshape(-1))


@pytest.mark.parametrize("name", ["Trot", "2legs", "a-b", "", "x;y"])
def test_a_prefix_that_is_no_c_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="expected a C name in lower case"):
        c_source.check_prefix(name)


# --- reading a C file back


def test_every_c_file_is_read_back_as_its_program() -> None:
    for what, program in programs():
        if max(program.hidden) > 100:
            continue  # slow
        source = c_source.source(program, NoiseChoice(), None, "walk", "what it is")
        found = c_reader.read(source, "walk", "here").program
        obs, noise = random_policies.inputs(program.observation_size, program.action_size, 20)
        one, other = (each.evaluate(obs, noise) for each in (program, found))
        assert np.abs(one - other).max() < 3e-6 * max(1.0, np.abs(one).max()), what


def refuses(program: Program, old: str, new: str) -> None:
    """The C file of `program` is read, and no longer once `new` is in the place of `old`."""
    source = c_source.source(program, NoiseChoice())
    assert c_reader.read(source, "flowrl", "policy.c").fixed is None
    assert old in source
    with pytest.raises(CheckpointError, match=r"policy.c is not as this version of flowrl writes it"):
        c_reader.read(source.replace(old, new, 1), "flowrl", "policy.c")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("int bad = 0", "int bad = 1"),
        ("#define OBS 7", "#define OBS 70000"),  # would read beyond the array
        ("#define WIDEST 32", "#define WIDEST 1"),  # would write beyond it
        ("#define FIRST 32", "#define FIRST 64"),
        ("#define NODES 5", "#define NODES 6"),
        ("HIDDEN_LAYERS(L) L(w_0", "HIDDEN_LAYERS(L) abort(); L(w_0"),
        ("#define NOISE_SCALE 1.0f", "#define NOISE_SCALE abort()"),
        ("#define NODES", "int more(void);\n#define NODES"),
        ("/* ", "/* */ int more(void); /* "),
        ("static const float shift[7] = {\n", "static const float shift[7] = {\n1.0f, "),
    ],
)
def test_a_c_file_with_anything_but_its_numbers_is_refused(old: str, new: str, euler: Program) -> None:
    refuses(euler, old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("#define COMPONENTS 4", "#define COMPONENTS 9999999"),  # would read beyond the arrays
        ("#define COMPONENTS 4", "#define COMPONENTS 3"),
        ("#define COMPONENTS 4", "#define COMPONENTS 0"),
        ("static const float times[4] = {\n", "static const float times[4] = {\n0.5f, "),
        ("static const float offset[16]", "static const float offset[17]"),
        ("#define MEMORY 1", "#define MEMORY 99999999"),
    ],
)
def test_a_c_file_of_a_mixture_with_other_sizes_is_refused(old: str, new: str) -> None:
    refuses(fold(random_policies.flow(base="mixture", output_scale=0)), old, new)


@pytest.mark.parametrize("settings", [{}, {"base": "mixture", "components": 9, "output_scale": 0}])
@pytest.mark.parametrize("cut", ["observation_weights", "bias", "w_0", "b_0", "last_weights", "last_bias"])
def test_a_c_file_whose_arrays_are_all_too_short_is_refused(cut: str, settings: dict[str, Any]) -> None:
    """Written from a program with cut arrays, so that its text fits itself, but not the sizes of the layers."""
    program = fold(random_policies.flow(7, 3, hidden=(40, 64), **settings))
    (w_0, b_0), (last, last_bias) = program.layers
    outputs = len(last)
    if cut == "observation_weights":
        program = replace(program, observation_weights=program.observation_weights[:32])
    elif cut == "w_0":
        program = replace(program, layers=((w_0[:32], b_0), (last, last_bias)))
    source = c_source.source(program, NoiseChoice())
    if cut in ("bias", "b_0", "last_weights", "last_bias"):
        name = {"bias": "first_bias"}.get(cut, cut)
        found = re.search(rf"static const float {name}\[(\d+)\] = \{{\n([^}}]*)\}};", source)
        assert found is not None
        numbers = found[2].replace("\n", " ").split(", ")[:-1]
        tile = 32 * (64 if cut == "last_weights" else 1)
        fewer = numbers[:tile] if len(numbers) > tile else numbers[:outputs]
        text = "\n".join(c_source.array(name, np.array([float(each.rstrip("f,")) for each in fewer])))
        source = source.replace(found[0], text)
    with pytest.raises(CheckpointError, match=r"policy.c is not as this version of flowrl writes it"):
        c_reader.read(source, "flowrl", "policy.c")


@pytest.mark.parametrize("settings", [{}, {"base": "mixture", "output_scale": 0}])
def test_a_c_file_whose_plan_keeps_no_velocity_is_refused(settings: dict[str, Any]) -> None:
    """It would divide by zero."""
    program = fold(random_policies.flow(7, 3, **settings))
    assert program.flow is not None
    nodes = tuple(node._replace(weights=()) for node in program.flow.nodes)
    none = replace(program, flow=replace(program.flow, nodes=nodes))  # type: ignore[type-var, arg-type]
    source = c_source.source(none, NoiseChoice())
    assert "#define MEMORY 0" in source
    with pytest.raises(CheckpointError, match=r"policy.c is not as this version of flowrl writes it"):
        c_reader.read(source, "flowrl", "policy.c")


# --- the cache


@needs_compiler
def test_a_library_is_compiled_once_and_not_taken_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, euler: Program
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source, header = c_source.source(euler, NoiseChoice()), c_source.header(euler, NoiseChoice())
    assert c_compiler.cached(source) is None
    library = c_compiler.compiled(source, header)
    assert library.is_relative_to(tmp_path / "cache")
    written = library.stat().st_mtime_ns
    assert c_compiler.compiled(source, header) == library and library.stat().st_mtime_ns == written
    assert c_compiler.cached(source.replace("1.0f", "2.0f")) is None
    library.chmod(0o777)  # another user could have written it
    assert c_compiler.cached(source) is None
    library.unlink()
    library.parent.chmod(0o777)
    with pytest.raises(StorageError, match="others may write to it"):
        c_compiler.compiled(source, header)


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from flowrl.contracts.errors import MissingDependency

    monkeypatch.setenv("CC", f"no-such-compiler-{os.getpid()}")
    with pytest.raises(MissingDependency, match="apt install gcc"):
        c_compiler.needed_compiler()
