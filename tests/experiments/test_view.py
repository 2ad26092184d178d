"""The live view without a browser: the session, its noise, and who may reach the server."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flowrl import cli
from flowrl.contracts.errors import UsageError
from flowrl.experiments.evaluate import EvalRequest, open_checkpoint
from flowrl.experiments.view.session import Session

pytest.importorskip("mujoco.studio", reason="MuJoCo Studio is not installed")
from flowrl.experiments.view import serving, simulation

RECIPE = """
algorithm: {algorithm}
total_steps: 64
env: {{id: {env}, count: 4{more}}}
policy: {{hidden: [8], kind: {kind}}}
sampler: {{name: euler, steps: 2}}
rollout: {{steps: 16}}
learner: {{epochs: 1, minibatches: 1, critic: {{hidden: [8]}}}}
"""


def trained(folder: Path, name: str, env: str, more: str = "", algorithm: str = "fpo") -> Path:
    recipe = folder / f"{name}.yaml"
    kind = "gaussian" if algorithm == "ppo" else "flow"
    recipe.write_text(RECIPE.format(env=env, more=more, algorithm=algorithm, kind=kind))
    assert cli.run(["train", str(recipe), "--out", str(folder), "--name", name, "--json"]) == 0
    return folder / name


@pytest.fixture(scope="module")
def cheetah(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hardly trained flow."""
    return trained(tmp_path_factory.mktemp("runs"), "cheetah", "flowrl/CheetahRun-v0", ", options: {}")


@pytest.fixture
def session(cheetah: Path) -> Iterator[Session]:
    session = Session(open_checkpoint(cheetah), EvalRequest(seed=3))
    yield session
    session.env.close()


# ---------------------------------------------------------------------------------------------- the session


def test_without_noise_it_is_the_zero_noise_that_eval_knows(session: Session) -> None:
    session.noise.scale = 0.0
    scaled = session.policy(session.obs)
    session.noise.scale, session.noise.mode = 1.0, "zero"
    assert torch.equal(session.policy(session.obs), scaled)


def test_steps_make_an_episode_whose_return_is_its_rewards(session: Session) -> None:
    rewards = []
    step = session.env.step

    def recorded(action: torch.Tensor) -> object:
        done = step(action)
        rewards.append(float(done.reward))
        return done

    session.env.step = recorded  # type: ignore[method-assign, assignment]
    for _ in range(1003):
        session.step()
    now = session.readings
    assert (now.episodes, now.length) == (1, 3)
    assert now.last == now.mean == pytest.approx(sum(rewards[:1000]), rel=1e-12)
    assert now.total == pytest.approx(sum(rewards[1000:]), rel=1e-12)
    assert now.nfe == 2
    assert now.action_us is not None
    assert now.action_us > 1


def test_another_sampler_acts_from_the_next_step_on(session: Session) -> None:
    session.controls.ask("sampler", ("rk4", 3))
    assert not session.obey()
    assert (session.readings.sampler, session.readings.steps, session.readings.nfe) == ("rk4", 3, 12)
    session.controls.ask("sampler", ("heun", None))
    session.obey()
    assert session.readings.sampler == "heun"
    assert session.policy.noise is session.noise
    assert set(session.samplers) >= {"euler", "heun", "rk4", "dopri5"}


def test_a_sampler_that_cannot_be_made_is_reported_and_changes_nothing(session: Session) -> None:
    for name in ("euler", "nosuch"):
        session.controls.ask("sampler", (name, -1 if name == "euler" else 3))
        session.obey()
        assert session.readings.message
        assert (session.readings.sampler, session.readings.nfe) == ("euler", 2)
    session.controls.ask("sampler", ("midpoint", 2))
    session.obey()
    assert not session.readings.message


def test_an_action_that_diverges_pauses_at_a_new_episode(session: Session) -> None:
    session.step()
    session.policy = lambda obs: torch.full((1, session.env.action_size), torch.nan)  # type: ignore[assignment]
    session.step()
    assert session.controls.paused
    assert "not finite" in session.readings.message
    assert session.readings.length == 0


def test_nothing_moves_before_a_browser_has_come(session: Session) -> None:
    stepper = simulation.Stepper(session)
    stepper.handle = SimpleNamespace(data=simulation.data_of(session))
    start = stepper.handle.data.time
    for watched, length in ((False, 0), (True, 1)):
        session.controls.watched = watched
        stepper.on_step(None)
        assert session.readings.length == length
    session.controls.paused = True
    time.sleep(2 * session.seconds)
    stepper.on_step(None)
    assert session.readings.length == 1
    session.controls.ask("step")
    stepper.on_step(None)
    assert session.readings.length == 2
    assert stepper.handle.data.time - start == pytest.approx(2 * session.seconds)


def test_the_speed_is_that_of_real_time(session: Session) -> None:
    assert session.seconds == pytest.approx(0.01)  # CheetahRun's control step


def test_a_gaussian_policy_has_no_sampler(tmp_path: Path) -> None:
    run = trained(tmp_path, "gauss", "Hopper-v5", algorithm="ppo")
    session = Session(open_checkpoint(run), EvalRequest(sampler="heun", steps=3))
    session.step()
    assert session.samplers == []
    assert (session.readings.sampler, session.readings.nfe) == (None, None)
    session.env.close()


def test_the_humanoid_has_a_ghost_and_a_motion_to_choose(tmp_path: Path) -> None:
    run = trained(tmp_path, "human", "flowrl/HumanoidTrack-v0", ", goal: root, motions: [gait:walk, gait:sidestep]")
    session = Session(open_checkpoint(run), EvalRequest())
    assert session.facts == {"goal": "root"}
    for number in (1, 0, 1, 1):
        session.controls.ask("variant", number)
        session.obey()
        assert session.readings.variant == session.variants[number]
    ghost = session.readings.ghost
    assert ghost is not None
    own = session.scene.field("qpos")
    np.testing.assert_allclose(ghost[1:], own[1:])  # the first frame, moved aside along x
    assert ghost[0] == pytest.approx(own[0] - 0.8)
    session.step()
    assert session.readings.ghost is not None
    assert not np.array_equal(session.readings.ghost, ghost)
    session.env.close()


def test_environments_in_processes_are_brought_into_this_one(tmp_path: Path) -> None:
    run = trained(tmp_path, "async", "InvertedPendulum-v5", ", mode: async")
    session = Session(open_checkpoint(run), EvalRequest())
    session.step()
    assert session.scene.field("time").item() > 0
    session.env.close()


# ----------------------------------------------------------------------------------------------- the server


@pytest.mark.parametrize(
    ("host", "origin", "local", "refused"),
    [
        ("127.0.0.1:8080", None, True, False),
        ("localhost:9000", "http://localhost:9000", True, False),  # through a tunnel from another port
        ("[::1]:8080", "http://[::1]:8080", True, False),
        ("evil.example", None, True, True),  # DNS rebinding
        ("evil.example:8080", "http://evil.example:8080", True, True),
        ("127.0.0.1:8080", "http://evil.example", True, True),  # a script of another page
        ("127.0.0.1:8080", "http://127.0.0.1:9999", True, True),
        ("127.0.0.1:8080", "null", True, True),
        ("robot.lan:8080", "http://robot.lan:8080", False, False),
        ("robot.lan:8080", "http://evil.example", False, True),
        ("", None, True, True),
    ],
)
def test_requests_of_other_pages_are_refused(host: str, origin: str | None, local: bool, refused: bool) -> None:
    assert bool(serving.refusal(host, origin, local)) is refused


def status(port: int, path: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers=headers)
    code = connection.getresponse().status
    connection.close()
    return code


SOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def test_the_server_listens_on_the_loopback_address_alone(session: Session) -> None:
    ports: SimpleQueue[int] = SimpleQueue()
    pages: list[int] = []
    address, stepper = serving.checked_host("127.0.0.1"), simulation.Stepper(session)
    with serving.launch(address, 0, "test", [stepper], ports.put, lambda: pages.append(1)) as handle:
        port = ports.get(timeout=60)
        handle.set_model(session.scene.model, data=simulation.data_of(session))
        for _ in range(600):  # its thread begins to listen a little later
            if listening(port):
                break
            time.sleep(0.1)
        assert listening(port) == {"127.0.0.1"}
        assert status(port, "/", {}) == 200
        assert status(port, "/", {"Host": f"evil.example:{port}"}) == 403
        assert status(port, "/model", {"Origin": "http://evil.example"}) == 403
        for path in ("/ui", "/state", "/drop"):
            assert status(port, path, SOCKET | {"Origin": "http://evil.example"}) == 403
        assert not pages
        assert status(port, "/state", SOCKET | {"Origin": f"http://127.0.0.1:{port}"}) == 101
        assert len(pages) == 1


def listening(port: int) -> set[str]:
    """The addresses at which this computer listens on `port`, from the kernel's tables."""
    found = set()
    for name, family, size in (("tcp", socket.AF_INET, 8), ("tcp6", socket.AF_INET6, 32)):
        table = Path("/proc/net") / name
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            local, state = line.split()[1], line.split()[3]
            address, _, number = local.partition(":")
            if int(number, 16) == port and state == "0A":  # LISTEN
                words = [bytes.fromhex(address[k : k + 8])[::-1] for k in range(0, size, 8)]
                found.add(socket.inet_ntop(family, b"".join(words)))
    return found


def test_studio_binding_elsewhere_is_an_error(monkeypatch: pytest.MonkeyPatch, session: Session) -> None:
    def everywhere(host: str, port: int) -> socket.socket:
        bound = socket.socket()
        bound.bind(("0.0.0.0", 0))  # noqa: S104
        return bound

    monkeypatch.setattr(serving.web_server, "bind_public_socket", everywhere)
    handle = serving.launch("127.0.0.1", 0, "test", [], print, print)
    with pytest.raises(RuntimeError, match=r"bound to 0\.0\.0\.0, not to 127\.0\.0\.1"):
        while handle.is_running():
            time.sleep(0.01)


def test_only_addresses_of_this_computer_can_be_served() -> None:
    assert serving.checked_host("localhost") in ("127.0.0.1", "::1")
    assert serving.checked_host("0.0.0.0") == "0.0.0.0"  # noqa: S104
    for host in ("198.51.100.1", "no.such.host.invalid"):
        with pytest.raises(UsageError, match="cannot listen there"):
            serving.checked_host(host)


def test_the_page_s_address_can_be_typed() -> None:
    assert serving.url("127.0.0.1", 8080) == "http://127.0.0.1:8080/"
    assert serving.url("0.0.0.0", 81) == "http://127.0.0.1:81/"  # noqa: S104
    assert serving.url("::1", 81) == "http://[::1]:81/"
