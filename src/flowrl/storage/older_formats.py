"""Checkpoints of older formats, as content of the present one.

Format 2 holds shards. Format 1, from before there were any, had the environments and random generators of its only
shard beside everything else.
"""

from __future__ import annotations

from typing import Any

from flowrl.storage.content import FORMAT

READABLE = (1, FORMAT)
SHARD_KEYS = ("generator", "episodes", "env", "random", "last_noise")  # in format 1 keys of the content itself


def upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a checkpoint of an older format in the present one: a run of format 1 is of one shard."""
    if content["format"] != 1:
        return content
    shard = {key: content[key] for key in SHARD_KEYS if key in content}
    kept = {key: value for key, value in content.items() if key not in SHARD_KEYS}
    return kept | {"format": FORMAT, "shards": [shard]}
