"""Code that a configuration names: where it may stand, who has named it, and what a file of a recipe is relative to.

What a user writes in a recipe of their own or on the command line is named by them (`name_written`); what only a
checkpoint or the config.yaml of a run holds is not, and `flowrl.contracts.user_code.load` refuses to run it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowrl.config.recipe import Recipe
from flowrl.config.yaml_reader import KeyPath, dotted
from flowrl.contracts import user_code

IMPORTS = ("imports",)
KEYS: tuple[KeyPath, ...] = (IMPORTS, ("env", "id"), ("env", "wrappers"), ("sampler", "name"), ("callbacks",))
"""The keys whose values may name code. A list has a name in each item, or in the only key of an item; everything in
`imports` is code, elsewhere what contains a colon or ends in .py."""
CALLBACKS = ("callbacks",)
ACTING = tuple(key for key in KEYS if key != CALLBACKS)
"""The keys whose code is run when a policy acts in its environment; callbacks are run by a training only."""
SECTIONS = ("fpo", "fpo++", "ppo")  # of a recipe, which hold the same keys for one algorithm


def code_in(values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Yield the path and the name of all code in plain `values`, which need not be valid."""
    for section in ((), *((name,) for name in SECTIONS)):
        for key in KEYS:
            yield from _names(_value(values, (*section, *key)), (*section, *key), every=key == IMPORTS)


def sources_in(values: Mapping[str, Any], keys: Sequence[KeyPath] = KEYS) -> list[str]:
    """Return the files and modules in plain `values` at one of `keys`, each once."""
    return list(dict.fromkeys(user_code.parse(text).source for path, text in code_in(values) if _is_at(path, keys)))


def import_words(values: Mapping[str, Any], keys: Sequence[KeyPath] = KEYS) -> list[str]:
    """Return the words of a command line that name the code of `sources_in`: ['--import', 'my_env.py']."""
    return [word for source in sources_in(values, keys) for word in ("--import", source)]


def name_written(source: Recipe) -> None:
    """Name all code that the user has written: in a recipe of their own, or with an option of the command line."""
    for path, text in code_in(source.values):
        if is_of_user(source, path):
            user_code.name_code(text)


def is_of_user(source: Recipe, path: KeyPath) -> bool:
    """Return whether the user has written the value at `path`: in a recipe of theirs, or on the command line."""
    return not source.checkpoint or _is_override(source, path)


def with_imports(source: Recipe, imports: Sequence[str]) -> Recipe:
    """Return the recipe with what `--import` names among its `imports`, each once; and name it.

    What a run's own configuration names elsewhere, as its callbacks, is named only: it was trained without the import.
    """
    user_code.name_code(*imports)
    if not imports:
        return source
    before = source.values.get(IMPORTS[0]) or []
    before = [before] if isinstance(before, str) else before
    if not isinstance(before, list | tuple):
        return source  # which its validation reports
    known = {user_code.parse(text).resolved for text in before if isinstance(text, str)}
    if source.checkpoint:
        known |= {user_code.parse(text).resolved for _, text in code_in(source.values)}
    new = [text for text in dict.fromkeys(imports) if user_code.parse(text).resolved not in known]
    return replace(source, values=source.values | {IMPORTS[0]: [*before, *new]})


def find_named_files(content: dict[str, Any]) -> None:
    """Let the content of a checkpoint name its files as the user has named them: see `user_code.stand_in`.

    The configuration, the ids of the environments and the recorded digests change together.
    """
    recorded = content.get("code", {})
    content["config"] = _with_stand_ins(content["config"], recorded)
    content["shards"] = [
        shard | {"env": shard["env"] | {"id": _stand_in(shard["env"]["id"], recorded)}} for shard in content["shards"]
    ]
    if "code" in content:
        content["code"] = {_stand_in(source, recorded): digest for source, digest in recorded.items()}


def _with_stand_ins(values: Mapping[str, Any], recorded: Mapping[str, str]) -> dict[str, Any]:
    changed = copy.deepcopy(dict(values))
    for path, text in code_in(values):
        if (found := _stand_in(text, recorded)) != text:
            _replace(changed, path, text, found)
    return changed


def _stand_in(text: str, recorded: Mapping[str, str]) -> str:
    return user_code.stand_in(text, recorded.get(user_code.parse(text).source)) if user_code.is_code(text) else text


def unnamed(values: Mapping[str, Any], keys: Sequence[KeyPath] = KEYS) -> list[tuple[str, str]]:
    """Return the key and the name of all code in plain `values`, at one of `keys`, that the user has not named."""
    return [
        (dotted(path), text) for path, text in code_in(values) if _is_at(path, keys) and not user_code.is_named(text)
    ]


def _is_at(path: KeyPath, keys: Sequence[KeyPath]) -> bool:
    """Return whether `path` is at one of `keys` or below, in the section of an algorithm, too."""
    inside = path[1:] if path[0] in SECTIONS else path
    return any(inside[: len(key)] == key for key in keys)


def located(source: Recipe) -> Recipe:
    """Return the recipe with the files that its text names found: relative to its own folder, if they lie there.

    What lies elsewhere, and what the command line names, is relative to the current folder. In the config.yaml of a run
    files are as the user has named them.
    """
    folder = Path(source.name).parent
    if source.checkpoint:
        return replace(source, values=_with_stand_ins(source.values, {}))
    if folder == Path():
        return source
    values = copy.deepcopy(source.values)
    for path, text in code_in(source.values):
        name = user_code.parse(text)
        if name.is_file and not _is_override(source, path) and (folder / name.source).is_file():
            _replace(values, path, text, str(user_code.CodeName(str(folder / name.source), name.attribute)))
    return replace(source, values=values)


def _names(value: Any, path: KeyPath, *, every: bool) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str) and (every or user_code.is_code(value)):
        yield path, value
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            names = item if isinstance(item, dict) else [item]
            for name in names:
                yield from _names(name if isinstance(name, str) else None, (*path, place), every=every)


def _replace(values: dict[str, Any], path: KeyPath, text: str, found: str) -> None:
    """Replace the name `text` at `path` by `found`."""
    block: Any = values
    for step in path[:-1]:
        block = block[step]
    item = block[path[-1]]
    block[path[-1]] = (
        {found if key == text else key: own for key, own in item.items()} if isinstance(item, dict) else found
    )


def _value(values: Any, path: KeyPath) -> Any:
    for step in path:
        values = values.get(step) if isinstance(values, Mapping) else None
    return values


def _is_override(source: Recipe, path: KeyPath) -> bool:
    written = source.places.get(path)
    return written is not None and written.is_override
