"""`flowrl doctor`: check the installation and print how to repair it."""

from __future__ import annotations

from flowrl.cli.arguments import Json
from flowrl.cli.output import next_command, print_json, print_table
from flowrl.contracts.errors import MissingDependency


def doctor(as_json: Json = False) -> None:
    """Check this installation and print how to repair it.

    Exits with 0 when flowrl can run, also with warnings, else with 8.
    """
    from dataclasses import asdict

    from flowrl.cli.installation import examine

    findings = list(examine())
    problems = [finding for finding in findings if finding.state == "problem"]
    if as_json:
        print_json({"usable": not problems, "checks": [asdict(finding) for finding in findings]})
    else:
        rows = []
        for finding in findings:
            rows.append([finding.state, finding.name, finding.found])
            if finding.remedy:
                rows.append(["", "", f"-> {finding.remedy}"])
        print_table(["state", "check", "found"], rows, keys=("state", "check"))
    if problems:
        first = problems[0]
        raise MissingDependency(
            f"{first.name}: {first.found}. flowrl cannot run until this is fixed. Type: {first.remedy}"
        )
    next_command("flowrl train gridworld.yaml")
