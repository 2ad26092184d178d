"""Settings: what every part's block of a recipe is made of, strict about what a value is.

A recipe is written by hand, so a value of the wrong kind is a mistake to report, never one to convert:
`"64"`, `64.0` and `true` are not whole numbers, `"yes"` is not a truth value, `.nan` is not a number.
Two conversions are safe and made: a whole number where a real one is wanted (`clip: 1`), and a YAML list
where the field is a tuple (`hidden: [64, 64]`).
"""

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """A frozen block of settings: unknown keys, wrong kinds of value and infinite numbers are refused.

    Subclass it at the top of the file that reads the settings; give each field a default, limits through
    `Field(gt=0)` and a sentence on what changes when you change it. Raises `pydantic.ValidationError` when
    built from wrong values; `flowrl.config.recipe` turns that into a sentence with the line and the key.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_as_tuples(cls, block: Any) -> Any:
        if not isinstance(block, dict):
            return block
        fields = cls.model_fields
        return {
            key: _as_tuples(value, fields[key].annotation) if key in fields else value
            for key, value in block.items()
        }


def _as_tuples(value: Any, annotation: Any) -> Any:
    """`value` with lists turned into tuples wherever the annotation asks for tuples: YAML has only lists."""
    arguments = get_args(annotation)
    origin = get_origin(annotation) or annotation
    if origin in (Annotated, Union, UnionType):
        converted = (_as_tuples(value, choice) for choice in arguments)
        return next((choice for choice in converted if isinstance(choice, tuple)), value)
    if origin is dict and isinstance(value, dict) and len(arguments) == 2:
        return {key: _as_tuples(item, arguments[1]) for key, item in value.items()}
    if origin is list and isinstance(value, list) and arguments:
        return [_as_tuples(item, arguments[0]) for item in value]
    if origin is tuple and isinstance(value, list):
        item_types = arguments[:1] * len(value) if arguments[1:] == (Ellipsis,) else arguments
        if len(item_types) != len(value):
            return tuple(value)  # pydantic reports the wrong length
        return tuple(_as_tuples(item, item_type) for item, item_type in zip(value, item_types, strict=True))
    return value
