/* A control loop for the quadruped in C: MuJoCo and the exported policy, nothing else.

   flowrl export runs/quadruped_fpo-seed0 -o quadruped
   M=$(python -c 'import mujoco; print(mujoco.__path__[0])')
   cc -O3 -march=native -ffp-contract=fast -I"$M/include" -Iquadruped examples/quadruped/control_loop.c quadruped/policy.c \
      "$M"/libmujoco.so.* -Wl,-rpath,"$M" -lm -o control_loop
   ./control_loop examples/quadruped/quadruped.xml 0.6 0 0 10

   On a robot `observe` reads the sensors, and the targets go to the servos. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <mujoco/mujoco.h>

#include "policy.h"

#define JOINTS 12
#define SUBSTEPS 4     /* of 5 ms */
#define PERIOD 0.02    /* s between actions */
#define STRIDE 0.4     /* s, that of quadruped.py */

/* Turns a vector from the world's frame into that of the trunk, whose quaternion is q. */
static void in_trunk(const double *q, const double *vector, float *turned)
{
    const double axis[3] = {-q[1], -q[2], -q[3]};
    double inner[3], outer[3];
    int i;
    mju_cross(inner, axis, vector);
    for (i = 0; i < 3; i++) {
        inner[i] += q[0] * vector[i];
    }
    mju_cross(outer, axis, inner);
    for (i = 0; i < 3; i++) {
        turned[i] = (float)(vector[i] + 2.0 * outer[i]);
    }
}

/* Writes the observation in the order of quadruped.py. */
static void observe(const mjData *d, const double *home, const float *sent, const double *command, int step, float *obs)
{
    const double down[3] = {0.0, 0.0, -1.0}, phase = step * 2.0 * mjPI * PERIOD / STRIDE;
    const int walking = command[0] != 0.0 || command[1] != 0.0 || command[2] != 0.0;
    int i;
    in_trunk(d->qpos + 3, d->qvel, obs);
    in_trunk(d->qpos + 3, down, obs + 6);
    for (i = 0; i < 3; i++) {
        obs[3 + i] = (float)d->qvel[3 + i];
        obs[47 + i] = (float)command[i];
    }
    for (i = 0; i < JOINTS; i++) {
        obs[9 + i] = (float)(d->qpos[7 + i] - home[i]);
        obs[21 + i] = (float)d->qvel[6 + i];
        obs[33 + i] = (float)((double)sent[i] - home[i]);
    }
    obs[45] = walking ? (float)sin(phase) : 0.0f;
    obs[46] = walking ? (float)cos(phase) : 0.0f;
}

int main(int count, char **words)
{
    char reason[1000] = "";
    mjModel *m;
    mjData *d;
    double command[3];
    float obs[FLOWRL_OBS], target[FLOWRL_ACT];
    int i, step, held = 0, steps;

    if (count != 6 || FLOWRL_ACT != JOINTS || FLOWRL_OBS != 50) {
        fprintf(stderr, "usage: %s quadruped.xml FORWARD SIDEWAYS TURNING SECONDS\n", words[0]);
        return 2;
    }
    m = mj_loadXML(words[1], 0, reason, (int)sizeof reason);
    if (!m) {
        fprintf(stderr, "%s: %s\n", words[1], reason);
        return 2;
    }
    for (i = 0; i < 3; i++) {
        command[i] = atof(words[2 + i]);
    }
    steps = (int)(atof(words[5]) / PERIOD + 0.5);
    d = mj_makeData(m);
    mj_resetDataKeyframe(m, d, mj_name2id(m, mjOBJ_KEY, "stand"));
    for (i = 0; i < JOINTS; i++) {
        target[i] = (float)d->ctrl[i];
    }
    for (step = 0; step < steps; step++) {
        observe(d, m->key_qpos + 7, target, command, step, obs);
        held += flowrl_act(obs, 0, target); /* without noise; where it returns 1, the last target stays */
        for (i = 0; i < JOINTS; i++) {
            d->ctrl[i] = (double)target[i];
        }
        for (i = 0; i < SUBSTEPS; i++) {
            mj_step(m, d);
        }
    }
    printf("%g s: x %.6f m, y %.6f m, height %.6f m, %d held\n", steps * PERIOD, d->qpos[0], d->qpos[1], d->qpos[2], held);
    mj_deleteData(d);
    mj_deleteModel(m);
    return 0;
}
