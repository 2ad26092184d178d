"""The sampler that samplers/README.md shows is ten lines long, and conforms."""

from __future__ import annotations

import re
from pathlib import Path

from flowrl.contracts import user_code
from flowrl.samplers import registry
from flowrl.samplers.conformance import check_conformance

README = Path(__file__).parents[2] / "samplers" / "README.md"


def test_the_sampler_in_the_readme_conforms(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("from ")]
    assert len(lines) == 10
    file = tmp_path / "power.py"
    file.write_text(code)
    user_code.name_code(str(file))
    results = check_conformance(lambda **options: registry.make(f"{file}:PowerEuler", options), steps=8)
    assert [result for result in results if result.passed is False] == []
    assert any(result.measured.startswith("order 1.0") for result in results)
