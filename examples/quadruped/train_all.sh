#!/bin/sh
# Train every recipe with three seeds, one after another, and measure all of them: about an hour on two free cores.
# Start it from the folder above examples/. What has finished is not trained again.
set -eu
here=examples/quadruped
for algorithm in ppo fpo fpopp; do
    for seed in 0 1 2; do
        run=runs/quadruped_$algorithm-seed$seed
        if [ -d "$run" ]; then
            flowrl train --resume "$run" || [ $? -eq 2 ]  # 2: it has finished
        else
            flowrl train "$here/quadruped_$algorithm.yaml" --seed "$seed" --name "quadruped_$algorithm-seed$seed"
        fi
    done
done
python "$here/measure.py" runs/quadruped_*-seed? --out "$here/measured.json"
flowrl play runs/quadruped_fpo-seed0 --video docs/figures/quadruped.webp --max-steps 500
