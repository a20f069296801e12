// y[n][o] = sum_i x[n][i] w[o][i] for a few rows n and a range of outputs o: bound by reading w, which is read once.
// Weights are bfloat16, int8 with a scale per output, or int4 with a scale and an offset per group of inputs; x and the
// sums are float32. See matvec.py. Compiled at run time by compiled.py. Plain C with vector extensions (GCC, Clang); no
// threads: the caller runs disjoint ranges of outputs in its own.
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define W 16
#elif defined(__AVX__)
#define W 8
#else
#define W 4
#endif
#define UNROLL 4      // independent sums, so that additions need not wait for each other
#define ROWS 4        // rows of x at a time
#define STEP (W * UNROLL)

typedef float vf __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef uint16_t vh __attribute__((vector_size(2 * W)));
typedef int8_t vb __attribute__((vector_size(W)));
typedef uint8_t vub __attribute__((vector_size(W)));

static inline vf load_float(const float *p) { vf v; memcpy(&v, p, sizeof v); return v; }
static inline vf load_bfloat16(const uint16_t *p) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16);
#endif
    vh v;
    memcpy(&v, p, sizeof v);
    return (vf)(__builtin_convertvector(v, vu) << 16);
}
// Bytes to floats: compilers make slow code of __builtin_convertvector here.
#if defined(__AVX512F__)
static inline vf load_int8(const int8_t *p) {
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline void load_int4(const uint8_t *p, vf *low, vf *high) {
    const __m512i codes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    *low = (vf)_mm512_cvtepi32_ps(_mm512_and_si512(codes, _mm512_set1_epi32(15)));
    *high = (vf)_mm512_cvtepi32_ps(_mm512_srli_epi32(codes, 4));
}
#elif defined(__AVX2__)
static inline vf load_int8(const int8_t *p) {
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline void load_int4(const uint8_t *p, vf *low, vf *high) {
    const __m256i codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    *low = (vf)_mm256_cvtepi32_ps(_mm256_and_si256(codes, _mm256_set1_epi32(15)));
    *high = (vf)_mm256_cvtepi32_ps(_mm256_srli_epi32(codes, 4));
}
#elif defined(__ARM_NEON) && W == 4
static inline vf load_int8(const int8_t *p) {
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    return (vf)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vcreate_s8((uint32_t)bits)))));
}
static inline void load_int4(const uint8_t *p, vf *low, vf *high) {
    uint32_t bits;
    memcpy(&bits, p, sizeof bits);
    const uint32x4_t codes = vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bits))));
    *low = (vf)vcvtq_f32_u32(vandq_u32(codes, vdupq_n_u32(15)));
    *high = (vf)vcvtq_f32_u32(vshrq_n_u32(codes, 4));
}
#else
static inline vf load_int8(const int8_t *p) { vb v; memcpy(&v, p, sizeof v); return __builtin_convertvector(v, vf); }
static inline void load_int4(const uint8_t *p, vf *low, vf *high) {
    vub codes;
    memcpy(&codes, p, sizeof codes);
    *low = __builtin_convertvector(codes & 15, vf);
    *high = __builtin_convertvector(codes >> 4, vf);
}
#endif
static inline float total(vf v) {
    float sum = 0;
    for (int i = 0; i < W; i++) sum += v[i];
    return sum;
}
static inline float one_bfloat16(uint16_t b) {
    uint32_t bits = (uint32_t)b << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

#define DOT(NAME, TYPE, LOAD, ONE)                                                                                     \
    static inline void NAME(const float *x, int64_t x_stride, int rows, const TYPE *w, int64_t I, float *sums) {       \
        vf acc[ROWS][UNROLL] = {{{0}}};                                                                                \
        int64_t i = 0;                                                                                                 \
        for (; i + STEP <= I; i += STEP)                                                                               \
            for (int u = 0; u < UNROLL; u++) {                                                                         \
                const vf weight = LOAD(w + i + u * W);                                                                 \
                for (int n = 0; n < rows; n++) acc[n][u] += weight * load_float(x + n * x_stride + i + u * W);         \
            }                                                                                                          \
        for (int n = 0; n < rows; n++) {                                                                               \
            float sum = total((acc[n][0] + acc[n][1]) + (acc[n][2] + acc[n][3]));                                      \
            for (int64_t j = i; j < I; j++) sum += ONE(w[j]) * x[n * x_stride + j];                                    \
            sums[n] = sum;                                                                                             \
        }                                                                                                              \
    }
#define AS_IS(v) ((float)(v))
DOT(dot_bfloat16, uint16_t, load_bfloat16, one_bfloat16)
DOT(dot_int8, int8_t, load_int8, AS_IS)

// A constant number of rows lets the compiler keep the sums in registers.
#define FOR_ROWS(CALL) switch (rows) { case 1: CALL(1); break; case 2: CALL(2); break; case 3: CALL(3); break; default: CALL(4); }

void matvec_bfloat16(const float *x, int rows, const uint16_t *w, float *y, int64_t I, int64_t O, int64_t start,
                     int64_t stop) {
    float sums[ROWS];
    for (int64_t o = start; o < stop; o++) {
#define CALL(N) dot_bfloat16(x, I, N, w + o * I, I, sums)
        FOR_ROWS(CALL)
#undef CALL
        for (int n = 0; n < rows; n++) y[n * O + o] = sums[n];
    }
}

void matvec_int8(const float *x, int rows, const int8_t *w, const float *scale, float *y, int64_t I, int64_t O,
                 int64_t start, int64_t stop) {
    float sums[ROWS];
    for (int64_t o = start; o < stop; o++) {
#define CALL(N) dot_int8(x, I, N, w + o * I, I, sums)
        FOR_ROWS(CALL)
#undef CALL
        for (int n = 0; n < rows; n++) y[n * O + o] = sums[n] * scale[o];
    }
}

// w: (O, I / 2). In each group of G inputs, byte j holds input j in its low and input j + G / 2 in its high four bits.
// An input's weight is scale * code + offset; x_sums (rows, I / G) are the sums of x over groups. G / 2 is a multiple
// of 16.
static inline void dot_int4(const float *x, const float *x_sums, int rows, const uint8_t *w, const float *scale,
                            const float *offset, int64_t I, int64_t G, float *sums) {
    const int64_t half = G / 2, groups = I / G;
    vf acc[ROWS] = {{0}};
    float rest[ROWS] = {0};
    for (int64_t g = 0; g < groups; g++) {
        vf low[ROWS] = {{0}}, high[ROWS] = {{0}};
        for (int64_t j = 0; j < half; j += W) {
            vf a, b;
            load_int4(w + g * half + j, &a, &b);
            for (int n = 0; n < rows; n++) {
                low[n] += a * load_float(x + n * I + g * G + j);
                high[n] += b * load_float(x + n * I + g * G + half + j);
            }
        }
        for (int n = 0; n < rows; n++) {
            acc[n] += scale[g] * (low[n] + high[n]);
            rest[n] += offset[g] * x_sums[n * groups + g];
        }
    }
    for (int n = 0; n < rows; n++) sums[n] = total(acc[n]) + rest[n];
}

void matvec_int4(const float *x, const float *x_sums, int rows, const uint8_t *w, const float *scale,
                 const float *offset, float *y, int64_t I, int64_t O, int64_t G, int64_t start, int64_t stop) {
    const int64_t groups = I / G;
    float sums[ROWS];
    for (int64_t o = start; o < stop; o++) {
#define CALL(N) dot_int4(x, x_sums, N, w + o * I / 2, scale + o * groups, offset + o * groups, I, G, sums)
        FOR_ROWS(CALL)
#undef CALL
        for (int n = 0; n < rows; n++) y[n * O + o] = sums[n];
    }
}
