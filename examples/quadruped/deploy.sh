#!/bin/sh
# From a recipe to a program in C that walks: train, fit a sampler, compare the choices, export, compile, walk.
#
#     sh examples/quadruped/deploy.sh [RUN] [OUT]
#
# Start it from the folder above examples/. RUN is trained first unless it is there (a quarter of an hour on a free
# core). OUT gets the export, the comparison and the program. It needs a C compiler.
set -eu
here=examples/quadruped
run=${1:-runs/quadruped-deploy}
out=${2:-runs/quadruped-deployed}
mkdir -p "$out"

[ -f "$run/ckpt.pt" ] || flowrl train "$here/quadruped_fpo.yaml" --out "$(dirname "$run")" --name "$(basename "$run")"

# A controller without noise is repeatable (control_loop.c passes none), so the choices are compared without noise, in
# pairs with the training's. Where none of them is certain to keep its return, the sampler of the training acts.
flowrl fit-sampler "$run" --nfe 2 --import "$here/quadruped.py" -o "$out/fitted-2.yaml"
flowrl eval "$run" --import "$here/quadruped.py" --sweep --noise zero \
    --sampler "${SAMPLERS:-euler:1,euler:2},$out/fitted-2.yaml" --episodes "${EPISODES:-128}" --out "$out"
chosen=$(python -c 'import json, sys
found = json.load(open(sys.argv[1]))
without = [row for row in found["rows"] if row["noise"] == "zero"]  # the first row has the noise of the training
proposed = found["rows"][found["proposal"]["row"]]
print((proposed if proposed in without else without[0])["option"] or "")' "$out/sampler-sweep.json")

flowrl export "$run" ${chosen:+--sampler "$chosen"} --noise zero --format c -o "$out"
make -C "$out" test

mujoco=$(python -c 'import mujoco; print(mujoco.__path__[0])')
cc -O3 -march=native -ffp-contract=fast -I"$mujoco/include" -I"$out" "$here/control_loop.c" "$out/policy.c" \
    "$mujoco"/libmujoco.so.* -Wl,-rpath,"$mujoco" -lm -o "$out/control_loop"
"$out/control_loop" "$here/quadruped.xml" 0.6 0 0 10 | tee "$out/walked.txt"

# 0.6 m/s for 10 s: it walks if it gets half as far and still stands.
awk '{ walks = $4 > 3.0 && $10 > 0.2 } END { exit !walks }' "$out/walked.txt" || {
    echo "it does not walk: train it longer, or look at it: flowrl play $run --import $here/quadruped.py" >&2
    exit 1
}
