"""Settings: the base class of every block of a recipe, strict about the type of a value.

A recipe is written by hand, so a value of the wrong type is a mistake to report, never one to convert:
`"64"`, `64.0` and `true` are not integers, `"yes"` is not a boolean, `.nan` is not a number. Two conversions are
safe: an integer where a real number is expected (`clip: 1`), and, in a field annotated with `Strict(False)`, a YAML
list where the field is a tuple (`hidden: [64, 64]`), whose items are checked as strictly as any other value.
"""

from dataclasses import dataclass
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


@dataclass(frozen=True)
class AtResume:
    """What a resumed run does with another value of a key: metadata of the field, or of a block around it.

    A field without it, in no block that has it, cannot be changed: a new key is refused until it is `Changeable`.
    """

    changeable: bool  # whether it acts from the next update on
    reason: str = ""  # why it cannot be changed: a clause about 'it'


Changeable = Annotated[T, AtResume(changeable=True)]
"""A key, or a block of keys, that `flowrl train --resume RUN --set key=value` may change: it acts from the next
update on."""


class Settings(BaseModel):
    """A frozen block of settings that refuses unknown keys, values of another type and infinite numbers.

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
