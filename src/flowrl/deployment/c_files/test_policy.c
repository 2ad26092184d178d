/* Compares the policy with the actions that flowrl computed in double precision, and times it.

   Usage: test_policy [CALLS]     exits with 1 where it is not exact */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "policy.h"

/* @vectors@ */

static int fails(const char *what)
{
    printf("FAILED: %s\n", what);
    return 1;
}

/* Returns the number of mistakes in what the function promises for input that is not finite. */
static int refuses_what_is_not_finite(void)
{
    const float zero = (float)strtod("0", 0), wrong[3] = {1.0f / zero, -1.0f / zero, zero / zero};
    float obs[FLOWRL_OBS], noise[FLOWRL_ACT], action[FLOWRL_ACT];
    int i, k, kind, mistakes = 0;
    for (kind = 0; kind < 3; kind++) {
        for (i = 0; i < FLOWRL_OBS + FLOWRL_ACT; i++) {
            for (k = 0; k < FLOWRL_OBS; k++) {
                obs[k] = observations[k];
            }
            for (k = 0; k < FLOWRL_ACT; k++) {
                noise[k] = noises[k];
                action[k] = 123.0f;
            }
            if (i < FLOWRL_OBS) {
                obs[i] = wrong[kind];
            } else {
                noise[i - FLOWRL_OBS] = wrong[kind];
            }
            mistakes += flowrl_act(obs, noise, action) != 1;
            for (k = 0; k < FLOWRL_ACT; k++) {
                mistakes += !(action[k] == 123.0f);
            }
        }
    }
    return mistakes;
}

int main(int count, char **words)
{
    const long calls = count > 1 ? strtol(words[1], 0, 10) : 10000;
    float action[FLOWRL_ACT], sum = 0.0f;
    double worst = 0.0, microseconds;
    clock_t begun;
    long call;
    int row, k, bad = 0;

    for (row = 0; row < ROWS; row++) {
        bad |= flowrl_act(observations + row * FLOWRL_OBS, noises + row * FLOWRL_ACT, action);
        for (k = 0; k < FLOWRL_ACT; k++) {
            const double off = (double)action[k] - (double)actions[row * FLOWRL_ACT + k];
            if (!(off < worst && -off < worst)) {
                worst = off < 0.0 ? -off : off;
            }
        }
    }
    printf("%d actions: max |error| %.3g, allowed %.3g\n", ROWS, worst, (double)TOLERANCE);
    if (bad || !(worst <= (double)TOLERANCE)) {
        return fails("the actions are not those of the policy");
    }
    if (refuses_what_is_not_finite()) {
        return fails("input that is not finite is not reported");
    }
    begun = clock();
    for (call = 0; call < calls; call++) {
        row = (int)(call % ROWS);
        (void)flowrl_act(observations + row * FLOWRL_OBS, noises + row * FLOWRL_ACT, action);
        sum += action[0];
    }
    microseconds = 1e6 * (double)(clock() - begun) / CLOCKS_PER_SEC;
    if (calls > 0) {
        printf("%.2f us per action, mean of %ld calls (sum %g)\n", microseconds / (double)calls, calls, (double)sum);
    }
    return 0;
}
