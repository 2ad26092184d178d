#ifndef FLOWRL_POLICY_H
#define FLOWRL_POLICY_H

#include <stdint.h>

/* @sizes@ */

#ifdef __cplusplus
extern "C" {
#endif

/* Computes the action for an observation. `obs` has FLOWRL_OBS numbers as the environment gives them (the normaliser is
   inside), `action` gets FLOWRL_ACT. `noise` has FLOWRL_ACT numbers from N(0, 1), drawn for each action; a null
   pointer stands for FLOWRL_NOISE_DEFAULT.

   Returns 0; or 1, without a change of `action`, where the observation, the noise or the result is not finite: hold the
   last action then, or let the robot go limp.

   It allocates nothing, needs no mathematical library and keeps no state, so that threads may call it at once. */
int flowrl_act(const float *obs, const float *noise, float *action);

/* Draws FLOWRL_ACT numbers from N(0, 1) and moves on `*state`, whose first value is the seed, such as FLOWRL_SEED. */
void flowrl_noise(uint64_t *state, float *noise);

#ifdef __cplusplus
}
#endif

#endif
