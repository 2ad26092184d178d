"""The faults of a sampler as errors for its user: it raises, returns no points, or declares what is no number."""

from __future__ import annotations

from torch import Tensor, strided

from flowrl.contracts.errors import FlowrlError, UsageError, in_one_line
from flowrl.contracts.interrupts import raise_interrupt

LARGEST = 10**12  # number of steps or evaluations


def failure(name: str, error: BaseException) -> FlowrlError:
    """Return the error to raise where the sampler `name` has raised `error`, SystemExit too.

    An interrupt by the user is raised here.
    """
    raise_interrupt(error)
    if isinstance(error, FlowrlError):
        return error
    return UsageError(
        f"the sampler {name!r} failed: {in_one_line(error)}. Choose other options for it, or another sampler with "
        "--sampler."
    )


def check_points(name: str, points: object, noise: Tensor) -> None:
    """Raise UsageError unless the sampler `name` returned `points` of the form of the `noise` that it was given."""
    if not isinstance(points, Tensor) or _form(points) != _form(noise):
        raise UsageError(
            f"the sampler {name!r} returned {_described(points)} for points that are {_described(noise)}: it must "
            "return the points at t1, in the shape, dtype and layout of its input and on its device. `flowrl samplers "
            "check` examines a sampler."
        )


def declared(name: str, sampler: object, attribute: str) -> int | None:
    """Return the number that the sampler `name` has in its `attribute`; None where it declares none.

    Raises UsageError for a value that is no number, and where reading it raises.
    """
    try:
        value = getattr(sampler, attribute, None)
    except BaseException as error:
        raise_interrupt(error)
        raise UsageError(f"the sampler {name!r} has no usable {attribute!r}: {in_one_line(error)}.") from error
    if value is not None and (type(value) is not int or not 0 <= value <= LARGEST):
        raise UsageError(
            f"the sampler {name!r} has {attribute} = {ascii(value)[:80]}: it must be a whole number from 0 to "
            f"{LARGEST:,}, or None. Correct the class, or leave the attribute out."
        )
    return value


def _form(points: Tensor) -> tuple[object, ...]:
    return points.shape, points.dtype, points.layout, points.device


def _described(points: object) -> str:
    if not isinstance(points, Tensor):
        return f"a {type(points).__name__}"
    layout = "" if points.layout is strided else f" {str(points.layout).removeprefix('torch.')}"
    return f"{tuple(points.shape)} {points.dtype}{layout} on {points.device}"
