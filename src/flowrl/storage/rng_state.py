"""The state of every random generator of the process, as tensors and plain values."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from flowrl.contracts.errors import CheckpointError


def state(**generators: torch.Generator) -> dict[str, Any]:
    """Return the state of the global generators of Python, NumPy, torch and CUDA, and of the named `generators`."""
    twister: Any = np.random.get_state(legacy=False)  # noqa: NPY002  Gymnasium tasks may draw from the global one
    return {
        "python": random.getstate(),
        "numpy": {
            "key": torch.from_numpy(twister["state"]["key"].astype(np.int64)),  # (624,) MT19937
            "pos": int(twister["state"]["pos"]),
            "has_gauss": int(twister["has_gauss"]),
            "gauss": float(twister["gauss"]),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "generators": {name: generator.get_state() for name, generator in generators.items()},
    }


def restore(saved: dict[str, Any], **generators: torch.Generator) -> None:
    """Restore every generator to its state in `saved`, `generators` by the names that they were saved with.

    CUDA's global generators are restored only on a machine with the same number of devices.
    Raises CheckpointError when a state is missing or does not fit its generator.
    """
    try:
        random.setstate(saved["python"])
        twister = saved["numpy"]
        key = twister["key"].numpy().astype(np.uint32)
        np.random.set_state(("MT19937", key, twister["pos"], twister["has_gauss"], twister["gauss"]))  # noqa: NPY002
        torch.set_rng_state(saved["torch"])
        if saved["cuda"] and len(saved["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(saved["cuda"])
        for name, generator in generators.items():
            generator.set_state(saved["generators"][name])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"the checkpoint's random state cannot be restored here: {error!r}.") from error


class OwnGenerators(AbstractContextManager["OwnGenerators"]):
    """Global generators of one's own: in this context they take the place of those of the process."""

    def __init__(self, seed: int) -> None:
        """Seed those of Python, NumPy and torch; CUDA's stay those of the process."""
        outside = state()
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        self.saved = state() | {"cuda": []}
        restore(outside)

    def __enter__(self) -> OwnGenerators:
        self._outside = state()
        restore(self.saved)
        return self

    def __exit__(self, *_: object) -> None:
        self.saved = state() | {"cuda": []}
        restore(self._outside | {"cuda": []})
