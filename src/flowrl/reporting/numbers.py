"""Numbers as short text for people: values, shares, ratios, counts, durations and sparklines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def number(value: float) -> str:
    """Format a number in at most eight characters: 0.0412, 3.14, 512.3, 12,345, 1.23e+07, 3.0e-05."""
    size = abs(value)
    if not math.isfinite(value):
        return "-"
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2e}"
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def percent(value: float) -> str:
    """Format a share in [0, 1] as 97.3 %."""
    return f"{100 * value:.1f} %" if math.isfinite(value) else "-"


def ratio(value: float) -> str:
    """Format a likelihood ratio, which is near 1, with three decimals."""
    return f"{value:.3f}" if abs(value) < 1000 else number(value)


def count(value: float) -> str:
    """Format a count in at most five characters: 950, 12.3k, 4.56M."""
    if not math.isfinite(value):
        return "-"
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * unit:
            scaled = value / unit
            return f"{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f}{letter}"
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """Format seconds as 0:07, 12:30 or 3:05:00; -:-- when unknown."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, second = divmod(math.ceil(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw `values` as at most `width` bars from the lowest (▁) to the highest (█); each bar is a mean."""
    width = min(width, len(values))
    if width <= 0:
        return ""
    edges = [round(bar * len(values) / width) for bar in range(width + 1)]
    bars = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(bars), max(bars)
    scale = 7 / (high - low) if high > low else 0.0
    return "".join("▁▂▃▄▅▆▇█"[round((bar - low) * scale)] for bar in bars)
