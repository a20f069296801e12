// The selective scan and its gradient for a range of channels of one row; see ssm_scan.py for the mathematics.
// Compiled at run time by ssm_scan_cpu.py. Plain C with vector extensions (GCC, Clang); no headers beyond the
// standard ones and no threads: the caller runs disjoint channel ranges in its own threads.
// Layouts, all contiguous: u, dt, y (L, E); A, state (N, E); B, C (L, N); D (E).
// NOTE: not -ffast-math: `expv` rounds by adding and subtracting a large constant.
#include <stdint.h>
#include <string.h>

// Channels at a time: one register. Wider vectors than the processor's own are compiled to slow code.
#if defined(__AVX512F__)
#define W 16
#elif defined(__AVX__)
#define W 8
#else
#define W 4
#endif
#define MAX_STATE 256
typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));

static inline vf pick(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

// exp to 2 units in the last place for x in [-87, 88]; smaller x give exp(-87), i.e. 0 for our purposes.
static inline vf expv(vf x) {
    const float round = 12582912.0f; // 1.5 * 2^23: adding it leaves the nearest integer in the mantissa's low bits
    const vf low = (vf){} - 87.0f, high = (vf){} + 88.0f;
    x = pick(x < low, low, pick(x > high, high, x));
    vf k = x * 1.44269504f + round;
    vi power = ((vi)k - 0x4B400000 + 127) << 23; // 2^k as a float's bits
    k = k - round;
    vf r = x - k * 0.693359375f; // ln 2 in two parts, so that r keeps its low bits
    r = r + k * 2.12194440e-4f;
    vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return (p * r * r + r + 1.0f) * (vf)power;
}

// `width` channels (at most W); the lanes beyond are zeros.
static inline vf load(const float *p, int width) {
    vf x = {};
    if (width == W) memcpy(&x, p, sizeof x);
    else memcpy(&x, p, 4 * width);
    return x;
}

static inline void store(float *p, vf x, int width) {
    if (width == W) memcpy(p, &x, sizeof x);
    else memcpy(p, &x, 4 * width);
}

static inline float sum(vf x) {
    float s = 0;
    for (int i = 0; i < W; i++) s += x[i];
    return s;
}

static inline int least(int a, int b) { return a < b ? a : b; }

// Channels e0 .. e1. `kept`, unless null, receives the state before every block of `block` steps: (blocks, N, E)
// with `kept_stride` floats between blocks.
void scan_forward(const float *u, const float *dt, const float *A, const float *B, const float *C, const float *D,
                  float *state, float *y, float *kept, int64_t kept_stride, int L, int E, int N, int block, int e0,
                  int e1) {
    for (int e = e0; e < e1; e += W) {
        const int width = least(W, e1 - e);
        vf a[MAX_STATE], s[MAX_STATE];
        for (int n = 0; n < N; n++) {
            a[n] = load(A + (int64_t)n * E + e, width);
            s[n] = load(state + (int64_t)n * E + e, width);
        }
        const vf d = load(D + e, width);
        for (int t = 0; t < L; t++) {
            if (kept && t % block == 0)
                for (int n = 0; n < N; n++) store(kept + t / block * kept_stride + (int64_t)n * E + e, s[n], width);
            const vf step = load(dt + (int64_t)t * E + e, width), x = load(u + (int64_t)t * E + e, width);
            const vf input = step * x;
            const float *b = B + (int64_t)t * N, *c = C + (int64_t)t * N;
            vf out = d * x;
            for (int n = 0; n < N; n++) {
                s[n] = expv(step * a[n]) * s[n] + input * b[n];
                out += s[n] * c[n];
            }
            store(y + (int64_t)t * E + e, out, width);
        }
        for (int n = 0; n < N; n++) store(state + (int64_t)n * E + e, s[n], width);
    }
}

// Gradients of channels e0 .. e1. grad_state holds the gradient of the last state and becomes that of the first.
// grad_A and grad_D are written; grad_B and grad_C, (L, N), are added to (the caller sums over channel ranges).
void scan_backward(const float *u, const float *dt, const float *A, const float *B, const float *C, const float *D,
                   const float *kept, int64_t kept_stride, const float *grad_y, float *grad_u, float *grad_dt,
                   float *grad_A, float *grad_B, float *grad_C, float *grad_D, float *grad_state, int L, int E, int N,
                   int block, int e0, int e1, vf *work) {
    vf *states = work, *decays = work + (int64_t)(block + 1) * N; // (block + 1, N), (block, N): states[0] is before
    for (int e = e0; e < e1; e += W) {
        const int width = least(W, e1 - e);
        vf a[MAX_STATE], g[MAX_STATE], ga[MAX_STATE];
        for (int n = 0; n < N; n++) {
            a[n] = load(A + (int64_t)n * E + e, width);
            g[n] = load(grad_state + (int64_t)n * E + e, width);
            ga[n] = (vf){};
        }
        const vf d = load(D + e, width);
        vf gd = {};
        for (int i = (L - 1) / block; i >= 0; i--) {
            const int start = i * block, steps = least(block, L - start);
            for (int n = 0; n < N; n++) states[n] = load(kept + i * kept_stride + (int64_t)n * E + e, width);
            for (int t = 0; t < steps; t++) {
                const int64_t at = (int64_t)(start + t) * E + e;
                const vf step = load(dt + at, width), input = step * load(u + at, width);
                const float *b = B + (int64_t)(start + t) * N;
                for (int n = 0; n < N; n++) {
                    decays[t * N + n] = expv(step * a[n]);
                    states[(t + 1) * N + n] = decays[t * N + n] * states[t * N + n] + input * b[n];
                }
            }
            for (int t = steps - 1; t >= 0; t--) {
                const int64_t at = (int64_t)(start + t) * E + e;
                const vf step = load(dt + at, width), x = load(u + at, width), gy = load(grad_y + at, width);
                const vf input = step * x;
                const int64_t row = (int64_t)(start + t) * N;
                vf g_input = {}, g_step = {};
                for (int n = 0; n < N; n++) {
                    g[n] += gy * C[row + n];
                    grad_C[row + n] += sum(gy * states[(t + 1) * N + n]);
                    grad_B[row + n] += sum(g[n] * input);
                    g_input += g[n] * B[row + n];
                    g[n] *= decays[t * N + n]; // now the gradient of the state before step t
                    const vf g_exponent = g[n] * states[t * N + n];
                    g_step += g_exponent * a[n];
                    ga[n] += g_exponent * step;
                }
                store(grad_u + at, step * g_input + d * gy, width);
                store(grad_dt + at, g_step + x * g_input, width);
                gd += gy * x;
            }
        }
        for (int n = 0; n < N; n++) {
            store(grad_A + (int64_t)n * E + e, ga[n], width);
            store(grad_state + (int64_t)n * E + e, g[n], width);
        }
        store(grad_D + e, gd, width);
    }
}
