// Vectors of W floats, 2 W int16, and what compilers do not find in AVX2, AVX-512 and NEON by themselves.
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#if defined(__AVX512BW__)
#define W 16  // floats of a vector
#elif defined(__AVX2__) && defined(__F16C__)
#define W 8
#else
#define W 4
#endif

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef int16_t vs __attribute__((vector_size(4 * W)));    // 2 W of them
typedef uint16_t vh __attribute__((vector_size(2 * W)));   // W
typedef int8_t vb __attribute__((vector_size(2 * W)));     // 2 W
typedef int8_t vq __attribute__((vector_size(W)));         // W
typedef uint8_t vub __attribute__((vector_size(2 * W)));   // 2 W

// ------------------------------------------------------------------------------------- what depends on the processor
#if W == 16
static inline vf of_bfloat16(vh v) { return (vf)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)v), 16); }
static inline vf of_float16(vh v) { return (vf)_mm512_cvtph_ps((__m256i)v); }
static inline vf of_int32(vi v) { return (vf)_mm512_cvtepi32_ps((__m512i)v); }
static inline vs of_int8(vb v) { return (vs)_mm512_cvtepi8_epi16((__m256i)v); }
static inline vs of_uint8(vub v) { return (vs)_mm512_cvtepu8_epi16((__m256i)v); }
static inline vh sign_extended(vq v) { return (vh)_mm256_cvtepi8_epi16((__m128i)v); }
static inline vi add_products(vi sum, vs a, vs b) {
#if defined(__AVX512VNNI__)
    return (vi)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#else
    return sum + (vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#endif
}
#elif W == 8
static inline vf of_bfloat16(vh v) { return (vf)_mm256_slli_epi32(_mm256_cvtepu16_epi32((__m128i)v), 16); }
static inline vf of_float16(vh v) { return (vf)_mm256_cvtph_ps((__m128i)v); }
static inline vf of_int32(vi v) { return (vf)_mm256_cvtepi32_ps((__m256i)v); }
static inline vs of_int8(vb v) { return (vs)_mm256_cvtepi8_epi16((__m128i)v); }
static inline vs of_uint8(vub v) { return (vs)_mm256_cvtepu8_epi16((__m128i)v); }
static inline vh sign_extended(vq v) { return (vh)_mm_cvtepi8_epi16(_mm_set_epi64x(0, (int64_t)v)); }
static inline vi add_products(vi sum, vs a, vs b) {
#if defined(__AVXVNNI__)
    return (vi)_mm256_dpwssd_avx_epi32((__m256i)sum, (__m256i)a, (__m256i)b);
#else
    return sum + (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#endif
}
#elif defined(__ARM_NEON) && defined(__aarch64__)
static inline vf of_bfloat16(vh v) { return (vf)vshll_n_u16((uint16x4_t)v, 16); }
static inline vf of_float16(vh v) { return (vf)vcvt_f32_f16((float16x4_t)v); }
static inline vf of_int32(vi v) { return (vf)vcvtq_f32_s32((int32x4_t)v); }
static inline vs of_int8(vb v) { return (vs)vmovl_s8((int8x8_t)v); }
static inline vs of_uint8(vub v) { return (vs)vmovl_u8((uint8x8_t)v); }
static inline vh sign_extended(vq v) { return (vh)vget_low_s16(vmovl_s8(vcreate_s8((uint32_t)v))); }
static inline vi add_products(vi sum, vs a, vs b) {
    const int16x8_t x = (int16x8_t)a, y = (int16x8_t)b;
    return (vi)vmlal_high_s16(vmlal_s16((int32x4_t)sum, vget_low_s16(x), vget_low_s16(y)), x, y);
}
#else
static inline vf of_bfloat16(vh v) { return (vf)(__builtin_convertvector(v, vi) << 16); }
static inline vf of_int32(vi v) { return __builtin_convertvector(v, vf); }
static inline vs of_int8(vb v) { return __builtin_convertvector(v, vs); }
static inline vs of_uint8(vub v) { return __builtin_convertvector(v, vs); }
static inline vf of_float16(vh v) {  // of those that OF_FLOAT8 makes: their largest exponent never occurs
    const vi bits = __builtin_convertvector(v, vi);
    return (vf)((bits & 0x8000) << 16 | (bits & 0x7fff) << 13) * 0x1p112f;
}
static inline vh sign_extended(vq v) { return __builtin_convertvector(v, vh); }
static inline vi add_products(vi sum, vs a, vs b) {
    for (int i = 0; i < 2 * W; i++) sum[i % W] += (int32_t)a[i] * b[i];
    return sum;
}
#endif

#define INLINE static inline __attribute__((always_inline))
#define ALL(T, p)                                                                                                      \
    ({                                                                                                                 \
        T all_;                                                                                                        \
        memcpy(&all_, p, sizeof all_);                                                                                 \
        all_;                                                                                                          \
    })
// Memory that ends inside a vector: what is missing is zero. Not inline: it is rare, and its loop would take registers.
static __attribute__((noinline)) void copy_part(void *to, const void *from, int64_t bytes) {
    memset(to, 0, sizeof(vf));
    for (int64_t i = 0; i < bytes; i++) ((char *)to)[i] = ((const char *)from)[i];
}
#define PART(T, p, count)                                                                                              \
    ({                                                                                                                 \
        vf part_;                                                                                                      \
        copy_part(&part_, p, (count) * (int64_t)sizeof(((T){0})[0]));                                                  \
        ALL(T, &part_);                                                                                                \
    })
#define UP_TO(T, p, count) ((count) * (int64_t)sizeof(((T){0})[0]) >= (int64_t)sizeof(T) ? ALL(T, p) : PART(T, p, count))

static inline float total(vf v) {
    float sum = 0;
    for (int i = 0; i < W; i++) sum += v[i];
    return sum;
}

