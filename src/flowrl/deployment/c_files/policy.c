#include "policy.h"

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "compile without -ffast-math: it removes what keeps NaN out of the conversions to whole numbers"
#endif

#define SILU 0
#define RELU 1
#define ELU 2
#define TANH 3

/* @numbers@ */

#define TILE 32

/* e[k] = exp(v[k]) to 2 units in the last place, with v clamped to +-87 and NaN to -87. Loops without branches, and
   clamps in loops of their own: this is the form that compilers vectorise. The coefficients are those of expf in
   Cephes (Moshier 1992). */
static inline void exp_(const float *v, float *e, int count)
{
    int k;
    for (k = 0; k < count; k++) {
        e[k] = v[k] > -87.0f ? v[k] : -87.0f;
    }
    for (k = 0; k < count; k++) {
        e[k] = e[k] < 87.0f ? e[k] : 87.0f;
    }
    for (k = 0; k < count; k++) {
        union {
            int32_t i;
            float f;
        } power;
        const int32_t i = (int32_t)(e[k] * 1.44269504f + 127.5f); /* positive, so that truncation rounds */
        const float n = (float)(i - 127);
        const float r = (e[k] - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts */
        float p = 1.9875691500e-4f;
        p = p * r + 1.3981999507e-3f;
        p = p * r + 8.3334519073e-3f;
        p = p * r + 4.1665795894e-2f;
        p = p * r + 1.6666665459e-1f;
        p = p * r + 5.0000001201e-1f;
        power.i = i * 8388608; /* 2^n */
        e[k] = ((p * r) * r + r + 1.0f) * power.f;
    }
}

/* Returns whether v is neither infinite nor NaN. */
static inline int finite_(float v)
{
    union {
        float f;
        uint32_t i;
    } bits;
    bits.f = v;
    return (bits.i & 0x7f800000u) != 0x7f800000u;
}

/* Adds 0 * s where a clamp would hide NaN. */
static inline void activate_(const float *s, float *y)
{
    int k;
#if ACTIVATION == RELU
    for (k = 0; k < TILE; k++) {
        y[k] = s[k] > 0.0f ? s[k] : 0.0f * s[k];
    }
#else
    float v[TILE], e[TILE];
    for (k = 0; k < TILE; k++) {
#if ACTIVATION == SILU
        v[k] = -s[k];
#elif ACTIVATION == TANH
        v[k] = 2.0f * s[k];
#else
        v[k] = s[k];
#endif
    }
    exp_(v, e, TILE);
    for (k = 0; k < TILE; k++) {
#if ACTIVATION == SILU
        y[k] = s[k] / (1.0f + e[k]);
#elif ACTIVATION == TANH
        y[k] = 1.0f - 2.0f / (e[k] + 1.0f) + 0.0f * s[k];
#else
        y[k] = s[k] > 0.0f ? s[k] : e[k] - 1.0f + 0.0f * s[k];
#endif
    }
#endif
}

/* y = w x + b (+ add), then the activation where `active`. The weights are tiles [outputs/TILE][inputs][TILE]; b, add
   and y have a multiple of TILE numbers. */
static inline void layer_(const float *restrict w, const float *restrict b, const float *restrict add,
                          const float *restrict x, float *restrict y, int inputs, int outputs, int active)
{
    int o, i, k;
    for (o = 0; o < outputs; o += TILE) {
        float sum[TILE];
        for (k = 0; k < TILE; k++) {
            sum[k] = b[o + k];
        }
        if (add) {
            for (k = 0; k < TILE; k++) {
                sum[k] += add[o + k];
            }
        }
        for (i = 0; i + 4 <= inputs; i += 4, w += 4 * TILE) {
            for (k = 0; k < TILE; k++) {
                sum[k] += (x[i] * w[k] + x[i + 1] * w[TILE + k]) +
                          (x[i + 2] * w[2 * TILE + k] + x[i + 3] * w[3 * TILE + k]);
            }
        }
        for (; i < inputs; i++, w += TILE) {
            for (k = 0; k < TILE; k++) {
                sum[k] += x[i] * w[k];
            }
        }
        if (active) {
            activate_(sum, y + o);
        } else {
            for (k = 0; k < TILE; k++) {
                y[o + k] = sum[k];
            }
        }
    }
}

/* ln((1 + z) / (1 - z)) = 2 (z + z^3/3 + z^5/5 + ...), for |z| <= 1/3 */
static inline float log_ratio_(float z)
{
    const float s = z * z;
    float p = 1.0f / 13.0f;
    p = p * s + 1.0f / 11.0f;
    p = p * s + 1.0f / 9.0f;
    p = p * s + 1.0f / 7.0f;
    p = p * s + 1.0f / 5.0f;
    p = p * s + 1.0f / 3.0f;
    return 2.0f * z * (p * s + 1.0f);
}

#ifdef COMPONENTS
/* v = sum_c p_c (mean_c + slope_c (x - t mean_c)), the velocity of the flow to a mixture of Gaussians, with p_c
   proportional to exp(logit_c + offset_c - |x - t mean_c|^2 precision_c / 2). `of_network` has the means, then the
   logits. */
static inline void mixture_(const float *of_network, int node, const float *x, float *v)
{
    const float *p = precision + node * COMPONENTS * ACT, *s = slope + node * COMPONENTS * ACT;
    const float *logit = of_network + COMPONENTS * ACT;
    float weight[COMPONENTS], largest, total = 0.0f;
    int c, k;
    for (c = 0; c < COMPONENTS; c++) {
        float distance = 0.0f;
        for (k = 0; k < ACT; k++) {
            const float away = x[k] - times[node] * of_network[c * ACT + k];
            distance += away * away * p[c * ACT + k];
        }
        weight[c] = logit[c] + offset[node * COMPONENTS + c] - 0.5f * distance;
    }
    largest = weight[0];
    for (c = 1; c < COMPONENTS; c++) {
        largest = weight[c] > largest ? weight[c] : largest;
    }
    for (c = 0; c < COMPONENTS; c++) {
        weight[c] -= largest;
    }
    exp_(weight, weight, COMPONENTS);
    for (c = 0; c < COMPONENTS; c++) {
        total += weight[c];
    }
    for (k = 0; k < ACT; k++) {
        v[k] = 0.0f;
    }
    for (c = 0; c < COMPONENTS; c++) {
        const float share_of_c = weight[c] / total + 0.0f * (logit[c] + largest); /* NaN and infinity stay bad */
        for (k = 0; k < ACT; k++) {
            const float mean = of_network[c * ACT + k];
            v[k] += share_of_c * (mean + s[c * ACT + k] * (x[k] - times[node] * mean));
        }
    }
}
#endif

#define HIDDEN_LAYER_(w, b, from, to, inputs, outputs) layer_(w, b, 0, from, to, inputs, outputs, 1);

int flowrl_act(const float *obs, const float *noise, float *action)
{
    float input[OBS], share[FIRST], a[WIDEST], b[WIDEST], x[OUTPUTS_PADDED], done[ACT];
    int bad = 0, k;

    (void)b; /* not used by a network with one hidden layer */
    for (k = 0; k < OBS; k++) {
        bad |= !finite_(obs[k]);
        input[k] = (obs[k] - shift[k]) * scale[k];
    }
#ifdef INPUT_LIMIT
    for (k = 0; k < OBS; k++) {
        input[k] = input[k] > -INPUT_LIMIT ? input[k] : -INPUT_LIMIT;
        input[k] = input[k] < INPUT_LIMIT ? input[k] : INPUT_LIMIT;
    }
#endif
    for (k = 0; k < ACT; k++) {
        const float drawn = noise ? noise[k] : DEFAULT_NOISE(k);
        bad |= !finite_(drawn);
        done[k] = NOISE_SCALE * drawn;
    }
#if NODES > 0
    {
        float start[ACT], velocity[MEMORY][OUTPUTS_PADDED];
        int node, age;
#ifdef COMPONENTS
        float of_network[OUTPUTS_PADDED];
#endif
        for (k = 0; k < ACT; k++) {
            x[k] = start[k] = done[k];
        }
        layer_(observation_weights, first_bias, 0, input, share, OBS, FIRST, 0);
#ifdef COMPONENTS
        for (k = 0; k < FIRST; k += TILE) {
            activate_(share + k, a + k);
        }
        HIDDEN_LAYERS(HIDDEN_LAYER_)
        layer_(last_weights, last_bias, 0, LAST_INPUT, of_network, LAST_INPUTS, OUTPUTS_PADDED, 0);
#endif
        for (node = 0; node < NODES; node++) {
            float *v = velocity[node % MEMORY];
#ifdef COMPONENTS
            mixture_(of_network, node, x, v);
#else
            layer_(point_weights, time_shares + node * FIRST, share, x, a, ACT, FIRST, 1);
            HIDDEN_LAYERS(HIDDEN_LAYER_)
            layer_(last_weights, last_bias, 0, LAST_INPUT, v, LAST_INPUTS, OUTPUTS_PADDED, 0);
#ifdef CONVERTS
            for (k = 0; k < ACT; k++) {
                v[k] = of_output[node] * v[k] + of_point[node] * x[k];
            }
#endif
#endif
            for (k = 0; k < ACT; k++) {
                x[k] = start[k];
            }
            for (age = 0; age < MEMORY && age <= node; age++) {
                const float weight = step_weights[node * MEMORY + age];
                const float *past = velocity[(node - age) % MEMORY];
                for (k = 0; k < ACT; k++) {
                    x[k] += weight * past[k];
                }
            }
            if (ends_step[node]) {
                for (k = 0; k < ACT; k++) {
                    start[k] = x[k];
                }
            }
        }
    }
#else
    layer_(observation_weights, first_bias, 0, input, share, OBS, FIRST, 0);
    for (k = 0; k < FIRST; k += TILE) {
        activate_(share + k, a + k);
    }
    HIDDEN_LAYERS(HIDDEN_LAYER_)
    layer_(last_weights, last_bias, 0, LAST_INPUT, x, LAST_INPUTS, OUTPUTS_PADDED, 0);
    for (k = 0; k < ACT; k++) {
#ifdef STATE_DEPENDENT
        const float s = spread[k] + x[ACT + k], size = s > 0.0f ? -s : s;
        float e;
        exp_(&size, &e, 1);
        x[k] += ((s > 0.0f ? s : 0.0f * s) + log_ratio_(e / (2.0f + e)) + 1e-3f) * done[k]; /* softplus */
#else
        x[k] += deviation[k] * done[k];
#endif
    }
#endif
    for (k = 0; k < ACT; k++) {
        bad |= !finite_(x[k]);
        done[k] = x[k];
    }
    if (bad) {
        return 1;
    }
#ifdef ACTION_LIMIT
    for (k = 0; k < ACT; k++) {
        done[k] = done[k] > -ACTION_LIMIT ? done[k] : -ACTION_LIMIT;
        done[k] = done[k] < ACTION_LIMIT ? done[k] : ACTION_LIMIT;
    }
#endif
#ifdef SQUASH_TANH
    {
        float e[ACT];
        for (k = 0; k < ACT; k++) {
            e[k] = 2.0f * done[k];
        }
        exp_(e, e, ACT);
        for (k = 0; k < ACT; k++) {
            done[k] = bounded[k] ? 1.0f - 2.0f / (e[k] + 1.0f) : done[k];
        }
    }
#endif
#ifdef SQUASH_CLIP
    for (k = 0; k < ACT; k++) {
        const float above = done[k] > -1.0f ? done[k] : -1.0f;
        done[k] = bounded[k] ? (above < 1.0f ? above : 1.0f) : done[k];
    }
#endif
#if defined(SQUASH_TANH) || defined(SQUASH_CLIP)
    for (k = 0; k < ACT; k++) {
        done[k] = centre[k] + half[k] * done[k];
        done[k] = done[k] > low[k] ? done[k] : low[k];
        done[k] = done[k] < high[k] ? done[k] : high[k];
    }
#endif
    for (k = 0; k < ACT; k++) {
        action[k] = done[k];
    }
    return 0;
}

/* splitmix64 (Steele, Lea & Flood 2014, doi 10.1145/2660193.2660195) */
static uint64_t next_(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Box & Muller 1958 (doi 10.1214/aoms/1177706645): two numbers from a radius sqrt(-2 ln u) and an angle 2 pi w. */
void flowrl_noise(uint64_t *state, float *noise)
{
    const float half_pi = 1.57079632679f;
    int k, newton;
    for (k = 0; k < ACT; k += 2) {
        const uint64_t word = next_(state);
        float u = (float)((word >> 40) + 1u) * (1.0f / 16777216.0f); /* (0, 1] */
        const float turns = (float)(word & 0xffffffu) * (4.0f / 16777216.0f);
        const int quarter = (int)(turns + 0.5f);
        const float t = (turns - (float)quarter) * half_pi, s = t * t; /* |t| <= pi/4 */
        const float sine = t * (1.0f - s / 6.0f * (1.0f - s / 20.0f * (1.0f - s / 42.0f * (1.0f - s / 72.0f))));
        const float cosine =
            1.0f - s / 2.0f * (1.0f - s / 12.0f * (1.0f - s / 30.0f * (1.0f - s / 56.0f * (1.0f - s / 90.0f))));
        const float c = quarter & 1 ? -sine : cosine, d = quarter & 1 ? cosine : sine;
        const float sign = quarter & 2 ? -1.0f : 1.0f;
        float ln = 0.0f, squared, radius;
        while (u < 0.70710678f) {
            u *= 2.0f;
            ln -= 0.69314718f;
        }
        squared = -2.0f * (ln + log_ratio_((u - 1.0f) / (u + 1.0f)));
        radius = squared > 1.0f ? squared : 1.0f;
        for (newton = 0; newton < 12; newton++) {
            radius = 0.5f * (radius + squared / radius);
        }
        radius = squared > 0.0f ? radius : 0.0f;
        noise[k] = sign * radius * c;
        if (k + 1 < ACT) {
            noise[k + 1] = sign * radius * d;
        }
    }
}
