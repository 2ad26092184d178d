"""The block `env.warp` of a recipe: how MuJoCo Warp simulates."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flowrl.contracts.settings import AtResume, Changeable, Settings


class WarpSettings(Settings):
    """What MuJoCo Warp allocates and how it computes; read where `env.simulator` is warp."""

    device: Changeable[str] = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Where the physics run: `cuda`, `cuda:1`, `cpu`, or `auto`: the first GPU that PyTorch and Warp can use, else the
    CPU, which serves to test, not to train."""
    contacts: Changeable[int] = Field(64, ge=1, le=100_000)
    """Contacts per environment for which there is memory, on average over the environments. More than that would be
    left out, so a run stops there."""
    constraints: Changeable[int] = Field(256, ge=1, le=100_000)
    """Rows of constraints for which each environment has memory: about four for every contact, and one for every joint
    at its limit. More would be left out, so a run stops there."""
    deterministic: Changeable[bool] = False
    """Whether a GPU adds contacts and forces up in a fixed order, so that the same run gives the same numbers; it costs
    time. On the CPU they repeat in any case."""
    nursery: Annotated[int, AtResume(False, "the starts that it holds belong to the run")] = Field(
        256, ge=0, le=1_000_000
    )
    """Starts that are settled together, in a second simulation, where an episode begins with many physics steps
    (CheetahRun: 200). They are handed out one by one, and settled afresh when all are used. 0: none; every reset then
    steps all environments."""
