"""What an update learns from, in the order in which it is used."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from flowrl.training.ratio import Record


@dataclass(frozen=True)
class Batch:
    """A rollout with time and environments flattened into one axis, and the quantities that an update needs."""

    obs: Tensor  # (batch, observation), normalised
    actions: Tensor  # (batch, action)
    advantages: Tensor  # (batch,)
    returns: Tensor  # (batch,) targets of the critic
    values: Tensor  # (batch,) of the critic before the update
    record: Record  # of the old policy

    def __getitem__(self, rows: Tensor | slice) -> Batch:
        return Batch.of({name: value[rows] for name, value in self.columns().items()})

    def columns(self) -> dict[str, Tensor]:
        """Return all tensors, (batch, ...) each, by name: those of the record after the others."""
        return {name: value for name, value in vars(self).items() if name != "record"} | {
            f"record.{name}": value for name, value in self.record.items()
        }

    @classmethod
    def of(cls, columns: dict[str, Tensor]) -> Batch:
        """Return the batch whose `columns` these are."""
        recorded = {
            name.removeprefix("record."): value for name, value in columns.items() if name.startswith("record.")
        }
        return cls(
            **{name: value for name, value in columns.items() if not name.startswith("record.")}, record=recorded
        )
