// y[n][o] = sum_i x[n][i] w[o][i] for a few rows n: bound by reading w, which is read once. x and y are float32.
//
//   w        bfloat16, float8 (E4M3)       raised to float32, products and sums in float32
//            int8 with a scale per output,
//            int4 with a scale and an      products and sums of integers: x is rounded to 16 bits, with a scale per
//            offset per group of inputs    block of inputs (int8) or group (int4); an error of 2^-16 of the block's
//                                          largest number, a hundredth of what bfloat16 numbers have themselves
//   Two more read the keys and values of one step of attention, which are bfloat16.
//
// See matvec.py. Compiled at run time by compiled.py, by GCC or Clang.
#include <math.h>
#include <stdlib.h>

#include "threads.h"
#include "vectors.h"

#define ROWS 2           // rows of x at a time
#define SHARE (1 << 17)  // bytes of w that a thread takes at a time
#define BLOCK 256        // inputs that share a scale where w is int8; sums of integers stay below 2^31
#define AHEAD (1 << 14)  // bytes of int8 w that are asked for before their turn: the processor itself looks less far
#define EACH _Pragma("GCC unroll 4") for

// DOT(a constant number of rows, the first of them, ...): two at a time, so that their sums stay in registers; all of them
// before the next output, so that its weights stay in the cache.
#define FOR_ROWS(rows, DOT, ...)                                                                                       \
    for (int n = 0; n < rows; n += 2) {                                                                                \
        if (n + 1 < rows) DOT(2, n, __VA_ARGS__);                                                                      \
        else DOT(1, n, __VA_ARGS__);                                                                                   \
    }

static int64_t share_of(int64_t bytes) { return bytes >= SHARE ? 1 : SHARE / bytes; }

// --------------------------------------------------------------------------------------------- floating-point weights
typedef struct {
    const float *x;
    int rows;
    float *y;
    int64_t I, O;
    const char *w;
} Floating;

#define OF_BFLOAT16(v) of_bfloat16(v)
// E4M3's sign, four bits of exponent and three of fraction, moved to float16's places: 2^-8 of the number.
#define OF_FLOAT8(v) of_float16((vh)(sign_extended(v) << 7 & 0xBF80))

// Four independent sums a row, so that additions need not wait for each other.
#define FLOATING(NAME, V, TO_FLOAT, UNIT)                                                                              \
    INLINE void dot_##NAME(int rows, int first, const float *x, const char *w, int64_t I, float *y, int64_t O) {       \
        const int64_t size = sizeof(V) / W;                                                                            \
        x += first * I;                                                                                                \
        vf acc[ROWS][4] = {{{0}}};                                                                                     \
        int64_t i = 0;                                                                                                 \
        for (; i + 4 * W <= I; i += 4 * W)                                                                             \
            EACH(int u = 0; u < 4; u++) {                                                                         \
                const vf weight = TO_FLOAT(ALL(V, w + (i + u * W) * size));                                            \
                EACH(int n = 0; n < rows; n++) acc[n][u] += weight * ALL(vf, x + n * I + i + u * W);                   \
            }                                                                                                          \
        for (; i < I; i += W) {                                                                                        \
            const vf weight = TO_FLOAT(UP_TO(V, w + i * size, I - i));                                                 \
            EACH(int n = 0; n < rows; n++) acc[n][0] += weight * UP_TO(vf, x + n * I + i, I - i);                      \
        }                                                                                                              \
        EACH(int n = 0; n < rows; n++)                                                                                 \
            y[(first + n) * O] = UNIT * total((acc[n][0] + acc[n][1]) + (acc[n][2] + acc[n][3]));                      \
    }                                                                                                                  \
    static void some_##NAME(const void *call, int64_t first, int64_t last) {                                           \
        const Floating *const c = call;                                                                                \
        for (int64_t o = first; o < last; o++)                                                                         \
            FOR_ROWS(c->rows, dot_##NAME, c->x, c->w + o * c->I * (int64_t)sizeof(V) / W, c->I, c->y + o, c->O)        \
    }                                                                                                                  \
    int matvec_##NAME(const float *x, int rows, float *y, int64_t I, int64_t O, int threads, const char *w) {          \
        const Floating call = {x, rows, y, I, O, w};                                                                   \
        in_threads(some_##NAME, &call, O, share_of(I * (int64_t)sizeof(V) / W), threads);                              \
        return 0;                                                                                                      \
    }
FLOATING(bfloat16, vh, OF_BFLOAT16, 1)
FLOATING(float8, vq, OF_FLOAT8, 256)

// ---------------------------------------------------------------------------------------------------- integer weights
typedef struct {
    int16_t *codes;  // (rows, stride), zeros behind a row
    float *scale;    // (rows, blocks): x is scale * code
    float *sums;     // (rows, blocks): of x
    int64_t stride, blocks;  // blocks: a multiple of W, those behind a row zero
} Rounded;

typedef struct {
    Rounded x;
    int rows;
    float *y;
    int64_t I, O;
    const char *w, *scale, *offset;
    int64_t groups;
    int is_bfloat16;
} Integer;

// x in 16 bits; codes is NULL where there is no memory for it. What is not finite makes its block's scale NaN.
static Rounded rounded(const float *x, int rows, int64_t I, int64_t block) {
    const int64_t blocks = ((I + block - 1) / block + W - 1) / W * W, stride = (I / block + 1) * block + 2 * W;
    float *const scale = malloc(rows * (2 * blocks * sizeof(float) + stride * sizeof(int16_t)));
    if (!scale) return (Rounded){NULL, NULL, NULL, 0, 0};
    const Rounded r = {(int16_t *)(scale + 2 * rows * blocks), scale, scale + rows * blocks, stride, blocks};
    memset(r.scale, 0, rows * (2 * blocks * sizeof(float) + stride * sizeof(int16_t)));
    for (int n = 0; n < rows; n++)
        for (int64_t b = 0; b * block < I; b++) {
            const int64_t first = b * block, last = first + block < I ? first + block : I;
            float largest = 0, sum = 0, nothing = 0;
#pragma omp simd reduction(max : largest) reduction(+ : sum, nothing)
            for (int64_t i = first; i < last; i++) {
                const float value = x[n * I + i];
                largest = fabsf(value) > largest ? fabsf(value) : largest;
                sum += value;
                nothing += value * 0;
            }
            const float step = largest / 32767, per_step = nothing == 0 && step > 0 ? 1 / step : 0;
            if (per_step > 0 && per_step < INFINITY)
                for (int64_t i = first; i < last; i++)
                    r.codes[n * stride + i] = (int16_t)(int32_t)rintf(x[n * I + i] * per_step);
            scale[n * blocks + b] = step + nothing;
            r.sums[n * blocks + b] = sum;
        }
    return r;
}

static Rounded from(Rounded x, int row) {
    x.codes += row * x.stride, x.scale += row * x.blocks, x.sums += row * x.blocks;
    return x;
}

// The sum of products of a block, which may end inside a vector if it is not whole.
INLINE void block_int8(int rows, const int16_t *x, int64_t stride, const int8_t *w, int whole, int64_t count, vi *sums) {
    vi part[ROWS][2] = {{{0}}};
    for (int64_t i = 0; i < count; i += 4 * W)
        EACH(int u = 0; u < 2; u++) {
            const int64_t at = i + u * 2 * W;
            if (!whole && at >= count) break;
            __builtin_prefetch(w + at + AHEAD);
            const vs codes = of_int8(whole ? ALL(vb, w + at) : UP_TO(vb, w + at, count - at));
            EACH(int n = 0; n < rows; n++) part[n][u] = add_products(part[n][u], codes, ALL(vs, x + n * stride + at));
        }
    EACH(int n = 0; n < rows; n++) sums[n] = part[n][0] + part[n][1];
}

INLINE void dot_int8(int rows, int first_row, const Integer *c, int64_t o) {
    const Rounded x = from(c->x, first_row);
    const int8_t *const w = (const int8_t *)c->w + o * c->I;
    vf acc[ROWS] = {{0}};
    for (int64_t first = 0, b = 0; first < c->I; first += BLOCK, b++) {
        vi part[ROWS];
        if (first + BLOCK <= c->I)
            block_int8(rows, x.codes + first, x.stride, w + first, 1, BLOCK, part);
        else
            block_int8(rows, x.codes + first, x.stride, w + first, 0, c->I - first, part);
        EACH(int n = 0; n < rows; n++) acc[n] += of_int32(part[n]) * x.scale[n * x.blocks + b];
    }
    EACH(int n = 0; n < rows; n++) c->y[(first_row + n) * c->O + o] = total(acc[n]) * ((const float *)c->scale)[o];
}

static void some_int8(const void *call, int64_t first, int64_t last) {
    const Integer *const c = call;
    for (int64_t o = first; o < last; o++) FOR_ROWS(c->rows, dot_int8, c, o)
}

// Weights are scale * code. Not 0: no memory.
int matvec_int8(const float *x, int rows, float *y, int64_t I, int64_t O, int threads, const char *w, const char *scale) {
    const Integer call = {rounded(x, rows, I, BLOCK), rows, y, I, O, w, scale, NULL, 0, 0};
    if (!call.x.codes) return 1;
    in_threads(some_int8, &call, O, share_of(I), threads);
    free(call.x.scale);
    return 0;
}

// W scales or offsets, or the last count of them; float32 or bfloat16. Those of the next output meet zeros.
INLINE vf numbers(const char *p, int is_bfloat16, int64_t at, int64_t count) {
    return is_bfloat16 ? of_bfloat16(UP_TO(vh, p + 2 * at, count)) : UP_TO(vf, p + 4 * at, count);
}

// The sum of products of a group with its codes, 2 W bytes at a time (a group of 32 inputs may have fewer).
INLINE void group_int4(int rows, int G, const int16_t *x, int64_t stride, const uint8_t *w, vi *sums) {
    const int half = G / 2;
    vi low[ROWS] = {{0}}, high[ROWS] = {{0}};
    for (int j = 0; j < half; j += 2 * W) {
        const vs bytes = of_uint8(UP_TO(vub, w + j, half - j));
        EACH(int n = 0; n < rows; n++) {
            low[n] = add_products(low[n], bytes & 15, ALL(vs, x + n * stride + j));
            high[n] = add_products(high[n], bytes >> 4, ALL(vs, x + n * stride + half + j));
        }
    }
    EACH(int n = 0; n < rows; n++) sums[n] = low[n] + high[n];
}

INLINE void dot_int4_of(int rows, int first, const Integer *c, int64_t o, int G) {
    const Rounded x = from(c->x, first);
    const uint8_t *const w = (const uint8_t *)c->w + o * c->I / 2;
    vf acc[ROWS] = {{0}}, rest[ROWS] = {{0}};
    for (int64_t some = 0; some < x.blocks; some += W) {
        const int64_t at = o * c->groups + some, left = c->O * c->groups - at;
        const vf s = numbers(c->scale, c->is_bfloat16, at, left), offset = numbers(c->offset, c->is_bfloat16, at, left);
        vf both[ROWS];
        EACH(int n = 0; n < rows; n++) {
            both[n] = s * ALL(vf, x.scale + n * x.blocks + some);
            rest[n] += offset * ALL(vf, x.sums + n * x.blocks + some);
        }
        for (int64_t k = 0; k < W && some + k < c->groups; k++) {
            vi part[ROWS];
            group_int4(rows, G, x.codes + (some + k) * G, x.stride, w + (some + k) * (G / 2), part);
            EACH(int n = 0; n < rows; n++) acc[n] += of_int32(part[n]) * both[n][k];
        }
    }
    EACH(int n = 0; n < rows; n++) c->y[(first + n) * c->O + o] = total(acc[n] + rest[n]);
}
// A constant size of the groups makes it twice as fast.
INLINE void dot_int4(int rows, int first, const Integer *c, int64_t o) {
    const int64_t G = c->I / c->groups;
    if (G == 128) dot_int4_of(rows, first, c, o, 128);
    else if (G == 64) dot_int4_of(rows, first, c, o, 64);
    else dot_int4_of(rows, first, c, o, G);
}

static void some_int4(const void *call, int64_t first, int64_t last) {
    const Integer *const c = call;
    for (int64_t o = first; o < last; o++) FOR_ROWS(c->rows, dot_int4, c, o)
}

// w: (O, I / 2). In each group of inputs, byte j holds input j in its low and input j + half a group in its high four bits.
// Weights are scale * code + offset. Not 0: no memory.
int matvec_int4(const float *x, int rows, float *y, int64_t I, int64_t O, int threads, const char *w, const char *scale,
                const char *offset, int64_t groups, int is_bfloat16) {
    const Integer call = {rounded(x, rows, I, I / groups), rows, y, I, O, w, scale, offset, groups, is_bfloat16};
    if (!call.x.codes) return 1;
    in_threads(some_int4, &call, O, share_of(I / 2), threads);
    free(call.x.scale);
    return 0;
}

// -------------------------------------------------------------------------------------------- one step of attention
// Rows r of queries or weights belong to the tokens of one head of one sequence, whose d numbers are neighbours.
typedef struct {
    const float *x;  // queries (heads, rows, d), or weights (heads, rows, tokens)
    int rows;
    float *y;  // scores (heads, rows, tokens), or values (heads, rows, d)
    int64_t d, tokens, heads, sequence, head, token;  // strides of w in numbers
    const uint16_t *w;
} Attended;

static const uint16_t *tokens_of(const Attended *c, int64_t at) {
    return c->w + at / c->heads * c->sequence + at % c->heads * c->head;
}

static void some_scores(const void *call, int64_t first, int64_t last) {
    const Attended *const c = call;
    for (int64_t at = first; at < last; at++) {
        const uint16_t *const keys = tokens_of(c, at);
        const float *const x = c->x + at * c->rows * c->d;
        float *const y = c->y + at * c->rows * c->tokens;
        for (int64_t t = 0; t < c->tokens; t++)
            FOR_ROWS(c->rows, dot_bfloat16, x, (const char *)(keys + t * c->token), c->d, y + t, c->tokens)
    }
}

INLINE void weighted(int rows, int first, const Attended *c, int64_t at) {
    const uint16_t *const values = tokens_of(c, at);
    const float *const x = c->x + (at * c->rows + first) * c->tokens;
    float *const y = c->y + (at * c->rows + first) * c->d;
    for (int64_t i = 0; i < c->d; i += 4 * W) {
        vf acc[ROWS][4] = {{{0}}};
        for (int64_t t = 0; t < c->tokens; t++)
            EACH(int u = 0; u < 4; u++) {
                if (i + u * W >= c->d) break;
                const vf value = of_bfloat16(ALL(vh, values + t * c->token + i + u * W));
                EACH(int n = 0; n < rows; n++) acc[n][u] += value * x[n * c->tokens + t];
            }
        for (int u = 0; u < 4 && i + u * W < c->d; u++)
            for (int n = 0; n < rows; n++) memcpy(y + n * c->d + i + u * W, &acc[n][u], sizeof(vf));
    }
}

static void some_values(const void *call, int64_t first, int64_t last) {
    const Attended *const c = call;
    for (int64_t at = first; at < last; at++) FOR_ROWS(c->rows, weighted, c, at)
}

// d is a multiple of 16.
void attention_scores(const float *x, int rows, float *y, int64_t d, int64_t tokens, int64_t sequences, int64_t heads,
                      const uint16_t *keys, int64_t sequence, int64_t head, int64_t token, int threads) {
    const Attended call = {x, rows, y, d, tokens, heads, sequence, head, token, keys};
    in_threads(some_scores, &call, sequences * heads, 1, threads);
}
void attention_values(const float *x, int rows, float *y, int64_t d, int64_t tokens, int64_t sequences, int64_t heads,
                      const uint16_t *values, int64_t sequence, int64_t head, int64_t token, int threads) {
    const Attended call = {x, rows, y, d, tokens, heads, sequence, head, token, values};
    in_threads(some_values, &call, sequences * heads, 1, threads);
}
