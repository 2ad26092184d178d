"""The README of an exported folder, and the metadata of its ONNX file, from policy.json."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from flowrl.contracts.printable import printable
from flowrl.deployment import c_source, onnx_model

Document = Mapping[str, Any]


def page(document: Document, files: Collection[str]) -> str:
    """Return README.md: how to call the policy, and where it comes from."""
    parts = [f"# A policy for {printable(document['env'])}", _interface(document)]
    if c_source.SOURCE in files:
        parts.append(_c(document))
    if onnx_model.FILE in files:
        parts.append(_onnx(document))
    parts += [_python(document), _origin(document)]
    return "\n\n".join(parts) + "\n"


def sampler_text(document: Document) -> str:
    """'euler:10 (that of the training), 10 network evaluations per action'"""
    sampler = document["sampler"]
    evaluations = f"{sampler['nfe']} network evaluation{'s' * (sampler['nfe'] > 1)} per action"
    if (velocities := len(sampler["times"] or ())) > sampler["nfe"]:
        evaluations += f", {velocities} of the velocity to the Gaussians that it gives"
    if sampler["name"] is None:
        return f"none, a Gaussian policy: {evaluations}"
    steps = f":{sampler['steps']}" if sampler["steps"] else ""
    own = " (that of the training)" if sampler["of_training"] else ""
    return f"{printable(sampler['name'])}{steps}{own}, {evaluations}"


def action_text(document: Document) -> str:
    """Describe the actions in a few words."""
    action = document["action"]
    if action["raw"]:
        then = f" ({action['squash']} to ±1, times scale, plus offset: policy.json)" if action["squash"] else ""
        return f"{action['size']} numbers, raw: squash, scale and clip them yourself{then}"
    return f"{action['size']} numbers as the environment takes them ({action['squash']}, scaled, within the bounds)"


def metadata(document: Document, error: float | None) -> dict[str, str]:
    """Return the metadata of the ONNX file: mjlab's keys where they are known, and flowrl's; numbers with 9 digits."""
    action, observation, sampler, noise = (document[key] for key in ("action", "observation", "sampler", "noise"))
    steps = f":{sampler['steps']}" if sampler["steps"] else ""
    found = {
        "run_path": document["checkpoint"]["run"],
        "observation_names": ",".join(observation["parts"] or ()),
        "joint_names": ",".join(action["names"] or ()),
        "action_scale": ",".join(f"{value:.9g}" for value in action["scale"] or ()),
        "flowrl.version": document["flowrl"],
        "flowrl.env": document["env"],
        "flowrl.checkpoint_sha256": document["checkpoint"]["sha256"],
        "flowrl.sampler": f"{sampler['name']}{steps}" if sampler["name"] else "",
        "flowrl.nfe": str(sampler["nfe"]),
        "flowrl.noise": noise["mode"],
        "flowrl.noise_scale": f"{noise['scale']:.9g}",
        "flowrl.squash": action["squash"] or "",
        "flowrl.raw": "true" if action["raw"] else "false",
        "flowrl.max_abs_error": "" if error is None else f"{error:.9g}",
    }
    return {key: printable(value) for key, value in found.items() if value}


def _interface(document: Document) -> str:
    observation, action, noise = document["observation"], document["action"], document["noise"]
    parts = observation["parts"]
    of = f": {', '.join(f'{printable(name)} {size}' for name, size in parts.items())}" if parts else ""
    last = f", the last {observation['history']} observations, the oldest first" if observation["history"] > 1 else ""
    names = f": {', '.join(map(printable, action['names']))}" if action["names"] else ""
    rate = f"\n- Period: {document['control_dt']:g} s between actions." if document["control_dt"] else ""
    return (
        f"- Observation: {observation['size']} numbers as the environment gives them, float32"
        f" ({'normalised inside' if observation['normalised_inside'] else 'not normalised'}){last}{of}.\n"
        f"- Action: {action_text(document)}{names}.\n"
        f"- Noise: {noise['mode']}: {noise['meaning']}.\n"
        f"- Sampler: {sampler_text(document)}.{rate}"
    )


def _c(document: Document) -> str:
    prefix = document["c"]["prefix"]
    macro = prefix.upper()
    given = document["noise"]["mode"] in ("input", "seeded")
    draw = f"\n    {prefix}_noise(&state, noise);" if given else ""
    declared = f"\nuint64_t state = {macro}_SEED;\nfloat noise[{macro}_ACT];" if given else ""
    return (
        "## C\n\n`policy.c` is one C99 file without allocation, state or libraries. `make test` compares it with\n"
        "flowrl's own actions and times it.\n\n"
        f'```c\n#include "policy.h"\n\nfloat obs[{macro}_OBS], action[{macro}_ACT];{declared}\n\n'
        f"for (;;) {{\n    /* ... fill obs ... */{draw}\n"
        f"    if ({prefix}_act(obs, {'noise' if given else '0'}, action)) {{\n"
        "        /* something is not finite: action keeps its numbers */\n    }\n}\n```"
    )


def _onnx(document: Document) -> str:
    fed = '{"obs": obs, "noise": noise}' if document["noise"]["mode"] == "input" else '{"obs": obs}'
    return (
        "## ONNX\n\n```python\nimport onnxruntime\n\n"
        'session = onnxruntime.InferenceSession("policy.onnx")\n'
        f"(actions,) = session.run(None, {fed})  # float32, a row for each observation\n```"
    )


def _python(document: Document) -> str:
    return (
        "## Python\n\n```python\nimport flowrl  # pip install flowrl-cli\n\n"
        'act = flowrl.load("this folder")  # imports no torch; backend="c" compiles the C file once\n'
        "action = act(obs)\n```"
    )


def _origin(document: Document) -> str:
    origin, verified = document["checkpoint"], document["verified"]
    lines = [
        f"Run {printable(origin['run'])} ({origin['file']}): {printable(origin['algorithm'])} on "
        f"{printable(document['env'])}, seed {origin['seed']}, {origin['env_steps']:,} environment steps, checkpoint "
        f"sha256 {origin['sha256']}, flowrl {printable(document['flowrl'])}."
    ]
    if origin["best_return"] is not None:
        lines.append(f"Best mean return in training: {origin['best_return']:.4g}.")
    for each in document["evaluation"] or ():
        ends = [end for end in each["return_ci95"] or () if end is not None]  # none of one episode
        interval = f" [{', '.join(f'{end:.4g}' for end in ends)}] (95 %)" if ends else ""
        plural = "" if each["episodes"] == 1 else "s"
        lines.append(
            f"Evaluated over {each['episodes']} episode{plural} ({each['noise']} noise): return "
            f"{each['return_mean']:.4g}{interval}."
        )
    if verified:
        errors = ", ".join(f"{name} {error:.2g}" for name, error in verified["max_abs_error"].items())
        lines.append(
            f"Verified on {verified['rows']} observations against the policy in float64: max error {errors}; that of "
            f"the checkpoint is {verified['checkpoint_vs_float64']:.2g}."
        )
    else:
        lines.append("Not verified.")
    return "## Origin\n\n" + "\n".join(f"- {line}" for line in lines)
