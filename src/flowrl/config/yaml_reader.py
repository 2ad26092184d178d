"""Strict YAML: plain values, and the line of every key.

It is read by the rules of YAML 1.2 and of JSON, not of YAML 1.1: `1e-3` is a number, and `no`, `on`,
`2026-01-31`, `010` and `1:30` are text. Refused, because no recipe needs them and each causes mistakes:
a key written twice, keys that are not text, anchors and aliases, tags, more than one document, infinite
numbers, control characters, more than 1 MB, more than 20 levels, more than 20 000 values.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import yaml

from flowrl.contracts.errors import UsageError

KeyPath = tuple[str | int, ...]  # from the root to a value: ('learner', 'clip'), or ('policy', 'hidden', 0)
Lines = dict[KeyPath, int]  # where each key, or each item of a list, is written; the first line is 1

MAX_BYTES = 1_000_000
MAX_LEVELS = 20
MAX_VALUES = 20_000
MAX_WHOLE_NUMBER = 2**64

_NOTHING = {"", "~", "null", "Null", "NULL"}
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)")
_WHOLE_POWER = re.compile(r"([-+]?[1-9][0-9]*)[eE]\+?([0-9]{1,2})")  # 2e6: no point, no minus
_REAL = re.compile(rf"[-+]?(?:{_DIGITS}\.?|(?:{_DIGITS})?\.{_DIGITS})(?:[eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

_ADVICE = {  # part of PyYAML's message -> what to do about it
    r"'\t'": "Indent with spaces, not with a tab.",
    "mapping values are not allowed": "Look for wrong indentation, or for ': ' in a text without quotes.",
    "could not find expected ':'": "Write a colon and a space after a key: 'key: value'.",
    "expected <block end>": "Look for wrong indentation, here or on the line above.",
    "expected ',' or": "A bracket or brace is not closed, or a comma is missing.",
    "unexpected end of stream": "A quote is not closed.",
    "cannot start any token": "A text that begins with this character needs quotes.",
    "found another document": "Keep one document in a file: remove the '---' line.",
    "expected '<document start>'": "Remove what follows the end of the value, or quote all of the value.",
    "expected the node content": "A value is missing here.",
    "chr()": "An escape such as '\\U00110000' is beyond the last character there is.",
}


def parse(data: bytes, name: str) -> tuple[dict[str, Any], Lines]:
    """Parse `data`, the content of the file that messages call `name`, into keys and values, and their lines.

    Raises UsageError, with file, line and key, for anything that is not one strict YAML mapping.
    """
    if len(data) > MAX_BYTES:
        raise UsageError(f"{name} is larger than 1 MB, so it is not a recipe.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{name} line {line}: byte 0x{data[error.start]:02x} is not UTF-8 text. "
            "Save the recipe as a text file in UTF-8."
        ) from None
    node, reader = _compose(text, lambda line: f"{name} line {line}")
    if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
        raise UsageError(f"{name} is empty. A recipe holds keys and values, such as 'algorithm: fpo'.")
    if not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else "one value"
        reader.refuse(node, f"a recipe holds keys and values, such as 'algorithm: fpo'; this is {kind}.")
    return reader.plain(node, ()), reader.lines


def parse_value(text: str, name: str) -> Any:
    """Parse `text` (a part of the command line called `name`) as a YAML value: 0.1, [64, 64], null."""
    node, reader = _compose(text, lambda line: name)
    if node is None:
        raise UsageError(f"{name}: the value is missing. Write null for none, or '\"\"' for an empty text.")
    end = node.end_mark.index if node.end_mark else len(text)
    if rest := text[end:].strip():
        reader.refuse(node, f"{shorten(rest)!r} would be read as a comment. Quote the value.")
    return reader.plain(node, ())


def write(values: Mapping[str, Any]) -> str:
    """Return `values` as YAML text, in their order, which `parse` and other readers read back."""
    text: str = yaml.dump(dict(values), Dumper=_Writer, sort_keys=False, allow_unicode=True, width=2**31)
    return text


def plain_scalar(text: str) -> Any:
    """Convert an unquoted `text` to None, a boolean, a number (possibly infinite), or the text itself."""
    if text in _NOTHING:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    digits = text.replace("_", "")
    if _WHOLE.fullmatch(text):
        return int(digits[:40])  # 40 digits are too many for any setting, and int() has a limit of its own
    if (power := _WHOLE_POWER.fullmatch(text)) and len(power[1]) <= 20 and int(power[2]) <= 15:
        return int(power[1]) * 10 ** int(power[2])  # 2e6 is meant as an integer
    if _REAL.fullmatch(text) and not _LEADING_ZERO.fullmatch(text):
        return float(digits)
    return text


class _Reader(yaml.SafeLoader):
    """PyYAML's scanner and parser, with limits; values are created here, never by a constructor of PyYAML."""

    def __init__(self, text: str, where: Callable[[int], str]) -> None:
        super().__init__(text)
        self.where = where  # a line -> its place in messages
        self.lines: Lines = {}
        self.level = 0
        self.values = 0

    def refuse(self, at: yaml.Node | yaml.Event, problem: str, path: KeyPath = ()) -> NoReturn:
        key = f", key {dotted(path)}" if path else ""
        raise UsageError(f"{self.where(_line(at))}{key}: {problem}")

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            self.refuse(event, f"'{sign}' makes an alias, which is not read. Write the value out, or quote it.")
        if getattr(event, "tag", None) is not None:
            tag = shorten(str(event.tag).replace("tag:yaml.org,2002:", "!!"))
            self.refuse(event, f"the tag {tag} is not read. Write the value without it.")
        self.level += 1
        self.values += 1
        if self.level > MAX_LEVELS:
            self.refuse(event, f"nested more than {MAX_LEVELS} levels deep.")
        if self.values > MAX_VALUES:
            self.refuse(event, f"more than {MAX_VALUES} values, so this is not a recipe.")
        node = super().compose_node(parent, index)
        self.level -= 1
        return node

    def plain(self, node: yaml.Node, path: KeyPath) -> Any:
        """Convert the node to dict, list, text, number, boolean or None; fills `lines`."""
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[*path, index] = _line(item)
            return [self.plain(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key in mapping:
                first = self.lines[*path, key]
                self.refuse(key_node, f"written twice, first on line {first}. Remove one.", (*path, key))
            self.lines[*path, key] = _line(key_node)
            mapping[key] = self.plain(value_node, (*path, key))
        return mapping

    def _key(self, node: yaml.Node, path: KeyPath) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self.refuse(node, "a key must be text, not a list or a mapping.", path)
        key = self._scalar(node, (*path, node.value))
        if not isinstance(key, str):
            kind = "nothing" if key is None else "a truth value" if isinstance(key, bool) else "a number"
            quoted = f"Put it in quotes ('{node.value}') if it is meant as text."
            self.refuse(node, f"a key must be text, and this is {kind}. {quoted}", (*path, node.value))
        return key

    def _scalar(self, node: Any, path: KeyPath) -> Any:
        value = plain_scalar(node.value) if node.style is None else node.value
        if isinstance(value, str) and (control := _CONTROL.search(value)):
            self.refuse(node, f"the text contains the control character U+{ord(control[0]):04X}.", path)
        if isinstance(value, float) and not math.isfinite(value):
            self.refuse(node, f"numbers must be finite, got {shorten(node.value)}.", path)
        if isinstance(value, int) and abs(value) >= MAX_WHOLE_NUMBER:
            self.refuse(node, f"{shorten(node.value)} is too large for a whole number (64 bits).", path)
        return value


def _compose(text: str, where: Callable[[int], str]) -> tuple[yaml.Node | None, _Reader]:
    """Parse `text` into a tree of nodes, None for an empty one, and the reader that converts it."""
    if odd := yaml.SafeLoader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, odd.start()) + 1
        raise UsageError(
            f"{where(line)}: the character U+{ord(odd[0]):04X} does not belong in a text file. "
            "Is this a recipe, or a binary file?"
        )
    reader = _Reader(text, where)
    try:
        return reader.get_single_node(), reader
    except yaml.MarkedYAMLError as error:
        line = getattr(error.problem_mark or error.context_mark, "line", 0) + 1
        problem = (error.problem or error.context or "unreadable").removeprefix("but ")
    except (ValueError, OverflowError) as error:  # PyYAML: '"\U00110000"' is more than chr() takes
        line, problem = reader.line + 1, str(error)
    advice = next((f" {advice}" for sign, advice in _ADVICE.items() if sign in problem), "")
    raise UsageError(f"{where(line)}: this is not YAML: {shorten(problem, 120)}.{advice}")


class _Writer(yaml.SafeDumper):
    """PyYAML's writer, with quotes around each text that `parse` would read as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def _text(self, text: str) -> yaml.Node:
        quote = None if plain_scalar(text) == text and "\n" not in text else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=quote)

    def _list(self, items: list[Any] | tuple[Any, ...]) -> yaml.Node:
        on_one_line = not any(isinstance(item, dict | list | tuple) for item in items)
        return self.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=on_one_line)


_Writer.add_representer(str, _Writer._text)
_Writer.add_representer(list, _Writer._list)
_Writer.add_representer(tuple, _Writer._list)


def dotted(path: KeyPath) -> str:
    """Return the path in dotted form: learner.clip, policy.hidden[0]."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return shorten(text.removeprefix("."), 120)


def shorten(text: str, length: int = 60) -> str:
    """Return the text in one line of at most `length` characters, the end left out."""
    line = " ".join(text[: 4 * length].split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _line(at: yaml.Node | yaml.Event) -> int:
    return at.start_mark.line + 1 if at.start_mark else 1
