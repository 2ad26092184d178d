"""Write a motion of the humanoid in the formats of other projects: an importer must return the same motion."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from flowrl.envs.humanoid import model as humanoid
from flowrl.envs.humanoid.model import BODIES, CONTROL_RATE
from flowrl.envs.humanoid.motions import quaternions
from flowrl.envs.humanoid.motions.motion import Motion
from flowrl.envs.humanoid.motions.quaternions import Array, axis_rotation, inverse, multiply, rotate

PLACES = {name: humanoid.MODEL.body(name).pos for name in BODIES}
PARENTS = {name: None if parent == "world" else parent for name, parent in humanoid.PARENTS.items()}


def turns(motion: Motion) -> dict[str, Array]:
    """The rotation (frames, 4) of every segment against the world."""
    model = humanoid.build()
    data = mujoco.MjData(model)
    found = np.empty((len(motion.qpos), len(BODIES), 4))
    for frame, pose in enumerate(motion.qpos):
        data.qpos[:] = pose
        mujoco.mj_kinematics(model, data)
        found[frame] = data.xquat[1:]
    return {name: found[:, number] for number, name in enumerate(BODIES)}


# ---------------------------------------------------------------------------------------------------- DeepMimic


def deepmimic(motion: Motion) -> bytes:
    """JSON of 44 numbers a frame, y up, z to the right, knees and elbows as angles against the humanoid's y axis."""
    world = turns(motion)
    x, y, z = motion.qpos[:, :3].T
    seconds = np.full((len(motion.qpos), 1), 1 / CONTROL_RATE)
    columns = [seconds, np.stack([x, z, -y], axis=-1), _y_up(world["pelvis"])]
    for joint in (
        *("chest", "head", "right_thigh", "right_shin", "right_foot", "right_upper_arm", "right_forearm"),
        *("left_thigh", "left_shin", "left_foot", "left_upper_arm", "left_forearm"),
    ):
        local = multiply(inverse(world[str(PARENTS[joint])]), world[joint])
        if joint.endswith(("shin", "forearm")):
            columns.append(-quaternions.to_vector(local)[:, 1:2])
        else:
            columns.append(_y_up(local))
    document = {"Loop": "wrap" if motion.loops else "none", "Frames": np.concatenate(columns, axis=1).tolist()}
    return json.dumps(document).encode()


def _y_up(rotation: Array) -> Array:
    w, x, y, z = rotation.T
    return np.stack([w, x, z, -y], axis=-1)


# --------------------------------------------------------------------------------------------------------- SMPL

SMPL = (
    *("pelvis", "left_thigh", "right_thigh", None, "left_shin", "right_shin", None, "left_foot", "right_foot"),
    *("chest", None, None, None, None, None, "head", "left_upper_arm", "right_upper_arm", "left_forearm"),
    *("right_forearm", None, None),
)
"""The humanoid's segments in the order of SMPL's 22 joints; the other joints do not turn."""


def smpl(motion: Motion) -> Array:
    """Rotation vectors (frames, 66) of SMPL's joints, whose rest pose is a T with x to the left and y up."""
    world = turns(motion)
    ours = np.array([0.5, -0.5, -0.5, -0.5])  # our x, y, z are SMPL's z, x, y
    rest = {
        name: multiply(ours, axis_rotation("x", {"l": np.pi / 2, "r": -np.pi / 2}[name[0]])) if "arm" in name else ours
        for name in BODIES
    }
    vectors = []
    for name in SMPL:
        if name is None:
            vectors.append(np.zeros((len(motion.qpos), 3)))
            continue
        turned = multiply(world[name], inverse(rest[name]))
        parent = PARENTS[name]
        if parent is not None:
            turned = multiply(inverse(multiply(world[parent], inverse(rest[parent]))), turned)
        vectors.append(quaternions.to_vector(turned))
    return np.concatenate(vectors, axis=1)


def phc(motions: Mapping[str, Motion]) -> dict[str, dict[str, Any]]:
    """What PHC pickles."""
    return {
        name: {
            "root_trans_offset": motion.qpos[:, :3],
            "pose_aa": np.pad(smpl(motion), ((0, 0), (0, 6))),
            "gender": "neutral",
            "fps": CONTROL_RATE,
        }
        for name, motion in motions.items()
    }


def amass(motion: Motion) -> dict[str, Any]:
    """What AMASS saves for an SMPL-H body."""
    return {
        "trans": motion.qpos[:, :3],
        "poses": np.pad(smpl(motion), ((0, 0), (0, 156 - 66))),
        "mocap_framerate": np.array(float(CONTROL_RATE)),
        "gender": np.array("female"),
        "betas": np.zeros(16),
    }


class _Wrapper:
    """Replaces joblib's NumpyArrayWrapper in a pickle."""


_Wrapper.__module__, _Wrapper.__qualname__ = "joblib.numpy_pickle", "NumpyArrayWrapper"


class Joblib(pickle._Pickler):
    """Writes arrays as joblib does: a description, the length of a padding, the padding, the bytes."""

    def __init__(self, file: BytesIO, protocol: int) -> None:
        super().__init__(file, protocol=protocol)
        self._file_write = file.write

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj is _Wrapper:
            self.write(b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n")
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch = pickle._Pickler.dispatch | {type: save_global}

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if not isinstance(obj, np.ndarray):
            super().save(obj, save_persistent_id)
            return
        wrapper = _Wrapper()
        wrapper.__dict__ |= {
            "subclass": np.ndarray,
            "shape": obj.shape,
            "order": "C",
            "dtype": obj.dtype,
            "allow_mmap": True,
            "numpy_array_alignment_bytes": 16,
        }
        super().save(wrapper, save_persistent_id)
        self.framer.commit_frame(force=True)
        self._file_write(b"\x03\xff\xff\xff" + obj.tobytes())


def joblib(document: Any, protocol: int = 3) -> bytes:
    """A joblib file, uncompressed."""
    file = BytesIO()
    Joblib(file, protocol).dump(document)
    return file.getvalue()


# ---------------------------------------------------------------------------------------------------------- BVH

CMU = {
    "pelvis": "Hips",
    "chest": "Spine",
    "neck": "Neck",
    "head": "Head",
    **{f"{side}_upper_arm": f"{side.title()}Arm" for side in ("right", "left")},
    **{f"{side}_forearm": f"{side.title()}ForeArm" for side in ("right", "left")},
    **{f"{side}_hand": f"{side.title()}Hand" for side in ("right", "left")},
    **{f"{side}_thigh": f"{side.title()}UpLeg" for side in ("right", "left")},
    **{f"{side}_shin": f"{side.title()}Leg" for side in ("right", "left")},
    **{f"{side}_foot": f"{side.title()}Foot" for side in ("right", "left")},
    **{f"{side}_toes": f"{side.title()}ToeBase" for side in ("right", "left")},
}
T_POSE = {
    **{f"{side}_{part}": axis_rotation("x", up * np.pi / 2) for side, up in (("right", -1), ("left", 1))
       for part in ("upper_arm", "forearm", "hand")},
}  # fmt: skip
"""The rotations of the humanoid's segments in the file's rest pose, where there are any."""

BONES_ALONG_X = {
    name: axis_rotation("y", -np.pi / 2 if name in ("pelvis", "chest", "neck", "head") else np.pi / 2) for name in CMU
}
"""As in LAFAN1: a joint's x axis along its bone, whatever the rest pose is then."""


UP = {"y": [0.5, 0.5, 0.5, 0.5], "z": [1.0, 0.0, 0.0, 0.0]}
"""By the file's axis that points up: the rotation of its axes to the humanoid's."""


def bvh(motion: Motion, rest: Mapping[str, Array], unit: float = 100.0, prefix: str = "", up: str = "y") -> bytes:
    """A BVH file in 1/`unit` m, whose joints' axes are our segments' turned by `rest`'s inverses."""
    world = turns(motion)
    chain = [name for name in PARENTS if name is not None]
    chain.insert(chain.index("head"), "neck")
    for side in ("right", "left"):
        chain.insert(chain.index(f"{side}_foot") + 1, f"{side}_toes")
    parents: dict[str, str | None] = PARENTS | {"neck": "chest", "head": "neck"}
    parents |= {f"{side}_toes": f"{side}_foot" for side in ("right", "left")}
    places = PLACES | {"neck": PLACES["head"], "head": np.array([0, 0, 0.05])}
    places |= {f"{side}_toes": np.array([0.12, 0, -0.04]) for side in ("right", "left")}
    world = world | {"neck": world["chest"]}
    world |= {f"{side}_toes": world[f"{side}_foot"] for side in ("right", "left")}

    to_file = inverse(UP[up])
    own = {name: rest.get(name, np.array([1.0, 0, 0, 0])) for name in chain}
    # In the rest pose every joint's axes are the file's: a segment is turned from ours by to_file · own.
    turned = {name: multiply(to_file, world[name], inverse(multiply(to_file, own[name]))) for name in chain}
    order = {"pelvis": "ZYX"}
    text = StringIO()
    text.write("HIERARCHY\n")
    columns = [rotate(to_file, motion.qpos[:, :3]) * unit]

    def write(name: str, depth: int) -> None:
        parent = parents[name]
        offset = np.zeros(3) if parent is None else rotate(multiply(to_file, own[parent]), places[name]) * unit
        axes = order.get(name, "XYZ" if depth % 2 else "ZYX")
        local = turned[name] if parent is None else multiply(inverse(turned[parent]), turned[name])
        columns.append(np.degrees(_channels(local, axes)))
        place = "Xposition Yposition Zposition " if parent is None else ""
        channels = f"{place}{' '.join(f'{axis}rotation' for axis in axes)}"
        text.write(f"{'ROOT' if parent is None else 'JOINT'} {prefix}{CMU[name]}\n{{\n")
        text.write(f"OFFSET {' '.join(f'{number:.9f}' for number in offset)}\n")
        text.write(f"CHANNELS {len(channels.split())} {channels}\n")
        children = [child for child in chain if parents[child] == name]
        for child in children:
            write(child, depth + 1)
        if not children:
            text.write("End Site\n{\nOFFSET 0 0 1\n}\n")
        text.write("}\n")

    write("pelvis", 0)
    text.write(f"MOTION\nFrames: {len(motion.qpos)}\nFrame Time: {1 / CONTROL_RATE:.12f}\n")
    np.savetxt(text, np.concatenate(columns, axis=1), fmt="%.9f")
    return text.getvalue().encode()


def _channels(local: Array, axes: str) -> Array:
    """The angles (frames, 3) of turns about `axes` in series: XYZ, or ZYX, which is XYZ of the inverse, backwards."""
    if axes == "XYZ":
        return quaternions.to_euler(local)
    return -quaternions.to_euler(inverse(local))[:, ::-1]


def written(data: bytes, path: Path) -> Path:
    """`path`, with `data` in it."""
    path.write_bytes(data)
    return path
