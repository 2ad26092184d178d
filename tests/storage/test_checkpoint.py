"""A checkpoint comes back bit for bit, survives kill -9, and damaged or hostile files are refused."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import random
import resource
import signal
import struct
import tarfile
import time
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowrl import __version__
from flowrl.contracts.errors import CheckpointError, StorageError
from flowrl.storage import checkpoint, integrity, rng_state
from tests.equality import same

GENERATOR = torch.Generator().manual_seed(0).get_state()
SHARD: dict[str, Any] = {
    "generator": GENERATOR,
    "episodes": {
        "returns": torch.zeros(2, dtype=torch.float64),
        "lengths": torch.zeros(2, dtype=torch.int64),
        "whole": torch.ones(2, dtype=torch.bool),
        "ended": 7,
    },
    "env": {"id": "Pendulum-v1", "count": 2, "seed": 3, "steps": 6_400, "obs": torch.zeros(2, 3), "envs": None},
    "random": rng_state.state(noise=torch.Generator()),
}
CONTENT: dict[str, Any] = {
    "format": checkpoint.FORMAT,
    "flowrl": __version__,
    "config": {"algorithm": "fpo", "seed": 1, "env": {"id": "Pendulum-v1"}, "sampler": {"name": "heun", "steps": 8}},
    "sizes": {"observation": 3, "action": 1},
    "progress": {
        "iteration": 100,
        "env_steps": 12_800,
        "seconds": 1.5,
        "best_return": -151.25,
        "window_return": 0.0,
        "window_episodes": 0,
        "episodes": 7,
    },
    "actor": {"layer.weight": torch.linspace(-1, 1, 12).view(3, 4), "layer.bias": torch.zeros(3)},
    "critic": {},
    "average": None,
    "normaliser": {
        "count": torch.tensor(4.0, dtype=torch.float64),
        "mean": torch.zeros(3, dtype=torch.float64),
        "sum_of_squares": torch.ones(3, dtype=torch.float64),
    },
    "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}, {"lr": 1e-3}]},
    "schedule": {"updates": 100, "factor": 1.0},
    "advantage_scale": 0.5,
    "shards": [SHARD],
    "metrics_offset": 0,
}


def holding(values: Any) -> dict[str, Any]:
    """`CONTENT` with `values` where any plain values are allowed."""
    return {**CONTENT, "shards": [SHARD | {"env": {**SHARD["env"], "envs": values}}]}


TYPES = holding(
    {
        "bfloat16": torch.tensor([1.0, -0.0, float("nan")], dtype=torch.bfloat16),
        "int64": torch.tensor([-(2**63), 2**63 - 1]),
        "bool": torch.tensor([[True], [False]]),
        "nan": torch.tensor([float("nan"), float("inf"), 1e-45]),
        "scalar": torch.tensor(7, dtype=torch.uint8),
        "empty": torch.zeros(0, 5),
        "plain": [None, True, 2**127 + 1, -(2**127), 0.1, float("nan"), -0.0, "", "π\0\ud800", (), (1, (2,)), {}, [[]]],
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}, 1: {}}, "param_groups": [{"betas": (0.9, 0.999)}]},
    }
)


def saved(folder: Path, content: dict[str, Any] = CONTENT) -> Path:
    checkpoint.save(folder / "ckpt.pt", content)
    return folder / "ckpt.pt"


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def written(folder: Path, data: bytes) -> Path:
    (folder / "ckpt.pt").write_bytes(data)
    return folder / "ckpt.pt"


def torch_file(content: Any, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file


def forged(content: Any) -> bytes:
    """`content` as somebody would write it who knows how to append a checksum."""
    file = torch_file(content)
    integrity.append_checksum(file)
    return file.getvalue()


def rezipped(change: Callable[[zipfile.ZipFile], None] = lambda archive: None, compression: int = 0) -> bytes:
    """A zip, with a checksum, of the members that torch writes, `change`d."""
    file = io.BytesIO()
    with zipfile.ZipFile(torch_file(CONTENT)) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        change(new)
    integrity.append_checksum(file)
    return file.getvalue()


def refusal(path: Path) -> str:
    """The paragraph with which `path` is refused."""
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(path)
    assert caught.value.exit_code == 4
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    return str(caught.value)


class Bomb:
    """Unpickling it runs a shell command that makes the file `mark`."""

    def __init__(self, mark: Path):
        self.command = f"touch {mark}"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


# Round trip


def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path = saved(tmp_path, TYPES)
    assert same(checkpoint.load(path), TYPES)
    assert names(tmp_path) == ["ckpt.pt"]


def test_anyone_can_open_it_with_torch_alone(tmp_path: Path) -> None:
    path = saved(tmp_path, TYPES)
    assert same(torch.load(path, weights_only=True), TYPES)
    assert same(torch.load(path, weights_only=True, mmap=True), TYPES)
    assert zipfile.ZipFile(path).testzip() is None


def test_format_and_version_are_filled_in_by_save(tmp_path: Path) -> None:
    content = {key: value for key, value in CONTENT.items() if key != "format"} | {"flowrl": "0.0.1"}
    loaded = checkpoint.load(saved(tmp_path, content))
    assert (loaded["format"], loaded["flowrl"]) == (checkpoint.FORMAT, __version__)


def test_a_small_view_does_not_save_its_large_storage(tmp_path: Path) -> None:
    wide = torch.arange(1_000_000, dtype=torch.float32).view(1000, 1000)
    wanted = holding({"row": wide[3], "column": wide[:2, 5], "transposed": wide[:2, :3].T})
    path = saved(tmp_path, wanted)
    assert path.stat().st_size < saved(tmp_path).stat().st_size + 6_000  # 1,008 numbers and their keys
    saved(tmp_path, wanted)
    assert same(checkpoint.load(path), wanted)


def test_a_state_dict_becomes_a_plain_dict(tmp_path: Path) -> None:
    network = torch.nn.Linear(2, 2)
    loaded = checkpoint.load(saved(tmp_path, {**CONTENT, "actor": network.state_dict()}))
    assert type(loaded["actor"]) is dict
    assert torch.equal(loaded["actor"]["weight"], network.weight)


@pytest.mark.parametrize(
    ("foreign", "key"),
    [
        ({"a": [0, np.float64(1.0)]}, r"env\.envs\.a\[1\] is a float64"),
        ({"a": {2: np.zeros(2)}}, r"env\.envs\.a\.2 is a ndarray"),
        ({"a": torch.nn.Parameter(torch.zeros(1))}, r"env\.envs\.a is a Parameter"),
        ({"a": Path("x")}, r"env\.envs\.a is a PosixPath"),
        ({True: 1}, r"env\.envs has the key True"),
        ({(1, 2): 1}, r"env\.envs has the key \(1, 2\)"),
        ({"a": {1, 2}}, r"env\.envs\.a is a set"),
        ({"a": torch.eye(2).to_sparse()}, r"env\.envs\.a is a Tensor"),
    ],
)
def test_other_values_are_refused_by_their_key_before_anything_is_written(
    tmp_path: Path, foreign: object, key: str
) -> None:
    with pytest.raises(TypeError, match=key):
        saved(tmp_path, holding(foreign))
    assert names(tmp_path) == []


def test_random_generators_continue_where_they_were_saved(tmp_path: Path) -> None:
    own = torch.Generator().manual_seed(5)
    np.random.standard_normal()  # noqa: NPY002  leaves the second number of its pair in the generator

    def draw() -> list[Any]:
        numpys = np.random.standard_normal(3).tolist()  # noqa: NPY002
        return [random.gauss(0, 1), random.random(), numpys, torch.randn(3), torch.randn(3, generator=own)]

    random.gauss(0, 1)  # here too
    path = saved(tmp_path, {**CONTENT, "shards": [SHARD | {"random": rng_state.state(own=own)}]})
    first = draw()
    assert not same(draw(), first)
    rng_state.restore(checkpoint.load(path)["shards"][0]["random"], own=own)
    assert same(draw(), first)
    with pytest.raises(CheckpointError, match="other"):
        rng_state.restore(checkpoint.load(path)["shards"][0]["random"], other=own)


# Writing


@pytest.mark.slow
def test_kill_9_at_100_random_moments_leaves_a_complete_file(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    weight = torch.zeros(25_000)  # 100 kB
    chance = random.Random(0)
    last, orphans = -1, 0
    for _ in range(100):
        started, start = os.pipe()
        child = os.fork()
        if child == 0:
            for count in range(last + 1, 1 << 30):
                checkpoint.save(path, holding({"count": count, "weight": weight.fill_(count)}))
                os.write(start, b".")
        os.read(started, 1)
        time.sleep(chance.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(started)
        os.close(start)
        loaded = checkpoint.load(path)["shards"][0]["env"]["envs"]
        assert loaded["count"] > last
        last = loaded["count"]
        assert torch.equal(loaded["weight"], torch.full((25_000,), float(last)))
        orphans += len(names(tmp_path)) - 1
        checkpoint.clean(tmp_path)
        assert names(tmp_path) == ["ckpt.pt"]
    assert orphans >= 10  # else the kills did not fall into the writing, and the test shows nothing


def test_clean_leaves_the_file_of_a_living_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def fsync(descriptor: int) -> None:
        seen.append((len(names(tmp_path)), checkpoint.clean(tmp_path), len(names(tmp_path))))

    monkeypatch.setattr(os, "fsync", fsync)
    checkpoint.load(saved(tmp_path))
    assert seen == [(1, [], 1), (1, [], 1)]  # of the temporary file, then of the folder with ckpt.pt


def test_clean_removes_only_temporary_checkpoints(tmp_path: Path) -> None:
    for name in (".best.pt.0a1b2c.tmp", ".ckpt.pt.0a1b2c.tmp", ".metrics.tmp", "ckpt.pt.tmp", "best.pt"):
        (tmp_path / name).touch()
    removed = checkpoint.clean(tmp_path)
    assert sorted(path.name for path in removed) == [".best.pt.0a1b2c.tmp", ".ckpt.pt.0a1b2c.tmp"]
    assert sorted(names(tmp_path)) == [".metrics.tmp", "best.pt", "ckpt.pt.tmp"]


def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            checkpoint.save(path, holding({"large": torch.zeros(25_000)}))
        except StorageError as error:
            os._exit(0 if str(path) in str(error) and "\n" not in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert path.read_bytes() == before
    assert names(tmp_path) == ["ckpt.pt"]


def test_a_rename_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)

    def replace(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(StorageError, match="Read-only file system"):
        saved(tmp_path, holding({"new": 1}))
    assert same(checkpoint.load(path), CONTENT)
    assert names(tmp_path) == ["ckpt.pt"]


def test_a_folder_that_cannot_be_written_to_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(StorageError, match=str(folder)) as caught:
            checkpoint.save(folder / "ckpt.pt", CONTENT)
        assert caught.value.exit_code == 6


# Damage


def test_every_flipped_bit_is_seen() -> None:
    data = bytearray(forged({"weight": torch.zeros(2)}))
    integrity.verify(bytes(data))
    for place in range(8 * len(data)):
        data[place // 8] ^= 1 << place % 8
        with pytest.raises(ValueError, match=r"^it "):
            integrity.verify(bytes(data))
        data[place // 8] ^= 1 << place % 8


def test_300_flipped_bits_and_100_truncations_are_refused(tmp_path: Path) -> None:
    good = saved(tmp_path, TYPES).read_bytes()
    chance = random.Random(1)
    for place in chance.sample(range(8 * len(good)), 300):
        data = bytearray(good)
        data[place // 8] ^= 1 << place % 8
        refusal(written(tmp_path, bytes(data)))
    for length in chance.sample(range(len(good)), 100):
        refusal(written(tmp_path, good[:length]))
    assert same(checkpoint.load(written(tmp_path, good)), TYPES)


@pytest.mark.parametrize(
    "change", [lambda d: d + b"\0", lambda d: b"\0" + d, lambda d: d + d, lambda d: d[:-1] + b"\n"]
)
def test_added_bytes_are_refused(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    refusal(written(tmp_path, change(saved(tmp_path).read_bytes())))


def test_the_digest_is_that_of_the_bytes_before_the_checksum(tmp_path: Path) -> None:
    import hashlib

    path = saved(tmp_path)
    assert integrity.SIZE == 78
    assert checkpoint.load_with_digest(path)[1] == hashlib.sha256(path.read_bytes()[:-78]).hexdigest()


# Hostile and foreign files


def test_a_pickle_bomb_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    bomb = holding(Bomb(mark))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for name in ("sys_info", "storages", "tensors", "pickle"):
            member = tarfile.TarInfo(name)
            member.size = len(pickle.dumps(bomb))
            archive.addfile(member, io.BytesIO(pickle.dumps(bomb)))
    old = torch_file(bomb, _use_new_zipfile_serialization=False).getvalue()
    assert "nothing in it was run" in refusal(written(tmp_path, forged(bomb)))
    for pickled in (*(pickle.dumps(bomb, protocol) for protocol in (2, 5)), old, tar.getvalue()):
        assert "bare pickle" in refusal(written(tmp_path, pickled))
    assert "not a torch file" in refusal(written(tmp_path, pickle.dumps(bomb, 0)))
    assert "another program wrote it" in refusal(written(tmp_path, torch_file(bomb).getvalue()))
    assert not mark.exists()
    pickle.loads(pickle.dumps(bomb))  # noqa: S301  the bomb is live: what was refused would have gone off
    assert mark.exists()


def test_a_zip_that_torch_would_not_write_is_refused_even_with_a_checksum(tmp_path: Path) -> None:
    assert same(checkpoint.load(written(tmp_path, rezipped())), CONTENT)

    def entry(name: str) -> Callable[[zipfile.ZipFile], None]:
        return lambda archive: archive.writestr(name, b"x")

    assert "compressed" in refusal(written(tmp_path, rezipped(compression=zipfile.ZIP_DEFLATED)))
    for name in ("extra", "archive/../../x", "/etc/x", "archive/DATA.PKL", "archive/a\\b", "archive/"):
        assert "name" in refusal(written(tmp_path, rezipped(entry(name))))
    with pytest.warns(UserWarning, match="Duplicate"):
        doubled = rezipped(entry("archive/data.pkl"))
    assert "two members" in refusal(written(tmp_path, doubled))
    prepended = io.BytesIO(b"PK\3\4" + torch_file(CONTENT).getvalue())
    integrity.append_checksum(prepended)
    assert "before its first member" in refusal(written(tmp_path, prepended.getvalue()))
    weight = CONTENT["actor"]["layer.weight"].numpy().tobytes()
    for place, offset, reason in [
        (weight, 0, "CRC"),
        (b"PK\1\2", 8, "encrypted"),  # the flags in the table of contents
        (b"PK\1\2", 24, "sizes"),  # the uncompressed size there
    ]:
        damaged = bytearray(torch_file(CONTENT).getvalue())
        damaged[damaged.index(place) + offset] ^= 1
        forged_again = io.BytesIO(damaged)
        integrity.append_checksum(forged_again)
        assert reason in refusal(written(tmp_path, forged_again.getvalue()))


def nested(depth: int) -> list[Any]:
    return [] if depth == 0 else [nested(depth - 1)]


def doubling(levels: int) -> list[Any]:
    value: list[Any] = [0]
    for _ in range(levels):
        value = [value, value]
    return value


def around_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (doubling(60), "two places"),
        (around_itself(), "two places"),
        (nested(100), "nested deeper"),
        (torch.zeros(1).expand(1 << 40), "not dense"),
        (torch.eye(2).to_sparse(), "not dense"),
        (torch.nn.Parameter(torch.zeros(1)), "a Parameter"),
        (OrderedDict(a=1), "OrderedDict"),
        (Counter("a"), "Counter"),
        ({1, 2}, "a set"),
        (1j, "a complex"),
        ({(1, 2): 3}, "a key"),
        (2**300, "more than 256 bits"),
        ("x" * 2_000_000, "a text of more than 1,048,576 characters"),
    ],
)
def test_content_that_save_never_writes_is_refused(tmp_path: Path, extra: object, reason: str) -> None:
    assert reason in refusal(written(tmp_path, forged(holding(extra))))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "not a checkpoint of flowrl"),
        ({"weight": torch.zeros(1)}, "not a checkpoint of flowrl"),
        ({**CONTENT, "format": 3, "flowrl": "9.1.0"}, "format 3, of flowrl 9.1.0"),
        ({**CONTENT, "actor": None}, "its key 'actor' is nothing (None): expected a dict"),
        ({key: CONTENT[key] for key in CONTENT if key != "config"}, "its key 'config' is missing"),
    ],
)
def test_a_torch_file_of_another_kind_or_format_is_refused(tmp_path: Path, content: object, reason: str) -> None:
    assert reason in refusal(written(tmp_path, forged(content)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"\n<html>", "web page"),
        (struct.pack("<Q", 2) + b"{}", "safetensors"),
        (b"hello", "not a torch file"),
        (b"PK\3\4", "cut short"),
    ],
)
def test_what_is_taken_for_a_checkpoint_is_named(tmp_path: Path, data: bytes, reason: str) -> None:
    assert reason in refusal(written(tmp_path, data))


def test_the_other_checkpoint_of_the_run_is_offered(tmp_path: Path) -> None:
    path = written(tmp_path, b"hello")
    assert "another run's" in refusal(path)
    checkpoint.save(tmp_path / "best.pt", CONTENT)
    assert f"Try {tmp_path / 'best.pt'}" in refusal(path)
    assert "a folder, not a file" in refusal(tmp_path)


def test_pipes_devices_and_huge_files_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "zero.pt").symlink_to("/dev/zero")
    for name, size in {"sparse": 20 * 10**9, "below": 39 * 10**8}.items():
        with (tmp_path / f"{name}.pt").open("wb") as file:
            file.truncate(size)
    reasons = {"pipe": "a pipe", "zero": "a device", "sparse": "larger than 4 GB", "below": "not a torch file"}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, reason in reasons.items():
        assert reason in refusal(tmp_path / f"{name}.pt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


# Finding


def test_a_checkpoint_is_found_by_file_folder_or_name_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("runs/hopper")
    run.mkdir(parents=True)
    saved(run)
    checkpoint.save(run / "best.pt", CONTENT)
    for name in ("runs/hopper/ckpt.pt", "runs/hopper", "hopper", "hopper/ckpt.pt", str(tmp_path / run)):
        assert checkpoint.find(name).resolve() == (tmp_path / run / "ckpt.pt").resolve()
    assert checkpoint.find("hopper/best.pt") == run / "best.pt"
    for wrong, hint in {
        "hoper": "Did you mean 'hopper'",
        "runs/hoper/ckpt.pt": "Did you mean 'hopper'",
        "runs/hopper/cktp.pt": "Did you mean 'ckpt.pt'",
        "runs": "Name one of these: runs/hopper",
        "x" * 300: "there is no checkpoint",
        "a\0b": "there is no checkpoint",
    }.items():
        with pytest.raises(CheckpointError, match=hint):
            checkpoint.find(wrong)
    assert "Did you mean 'ckpt.pt'" in refusal(run / "cktp.pt")
    (run / "ckpt.pt").unlink()
    with pytest.raises(CheckpointError, match=r"Name one of these: runs/hopper/best\.pt"):
        checkpoint.find("runs/hopper")


# flowrl inspect


def test_inspect_prints_what_a_checkpoint_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from flowrl.cli.inspect import inspect

    path = saved(tmp_path, {**TYPES, "config": {**CONTENT["config"], "note": "\x1b[2J"}})
    inspect(str(tmp_path), json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["sha256"] == checkpoint.load_with_digest(path)[1]
    assert found["bytes"] == path.stat().st_size
    assert (found["format"], found["flowrl"]) == (checkpoint.FORMAT, __version__)
    assert (found["algorithm"], found["env"]) == ("fpo", "Pendulum-v1")
    assert found["progress"] == CONTENT["progress"]
    assert found["networks"]["actor"]["parameters"] == 15  # 3 x 4 weights and 3 biases
    assert found["networks"]["actor"]["tensors"]["layer.weight"] == {"shape": [3, 4], "dtype": "float32"}
    assert found["tensor_bytes"]["actor"] == 60
    inspect(str(path), json=False)
    out, err = capsys.readouterr()
    for part in ("fpo", "Pendulum-v1", "12,800", "-151.25", "actor: 15 parameters", "layer.weight  3x4", "steps: 8"):
        assert part in out
    assert "\x1b" not in out
    assert f"next: flowrl eval {path}" in err


@pytest.mark.parametrize("sampler", ["euler", [1], 3, {"name": [1]}, None])
def test_inspect_takes_any_sampler_of_a_config(
    sampler: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from flowrl.cli.inspect import inspect

    path = saved(tmp_path, {**CONTENT, "config": {**CONTENT["config"], "sampler": sampler}})
    inspect(str(path), json=False)
    assert f"next: flowrl eval {path}\n" in capsys.readouterr().err
