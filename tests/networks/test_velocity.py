"""The velocity network: binding is exact, memory of time rows is never stale, predictions become velocities."""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import weakref
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from flowrl.contracts.errors import CheckpointError
from flowrl.networks.gaussian import gaussian_velocity
from flowrl.networks.kept_times import MOST_TIMES
from flowrl.networks.mixture import mixture_velocity
from flowrl.networks.mlp import ACTIVATIONS
from flowrl.networks.velocity import Base, FlowNetwork, NetworkSettings, TimeFeatures, to_velocity


def plainly(network: FlowNetwork, obs: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The network as anybody would write it: one concatenated input, layer after layer."""
    hidden = torch.cat([obs, x, network.time_features(t)], dim=-1)
    activation, _ = ACTIVATIONS[network.settings.activation]
    for layer in list(network.layers)[:-1]:
        hidden = activation(functional.linear(hidden, layer.weight, layer.bias))
    output = network.layers[-1](hidden) * network.settings.output_scale
    return to_velocity(output, x, t, network.settings.parameterisation)


@pytest.mark.parametrize("activation", ["silu", "relu", "elu", "tanh"])
@pytest.mark.parametrize("parameterisation", ["u", "eps", "data"])
def test_binding_changes_nothing(activation: str, parameterisation: str) -> None:
    torch.manual_seed(0)
    settings = NetworkSettings(hidden=(16, 16), activation=activation, parameterisation=parameterisation)  # type: ignore[arg-type]
    network = FlowNetwork(5, 3, settings).double()
    obs, x = torch.randn(7, 5).double(), torch.randn(7, 3).double()
    expected = plainly(network, obs, x, torch.full((7, 1), 0.3).double())
    velocity = network.bind(obs)
    with torch.no_grad():
        assert torch.allclose(velocity(x, 0.3), expected, atol=1e-12)
        assert torch.allclose(network.bind(obs)(x, torch.tensor(0.3).double()), expected, atol=1e-12)
    assert torch.allclose(velocity(x, 0.3), expected, atol=1e-12)  # with gradients
    per_row = torch.full((7, 1), 0.3).double()
    assert torch.allclose(velocity(x, per_row), expected, atol=1e-12)


@pytest.mark.parametrize("parameterisation", ["u", "data"])
@pytest.mark.parametrize("hidden", [(1,), (33,), (32, 32, 32, 32), (64, 3, 100)])
def test_folded_layers_are_exact_to_the_rounding_of_sums(hidden: tuple[int, ...], parameterisation: str) -> None:
    """In float32, as policies act, for one row and for many: 1e-6 of the largest velocity."""
    torch.manual_seed(0)
    settings = NetworkSettings(hidden=hidden, output_scale=3.7, parameterisation=parameterisation)  # type: ignore[arg-type]
    network = FlowNetwork(17, 6, settings)
    for layer in network.layers:
        torch.nn.init.normal_(layer.bias)
    for rows in (1, 256):
        obs, x = torch.randn(rows, 17), torch.randn(rows, 6)
        with torch.no_grad():
            expected = plainly(network, obs, x, torch.full((rows, 1), 0.7))
            torch.testing.assert_close(
                network.bind(obs)(x, 0.7), expected, rtol=0, atol=1e-6 * float(expected.abs().max())
            )


@pytest.mark.parametrize("change", ["first bias", "hidden weight", "last bias"])
def test_folded_layers_follow_every_weight(change: str) -> None:
    """A change in place of any layer, and the tensors of another network in its place."""
    torch.manual_seed(0)
    network = FlowNetwork(2, 2, NetworkSettings(hidden=(8, 8)))
    obs, x, t = torch.randn(3, 2), torch.randn(3, 2), torch.full((3, 1), 0.5)
    first, hidden, last = network.layers
    changed = {"first bias": first.bias, "hidden weight": hidden.weight, "last bias": last.bias}[change]
    with torch.no_grad():
        before = network.bind(obs)(x, 0.5)
        changed.add_(1.0)
        after = network.bind(obs)(x, 0.5)
        assert (after - before).abs().max() > 0.01
        assert torch.allclose(after, plainly(network, obs, x, t), atol=1e-6)
        changed.data = changed.data - 1.0
        assert torch.allclose(network.bind(obs)(x, 0.5), before, atol=1e-6)


def test_points_of_another_form_than_the_observations_broadcast() -> None:
    torch.manual_seed(0)
    network = FlowNetwork(4, 2, NetworkSettings(hidden=(8,))).double()
    obs, x = torch.randn(1, 4).double(), torch.randn(6, 2).double()
    with torch.no_grad():
        expected = plainly(network, obs.expand(6, 4), x, torch.full((6, 1), 0.5).double())
        assert torch.allclose(network.bind(obs)(x, 0.5), expected, atol=1e-12)
        assert torch.allclose(network.bind(obs[0])(x, 0.5), expected, atol=1e-12)
        several = network.bind(obs.expand(6, 4))(x.expand(3, 6, 2), 0.5)
        assert torch.allclose(several, expected.expand(3, 6, 2), atol=1e-12)


def test_one_binding_serves_all_probes() -> None:
    torch.manual_seed(0)
    network = FlowNetwork(4, 2, NetworkSettings(hidden=(8,))).double()
    obs, x, t = torch.randn(6, 4).double(), torch.randn(6, 5, 2).double(), torch.rand(6, 5, 1).double()
    bound = network.bind(obs.unsqueeze(1))(x, t)
    assert torch.allclose(bound, plainly(network, obs.unsqueeze(1).expand(6, 5, 4), x, t), atol=1e-12)


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_remembered_time_rows_follow_the_weights(options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    network = FlowNetwork(2, 2, NetworkSettings(hidden=(8,)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, **options)
    obs, x = torch.randn(3, 2), torch.randn(3, 2)
    for _ in range(3):
        with torch.no_grad():
            expected = plainly(network, obs, x, torch.full((3, 1), 0.5))
            assert torch.allclose(network.bind(obs)(x, 0.5), expected, atol=1e-6)
        network.bind(obs)(x, 0.5).square().sum().backward()
        optimizer.step()
    with torch.no_grad():
        network.bind(obs)(x, 0.5)  # remembered
    network.load_state_dict({name: w * 2 for name, w in network.state_dict().items()})
    with torch.no_grad():
        assert torch.allclose(network.bind(obs)(x, 0.5), plainly(network, obs, x, torch.full((3, 1), 0.5)), atol=1e-6)


def test_a_sampler_may_keep_its_points() -> None:
    """Evaluating without gradients works in place inside, and must not touch what it was given."""
    network = FlowNetwork(2, 2, NetworkSettings(hidden=(8, 8)))
    obs, x = torch.randn(3, 2), torch.randn(3, 2)
    kept_obs, kept_x = obs.clone(), x.clone()
    with torch.no_grad():
        velocity = network.bind(obs)
        first = velocity(x, 0.1).clone()
        velocity(x, 0.7)
        assert torch.equal(velocity(x, 0.1), first)
    assert torch.equal(x, kept_x)
    assert torch.equal(obs, kept_obs)


def test_a_data_network_lands_on_its_last_prediction() -> None:
    """x + (1 - t) v with v = (data - x) / (1 - t) is the prediction: Euler's last step returns it."""
    output, x = torch.tensor([[0.3, -0.8]]).double(), torch.tensor([[2.0, 1.0]]).double()
    velocity = to_velocity(output, x, 0.9, "data")
    assert torch.allclose(x + 0.1 * velocity, output, atol=1e-15)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_predictions_as_velocities_by_hand(as_tensor: bool) -> None:
    """x = 2, output = 0.5. u: 0.5. eps: the noise is 2 + 0.5, v = (2 - 2.5) / t. data: v = (0.5 - 2) / (1 - t)."""
    output, x = torch.tensor([[0.5]]).double(), torch.tensor([[2.0]]).double()
    expected = [  # t, u, eps, data; t and 1 - t are at least 0.02
        (0.0, 0.5, -25.0, -1.5),
        (0.01, 0.5, -25.0, -1.5 / 0.99),
        (0.5, 0.5, -1.0, -3.0),
        (0.9, 0.5, -0.5 / 0.9, -15.0),
        (0.99, 0.5, -0.5 / 0.99, -75.0),
        (1.0, 0.5, -0.5, -75.0),
    ]
    for t, *velocities in expected:
        time = torch.tensor([[t]], dtype=torch.float64) if as_tensor else t
        found = [to_velocity(output, x, time, each).item() for each in ("u", "eps", "data")]  # type: ignore[arg-type]
        assert found == pytest.approx(velocities, rel=1e-12)


def test_weights_that_predicted_the_noise_itself_are_refused() -> None:
    """Those of earlier versions: the residual would make another policy of them, without a word."""
    network = FlowNetwork(3, 2, NetworkSettings(parameterisation="eps"))
    saved = network.state_dict()
    network.load_state_dict(saved)
    del saved["predicts_residual"]
    with pytest.raises(CheckpointError, match="does not predict the noise as this version does"):
        network.load_state_dict(saved)


def test_time_features_by_hand() -> None:
    """cos and sin of 0.3, 0.6, 1.2 and 2.4: saved networks were trained with these, in this order."""
    angles = [0.3, 0.6, 1.2, 2.4]
    expected = [*map(math.cos, angles), *map(math.sin, angles)]
    assert TimeFeatures(8)(torch.tensor([[0.3]])).flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_only_a_predicted_action_has_a_latest_time() -> None:
    latest = {"u": 1.0, "eps": 1.0, "data": 0.98}
    for each, time in latest.items():
        assert FlowNetwork(1, 1, NetworkSettings(parameterisation=each)).latest_time == time  # type: ignore[arg-type]


def test_time_rows_do_not_fill_the_memory() -> None:
    """An adaptive sampler evaluates ever new times."""
    network = FlowNetwork(2, 2, NetworkSettings(hidden=(8,)))
    with torch.no_grad():
        velocity = network.bind(torch.zeros(1, 2))
        for number in range(3 * MOST_TIMES):
            velocity(torch.zeros(1, 2), number / (3 * MOST_TIMES))
            assert len(network.folded().time_rows) <= MOST_TIMES == 256


def test_folded_layers_are_freed_as_soon_as_they_are_dropped() -> None:
    """Every update drops them: in a cycle of references they would wait for the garbage collector."""
    network = FlowNetwork(2, 2, NetworkSettings(hidden=(8,)))
    with torch.no_grad():
        network.bind(torch.zeros(1, 2))(torch.zeros(1, 2), 0.5)
    folded = weakref.ref(network.folded())
    assert folded() is not None
    gc.disable()
    try:
        network.drop_kept()
        assert folded() is None
    finally:
        gc.enable()


def test_on_the_meta_device_it_needs_no_compiler() -> None:
    """Checkpoints are compared with such networks: importing torch's compiler would double the start of a command."""
    program = (
        "import sys, torch\n"
        "from flowrl.networks.velocity import TimeFeatures\n"
        "with torch.device('meta'):\n"
        "    TimeFeatures(8)\n"
        "assert not {'torch._dynamo', 'sympy'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# ------------------------------------------------------------------------------------------------- Gaussian base


def test_the_velocity_to_a_gaussian_is_that_of_its_paths() -> None:
    """x_t = t mean + s(t) e with s² = std² t² + (1 - t)² is N(t mean, s²), and dx/dt the velocity; at the ends of time
    it is mean - e and mean + std e."""
    random = torch.Generator().manual_seed(0)
    mean, e = (torch.randn(50, 3, dtype=torch.float64, generator=random) for _ in range(2))
    std = torch.tensor([0.2, 1.0, 1.7], dtype=torch.float64)
    for t in (0.0, 0.25, 0.5, 0.9, 1.0):
        time = torch.tensor(t, dtype=torch.float64, requires_grad=True)
        x, slope = torch.func.jvp(
            lambda t: t * mean + (std.square() * t * t + (1 - t).square()).sqrt() * e,
            (time,),
            (torch.ones((), dtype=torch.float64),),
        )
        torch.testing.assert_close(gaussian_velocity(x, t, mean, std), slope, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gaussian_velocity(e, 0.0, mean, std), mean - e, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        gaussian_velocity(mean + std * e, 1.0, mean, std), mean + std * e, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("base", ["normal", "mixture"])
def test_a_base_is_added_to_the_networks_velocity(base: Base) -> None:
    torch.manual_seed(0)
    settings = NetworkSettings(hidden=(16, 16), base=base)
    network = FlowNetwork(5, 3, settings)
    assert network.base is not None
    torch.nn.init.normal_(network.base.layers.linears[-1].weight)
    torch.nn.init.normal_(network.base.spread)
    obs, x, t = torch.randn(7, 5), torch.randn(7, 3), torch.rand(7, 1)
    velocity = gaussian_velocity if base == "normal" else mixture_velocity
    expected = plainly(network, obs, x, t) + velocity(x, t, *network.base(obs))
    torch.testing.assert_close(network.bind(obs)(x, t), expected, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        folded = network.bind(obs)(x, 0.3)
        expected = plainly(network, obs, x, torch.full((7, 1), 0.3)) + velocity(x, 0.3, *network.base(obs))
        torch.testing.assert_close(folded, expected, rtol=1e-5, atol=1e-6)
    probes = network.bind(obs[:, None])(x[:, None].expand(-1, 4, -1), t[:, None].expand(-1, 4, -1))
    assert probes.shape == (7, 4, 3)


def test_a_base_alone_carries_noise_to_its_gaussian() -> None:
    torch.manual_seed(0)
    network = FlowNetwork(5, 3, NetworkSettings(hidden=(16,), base="normal", output_scale=0)).double()
    assert network.base is not None
    torch.nn.init.normal_(network.base.layers.linears[-1].weight)
    torch.nn.init.normal_(network.base.spread)
    obs, noise = torch.randn(7, 5).double(), torch.randn(7, 3).double()
    mean, std = network.base(obs)
    x, steps = noise, 64
    with torch.no_grad():
        velocity = network.bind(obs)
        for step in range(steps):  # the classical Runge-Kutta method
            t, h = step / steps, 1 / steps
            k1 = velocity(x, t)
            k2 = velocity(x + h / 2 * k1, t + h / 2)
            k3 = velocity(x + h / 2 * k2, t + h / 2)
            x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + velocity(x + h * k3, t + h))
        torch.testing.assert_close(x, mean + std * noise, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"output_scale": 0}, "output_scale 0 takes the network away"),
        ({"base": "normal", "parameterisation": "data"}, "parameterisation is data"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        NetworkSettings(**settings)
