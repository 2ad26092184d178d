"""GridWorld's rules, worked by hand, and its vector form against the single one."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import flowrl.envs  # noqa: F401  (registers flowrl/GridWorld-v0)
from flowrl.contracts.errors import UsageError
from flowrl.envs.gridworld import MODES, GridWorldEnv, GridWorldVectorEnv, layout, move, observe

NOWHERE: Callable[[int, int], bool] = lambda x, y: False  # noqa: E731


def near(x: int, y: int, centres: list[tuple[int, int]]) -> bool:
    return any(abs(x - a) <= 1 and abs(y - b) <= 1 for a, b in centres)


# The layouts once more, as conditions on (x, y): goal, death, wall.
CONDITIONS: dict[str, tuple[Callable[[int, int], bool], ...]] = {
    "two_walls": (lambda x, y: y in (0, 1, 23, 24), NOWHERE, NOWHERE),
    "three_goals": (lambda x, y: near(x, y, [(12, 18), (7, 7), (17, 7)]), lambda x, y: near(x, y, [(12, 12)]), NOWHERE),
    "tree_in_the_middle": (
        lambda x, y: x in (23, 24) and 10 <= y <= 14,
        lambda x, y: 13 <= x <= 17 and 10 <= y <= 14,
        NOWHERE,
    ),
    "two_slits": (lambda x, y: x == 24, NOWHERE, lambda x, y: x == 15 and not (4 <= y <= 7 or 17 <= y <= 20)),
    "cshape": (
        lambda x, y: 10 <= x <= 14 and 10 <= y <= 14,
        NOWHERE,
        lambda x, y: (y in (7, 17) and 7 <= x <= 17) or (x == 17 and 7 <= y <= 17),
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_layout(mode: str) -> None:
    goal, death, wall = CONDITIONS[mode]
    where = layout(mode)
    starts = {(int(x), int(y)) for x, y in where.starts}
    for x in range(25):
        for y in range(25):
            assert where.goal[x, y] == goal(x, y)
            assert where.death[x, y] == death(x, y)
            assert where.wall[x, y] == wall(x, y)
            assert where.reward[x, y] == (20 if goal(x, y) else -10 if death(x, y) else 0)
            assert ((x, y) in starts) == (not (goal(x, y) or death(x, y) or wall(x, y)))


def shortest(mode: str) -> dict[tuple[int, int], int]:
    """Steps from every cell to the nearest goal, by breadth-first search over the eight moves from the goals."""
    where = layout(mode)
    distance = {(int(x), int(y)): 0 for x, y in np.argwhere(where.goal)}
    queue = deque(distance)
    while queue:
        x, y = queue.popleft()
        for cell in ((x + i, y + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
            inside = 0 <= cell[0] < 25 and 0 <= cell[1] < 25
            if inside and cell not in distance and not where.wall[cell] and not where.death[cell]:
                distance[cell] = distance[x, y] + 1
                queue.append(cell)
    return distance


def test_two_walls_needs_121_over_21_steps_on_average() -> None:
    """Rows y = 2..12 are 1..11 steps from the wall below, rows 13..22 are 10..1 from the one above:
    (66 + 55) / 21 = 121/21 = 5.762."""
    distance = shortest("two_walls")
    steps = [distance[int(x), int(y)] for x, y in layout("two_walls").starts]
    assert sum(steps) * 21 == 121 * len(steps)

    envs = GridWorldVectorEnv(num_envs=len(steps))
    envs.reset(seed=0)
    envs.cells = layout("two_walls").starts.copy()
    taken = np.zeros(len(steps), dtype=int)
    towards = np.where(envs.cells[:, 1] <= 12, -1.0, 1.0)
    for step in range(1, 12):
        *_, terminated, truncated, _ = envs.step(np.stack([np.zeros_like(towards), towards], axis=1))
        assert not truncated.any()
        taken[terminated & (taken == 0)] = step
    assert taken.tolist() == steps


@pytest.mark.parametrize("mode", MODES)
def test_every_start_can_reach_a_goal(mode: str) -> None:
    distance = shortest(mode)
    assert all((int(x), int(y)) in distance for x, y in layout(mode).starts)


@pytest.mark.parametrize(
    ("mode", "cell", "action", "arrival"),
    [
        ("two_walls", (12, 12), (0.6, 0.0), (13, 12)),
        ("two_walls", (12, 12), (0.5, -0.5), (12, 12)),  # one half rounds to the even 0
        ("two_walls", (12, 12), (0.51, -0.51), (13, 11)),
        ("two_walls", (12, 12), (7.0, -100.0), (13, 11)),  # clipped to one cell
        ("two_walls", (0, 12), (-1.0, 1.0), (0, 13)),  # the border clips one coordinate, the other moves
        ("two_walls", (24, 24), (1.0, 1.0), (24, 24)),
        ("two_slits", (14, 12), (1.0, 0.0), (14, 12)),  # x = 15 is a wall at y = 12
        ("two_slits", (14, 3), (1.0, 1.0), (15, 4)),  # diagonally into the slit
        ("two_slits", (14, 7), (1.0, 1.0), (14, 7)),  # (15, 8) is wall: no move at all, not even in y
        ("two_slits", (14, 20), (1.0, 0.0), (15, 20)),
        ("cshape", (18, 12), (-1.0, 0.0), (18, 12)),
        ("cshape", (6, 7), (1.0, 0.0), (6, 7)),
    ],
)
def test_moves(mode: str, cell: tuple[int, int], action: tuple[float, float], arrival: tuple[int, int]) -> None:
    at = move(np.array(cell), np.array(action, dtype=np.float32), layout(mode).wall)
    assert tuple(at) == arrival


def test_observation() -> None:
    obs = observe(np.array([[12, 12], [0, 24], [15, 6]]))
    assert obs.dtype == np.float32
    assert obs.tolist() == [[0, 0], [-1, 1], [0.25, -0.5]]


@pytest.mark.parametrize(
    ("mode", "start", "action", "reward", "terminated", "success"),
    [
        ("two_walls", (5, 22), (0, 1), 20, True, True),
        ("two_walls", (5, 2), (0, -1), 20, True, True),
        ("two_walls", (5, 12), (0, 1), 0, False, False),
        ("three_goals", (10, 12), (1, 0), -10, True, False),
        ("three_goals", (12, 16), (0, 1), 20, True, True),
        ("tree_in_the_middle", (12, 12), (1, 0), -10, True, False),
    ],
)
def test_rewards_and_ends(
    mode: str, start: tuple[int, int], action: tuple[int, int], reward: float, terminated: bool, success: bool
) -> None:
    env = GridWorldEnv(mode)
    env.reset(options={"start": start})
    outcome = env.step(np.array(action, dtype=np.float32))
    assert outcome[1:] == (reward, terminated, False, {"is_success": success})


def test_truncation_comes_at_the_last_step_and_termination_wins() -> None:
    env = GridWorldEnv(max_steps=3, start=(12, 12))
    env.reset(seed=0)
    flags = [env.step(np.zeros(2, dtype=np.float32))[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (False, True)]
    env.reset(options={"start": (12, 4)})
    flags = [env.step(np.array([0, -1], dtype=np.float32))[2:4] for _ in range(3)]
    assert flags == [(False, False), (False, False), (True, False)]  # y: 3, 2, 1 = goal, on the last step


def test_the_default_limit_is_100_steps() -> None:
    envs = GridWorldVectorEnv(num_envs=1)
    envs.reset(seed=0)
    truncated = [bool(envs.step(np.zeros((1, 2)))[3][0]) for _ in range(100)]
    assert truncated == [False] * 99 + [True]


@pytest.mark.parametrize("mode", ["two_slits", "three_goals"])
def test_starts_are_uniform_over_the_free_cells(mode: str) -> None:
    """Chi-square over k cells has mean k - 1 and variance 2(k - 1); single and vector env each within 5 deviations."""
    starts = {(int(x), int(y)) for x, y in layout(mode).starts}
    per_cell = 20
    envs = GridWorldVectorEnv(num_envs=per_cell * len(starts), mode=mode)
    single = GridWorldEnv(mode)
    single.reset(seed=1)
    envs.reset(seed=1)
    drawn_single = [tuple(single.cell) for _ in range(10 * len(starts)) if single.reset()]
    for drawn in ([tuple(cell) for cell in envs.cells], drawn_single):
        assert set(drawn) == starts
        counts = np.array(list(Counter(drawn).values()))
        expected = len(drawn) / len(starts)
        freedom = len(starts) - 1
        chi_square = ((counts - expected) ** 2 / expected).sum()
        assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)


def same(a: Any, b: Any) -> None:
    """Nested infos are equal in keys, types and values."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif a.dtype == object:
        for one, other in zip(a, b, strict=True):
            assert (one is None) == (other is None)
            np.testing.assert_array_equal(one, other)
    else:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_the_vector_env_is_gymnasiums_vector_of_the_single_env() -> None:
    """Same actions, same starts: every output and every info, through goals, deaths, time limits and resets."""
    options: dict[str, Any] = {"mode": "three_goals", "max_steps": 6, "start": (11, 15)}
    ours = GridWorldVectorEnv(num_envs=5, **options)
    theirs = SyncVectorEnv([lambda: GridWorldEnv(**options)] * 5, autoreset_mode=AutoresetMode.SAME_STEP)
    same(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
    random = np.random.default_rng(3)
    ends = {"goal": 0, "death": 0, "limit": 0}
    for _ in range(300):
        actions = random.uniform(-1.2, 1.2, (5, 2)).astype(np.float32)
        for one, other in zip(ours.step(actions), theirs.step(actions), strict=True):
            same(one, other)
        ends["goal"] += int((theirs._rewards > 0).sum())
        ends["death"] += int((theirs._rewards < 0).sum())
        ends["limit"] += int(theirs._truncations.sum())
    assert min(ends.values()) > 20


def test_final_observation_is_where_the_old_episode_ended() -> None:
    envs = GridWorldVectorEnv(num_envs=2, start=(12, 22))
    envs.reset(seed=0)
    obs, reward, terminated, _, info = envs.step(np.array([[0, 1], [1, 0]], dtype=np.float32))
    assert obs.tolist() == [[0, np.float32(10 / 12)], [np.float32(1 / 12), np.float32(10 / 12)]]
    assert reward.tolist() == [20, 0] and terminated.tolist() == [True, False]
    assert info["final_obs"][0].tolist() == [0, np.float32(11 / 12)] and info["final_obs"][1] is None
    assert info["final_info"]["is_success"].tolist() == [True, False]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("error")
def test_gymnasiums_own_check(mode: str) -> None:
    env = gymnasium.make("flowrl/GridWorld-v0", mode=mode, render_mode="rgb_array")
    check_env(env.unwrapped)


def test_registered_in_both_forms() -> None:
    assert isinstance(gymnasium.make("flowrl/GridWorld-v0").unwrapped, GridWorldEnv)
    envs = gymnasium.make_vec("flowrl/GridWorld-v0", num_envs=3, mode="cshape")
    assert isinstance(envs, GridWorldVectorEnv) and envs.layout.mode == "cshape"


def test_seeds_decide_everything() -> None:
    def trace(seed: int) -> list[Any]:
        envs = GridWorldVectorEnv(num_envs=4, max_steps=3)
        first, _ = envs.reset(seed=seed)
        return [first.tolist()] + [envs.step(np.zeros((4, 2)))[0].tolist() for _ in range(7)]

    assert trace(5) == trace(5)
    assert trace(5) != trace(6)


def test_start_option_counts_for_one_reset_only() -> None:
    envs = GridWorldVectorEnv(num_envs=3, max_steps=1)
    obs, _ = envs.reset(seed=0, options={"start": (12, 12)})
    assert not obs.any()
    obs, *_ = envs.step(np.zeros((3, 2)))
    assert obs.any(axis=1).all()
    fixed = GridWorldVectorEnv(num_envs=3, max_steps=1, start=(12, 12))
    fixed.reset(seed=0)
    assert not fixed.step(np.zeros((3, 2)))[0].any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "two_wals"}, "Did you mean 'two_walls'"),
        ({"start": (12, 0)}, "goal cell"),
        ({"mode": "cshape", "start": (7, 7)}, "wall cell"),
        ({"mode": "three_goals", "start": (12, 12)}, "death cell"),
        ({"start": (25, 3)}, "0..24"),
        ({"start": (1.5, 3)}, "0..24"),
        ({"start": "12"}, "0..24"),
        ({"start": (1, 2, 3)}, "0..24"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_steps": True}, "max_steps"),
    ],
)
@pytest.mark.parametrize("kind", [GridWorldEnv, GridWorldVectorEnv])
def test_wrong_options_are_refused(kind: Callable[..., Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        kind(**options)


def test_an_action_that_is_not_finite_is_refused() -> None:
    env = GridWorldEnv()
    env.reset(seed=0)
    with pytest.raises(ValueError, match="not finite"):
        env.step(np.array([np.nan, 0], dtype=np.float32))


def test_picture_shows_goals_walls_and_the_agent_with_y_upwards() -> None:
    env = GridWorldEnv("two_slits", start=(0, 24), render_mode="rgb_array")
    env.reset(seed=0)
    image = env.render()
    assert image is not None and image.shape == (400, 400, 3) and image.dtype == np.uint8
    corner = {"agent": image[8, 8], "goal": image[8, -8], "wall": image[8, 15 * 16 + 8], "free": image[-8, 8]}
    assert len({tuple(colour) for colour in corner.values()}) == 4
    slit = image[(24 - 5) * 16 + 8, 15 * 16 + 8]
    assert tuple(slit) == tuple(corner["free"])
