"""The plan of a fixed-grid explicit method: where it evaluates the velocity, and what it adds up.

Euler, midpoint, Heun, RK4 and Adams-Bashforth are one program, "evaluate the velocity at a node, add a linear
combination of velocities". `carry` runs it; code that needs the times beforehand (a table of time
embeddings, an export, a fit) reads the same plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar, NamedTuple

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]

MOST_STEPS = 10_000  # a plan holds every step: far beyond any use, and still small


class Node(NamedTuple):
    """An evaluation of the velocity, and the terms that lead to the next point."""

    t: float
    terms: tuple[tuple[int, float], ...]  # (age, weight): age 0 is this node's velocity, 1 the last's, ...
    ends_step: bool  # the next point is where the next step starts


@dataclass(frozen=True)
class Plan:
    """The nodes of all steps from `t0` to `t1`, in order; a weight has the unit of time (h times b_j)."""

    nodes: tuple[Node, ...]

    @property
    def nfe(self) -> int:
        """Count the evaluations of the velocity."""
        return len(self.nodes)

    @property
    def times(self) -> tuple[float, ...]:
        """List the time of each evaluation, in order."""
        return tuple(node.t for node in self.nodes)

    @cached_property
    def memory(self) -> int:
        """Count the last velocities that have to be kept."""
        return 1 + max(age for node in self.nodes for age, _ in node.terms)


@dataclass(frozen=True, eq=False)  # hashed by identity: a key of the plan cache, looked up at every call
class Tableau:
    """Butcher tableau of an explicit Runge-Kutta method with s stages.

    x_i = x + h sum_{j<i} a_ij v_j,   v_i = velocity(x_i, t + c_i h),   c_i = sum_j a_ij
    x'  = x + h sum_i b_i v_i
    """

    a: tuple[tuple[float, ...], ...]  # the rows of stages 2..s, of lengths 1..s-1
    b: tuple[float, ...]  # (s,)


def carry(plan: Plan, velocity: Velocity, x: Tensor) -> Tensor:
    """Carry the points `x` (batch, action) through all nodes of `plan`; `x` itself is not changed."""
    start = x
    velocities: deque[Tensor] = deque(maxlen=plan.memory)
    for t, terms, ends_step in plan.nodes:
        velocities.appendleft(velocity(x, t))
        x = start
        for age, weight in terms:
            x = x.add(velocities[age], alpha=weight)
        if ends_step:
            start = x
    return x


@dataclass(frozen=True)
class FixedGrid(ABC):
    """A sampler that carries points along its plan in `steps` equal steps.

    A subclass defines its plan, its order and its evaluations per step, nothing else. Raises TypeError or
    ValueError unless `steps` is an integer from 1 to 10,000.
    """

    steps: int = 10
    order: ClassVar[int]
    nfe_per_step: ClassVar[int]

    def __post_init__(self) -> None:
        if type(self.steps) is not int:
            raise TypeError(f"steps must be an integer, not {self.steps!r}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")
        if self.steps > MOST_STEPS:
            raise ValueError(f"steps must be at most {MOST_STEPS}, not {self.steps}")

    @property
    def nfe(self) -> int:
        """Count the velocity evaluations of one call."""
        return self.nfe_per_step * self.steps

    @abstractmethod
    def plan(self, t0: float, t1: float) -> Plan:
        """Build the nodes and coefficients from `t0` to `t1`."""

    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        """Carry the points `x` (batch, action) from `t0` to `t1`."""
        return carry(self.plan(t0, t1), velocity, x)


@lru_cache(maxsize=256)
def runge_kutta(tableau: Tableau, steps: int, t0: float, t1: float) -> Plan:
    """Plan `steps` equal steps of the Runge-Kutta method `tableau` from `t0` to `t1`."""
    h = (t1 - t0) / steps
    rows = (*tableau.a, tableau.b)
    nodes = []
    for step in range(steps):
        for stage, row in enumerate(rows):
            c = sum(rows[stage - 1]) if stage else 0.0
            terms = tuple((stage - j, h * weight) for j, weight in enumerate(row) if weight)
            t = between(t0, t1, (step + c) / steps)
            nodes.append(Node(t, terms, ends_step=row is tableau.b))
    return Plan(tuple(nodes))


class RungeKutta(FixedGrid):
    """An explicit Runge-Kutta method: a subclass defines its tableau and its order, nothing else."""

    tableau: ClassVar[Tableau]

    def __init_subclass__(cls) -> None:
        cls.nfe_per_step = len(cls.tableau.b)

    def plan(self, t0: float, t1: float) -> Plan:
        return runge_kutta(self.tableau, self.steps, t0, t1)


@lru_cache(maxsize=256)
def adams_bashforth_2(steps: int, t0: float, t1: float) -> Plan:
    """Plan `steps` equal steps of x' = x + h (3/2 v_n - 1/2 v_{n-1}) from `t0` to `t1`, the first one Euler's."""
    h = (t1 - t0) / steps
    euler, ab2 = ((0, h),), ((0, 1.5 * h), (1, -0.5 * h))
    times = [between(t0, t1, step / steps) for step in range(steps)]
    return Plan(tuple(Node(t, ab2 if step else euler, ends_step=True) for step, t in enumerate(times)))


def between(t0: float, t1: float, share: float) -> float:
    """Compute the time at `share` of the way from `t0` to `t1`.

    All nodes take their time from here, so that the end of a step and the start of the next are the same
    number, and from 0 to 1 or back none is outside [0, 1].
    """
    return t0 + (t1 - t0) * share
