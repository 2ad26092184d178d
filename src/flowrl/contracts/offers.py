"""What installed packages offer to flowrl: the entry points of a group, by their names."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points


def of_group(group: str) -> dict[str, list[EntryPoint]]:
    """Return the entry points of `group` by their names: one each, unless two packages register the same name."""
    by_name: dict[str, list[EntryPoint]] = {}
    for offer in entry_points(group=group):
        by_name.setdefault(offer.name, []).append(offer)
    return by_name


def origin(offer: EntryPoint) -> str:
    """Name the package of an entry point, with its version."""
    return f"{offer.dist.name} {offer.dist.version}" if offer.dist else "an unknown package"
