// Vectors as wide as the processor's registers, their loads and stores from float and bf16, and the few functions the
// kernels need.
//
// Everything is written in the vector extensions that gcc and clang share, so that one text serves AVX-512, AVX2 and
// NEON. Wider vectors than the registers would be computed, too, but gcc keeps them in memory: with AVX2 attention took
// ten times as long with vectors of 16 floats as with those of 8.
#ifndef TUNESMITH_VECTORS_H
#define TUNESMITH_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float vfloat __attribute__((vector_size(4 * LANES)));
typedef int32_t vint __attribute__((vector_size(4 * LANES)));
typedef uint32_t vuint __attribute__((vector_size(4 * LANES)));
typedef uint16_t vhalf __attribute__((vector_size(2 * LANES)));
typedef uint16_t bf16;

// x - 0 is x for every x; x + 0 is not (-0), so that it would be computed.
static inline vfloat splat(float value) { return value - (vfloat){}; }
static inline vuint splat_bits(uint32_t value) { return (vuint){} + value; }
// Where the compiler does not find the one instruction for these by itself, they are named. Of max and min, the second
// operand is the result when one of the two is a NaN.
#ifdef __AVX512F__
#include <immintrin.h>
static inline vfloat choose(vint condition, vfloat yes, vfloat no) {
    return (vfloat)_mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)condition), (__m512)no, (__m512)yes);
}
static inline vfloat vmax(vfloat a, vfloat b) { return (vfloat)_mm512_max_ps((__m512)a, (__m512)b); }
static inline vfloat vmin(vfloat a, vfloat b) { return (vfloat)_mm512_min_ps((__m512)a, (__m512)b); }
static inline vfloat vsqrt(vfloat a) { return (vfloat)_mm512_sqrt_ps((__m512)a); }
static inline float sum_of(vfloat a) { return _mm512_reduce_add_ps((__m512)a); }
static inline float max_of(vfloat a) { return _mm512_reduce_max_ps((__m512)a); }
#elif defined(__AVX2__)
#include <immintrin.h>
static inline vfloat choose(vint condition, vfloat yes, vfloat no) {
    return (vfloat)_mm256_blendv_ps((__m256)no, (__m256)yes, (__m256)condition);
}
static inline vfloat vmax(vfloat a, vfloat b) { return (vfloat)_mm256_max_ps((__m256)a, (__m256)b); }
static inline vfloat vmin(vfloat a, vfloat b) { return (vfloat)_mm256_min_ps((__m256)a, (__m256)b); }
static inline vfloat vsqrt(vfloat a) { return (vfloat)_mm256_sqrt_ps((__m256)a); }
static inline float sum_of(vfloat a) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128((__m256)a), _mm256_extractf128_ps((__m256)a, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
static inline float max_of(vfloat a) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128((__m256)a), _mm256_extractf128_ps((__m256)a, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}
#else
static inline vfloat choose(vint condition, vfloat yes, vfloat no) {
    return (vfloat)((condition & (vint)yes) | (~condition & (vint)no));
}
static inline vfloat vmax(vfloat a, vfloat b) { return choose(a > b, a, b); }
static inline vfloat vmin(vfloat a, vfloat b) { return choose(a < b, a, b); }
static inline vfloat vsqrt(vfloat a) {
    for (int i = 0; i < LANES; i++) a[i] = sqrtf(a[i]);
    return a;
}
static inline float sum_of(vfloat a) {
    float total = 0;
    for (int i = 0; i < LANES; i++) total += a[i];
    return total;
}
static inline float max_of(vfloat a) {
    float largest = a[0];
    for (int i = 1; i < LANES; i++) largest = a[i] > largest ? a[i] : largest;
    return largest;
}
#endif

#if LANES == 16
static const vuint IOTA = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif LANES == 8
static const vuint IOTA = {0, 1, 2, 3, 4, 5, 6, 7};
#else
static const vuint IOTA = {0, 1, 2, 3};
#endif

// ---- memory: whole vectors, or the first `lanes` of one (the rest reads as 0) -------------------------------------

static inline float widen(bf16 value) {
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, 4);
    return result;
}

static inline vfloat load_f32(const float *from, int64_t lanes) {
    vfloat result = {};
    if (__builtin_expect(lanes >= LANES, 1)) memcpy(&result, from, sizeof result);
    else for (int64_t i = 0; i < lanes; i++) result[i] = from[i];
    return result;
}

static inline void store_f32(float *to, vfloat value, int64_t lanes) {
    if (__builtin_expect(lanes >= LANES, 1)) memcpy(to, &value, sizeof value);
    else for (int64_t i = 0; i < lanes; i++) to[i] = value[i];
}

static inline vfloat load_bf16(const bf16 *from, int64_t lanes) {
    vhalf half = {};
    if (__builtin_expect(lanes >= LANES, 1)) memcpy(&half, from, sizeof half);
    else for (int64_t i = 0; i < lanes; i++) half[i] = from[i];
    return (vfloat)(__builtin_convertvector(half, vuint) << 16);
}

// Rounds to the nearest, ties to even; a NaN stays one.
static inline vhalf narrow(vfloat value) {
#ifdef __AVX512BF16__
    __m256bh half = _mm512_cvtneps_pbh((__m512)value);
    vhalf result;
    memcpy(&result, &half, sizeof result);
    return result;
#endif
    vuint bits = (vuint)value;
    vuint rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    vint is_nan = value != value;
    return __builtin_convertvector((rounded & ~(vuint)is_nan) | (0x7fc0 & (vuint)is_nan), vhalf);
}

static inline void store_bf16(bf16 *to, vfloat value, int64_t lanes) {
    vhalf half = narrow(value);
    if (__builtin_expect(lanes >= LANES, 1)) memcpy(to, &half, sizeof half);
    else for (int64_t i = 0; i < lanes; i++) to[i] = half[i];
}

// ---- functions ----------------------------------------------------------------------------------------------------

// e^x to about 1e-7 of its value: 2^n times a polynomial of the rest.
static inline vfloat vexp(vfloat x) {
    x = vmin(splat(88.0f), vmax(splat(-87.0f), x));  // in this order a NaN stays one
    vfloat n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    vfloat r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vfloat p = splat(1.0f / 5040);
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    vint exponent = (__builtin_convertvector(n, vint) + 127) << 23;
    return p * (vfloat)exponent;
}

// The error function to 1.5e-7 (Abramowitz and Stegun, 7.1.26), given e^(-x^2).
static inline vfloat verf(vfloat x, vfloat exp_of_minus_square) {
    vfloat size = (vfloat)((vint)x & 0x7fffffff);
    vfloat t = 1.0f / (1.0f + 0.3275911f * size);
    vfloat p = splat(1.061405429f);
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    vfloat result = 1.0f - p * t * exp_of_minus_square;
    return (vfloat)((vint)result | ((vint)x & (vint)splat_bits(0x80000000u)));
}

static inline vfloat vsigmoid(vfloat x) { return 1.0f / (1.0f + vexp(-x)); }

// ---- noise: the mask of dropout is a hash of where an element is ---------------------------------------------------

static inline uint32_t mix(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

static inline vuint vmix(vuint x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

typedef struct {
    const uint32_t *keys;  // one per token; NULL: nothing is dropped
    uint32_t call;         // which dropout of the step it is
    uint32_t threshold;    // probability times 2^32
    float scale;           // 1 / (1 - probability)
} Noise;

static inline uint32_t noise_start(const Noise *noise, int64_t token) {
    return noise->keys ? mix(noise->keys[token] ^ noise->call) : 0;
}

// What the elements from `first` on, LANES of them, of a token are multiplied by: 0 or `scale`.
static inline vfloat noise_factors(const Noise *noise, uint32_t start, uint32_t first) {
    vuint hash = vmix((IOTA + first) * 0x9e3779b9u + start);
#ifdef __AVX512F__
    __mmask16 kept = _mm512_cmpge_epu32_mask((__m512i)hash, (__m512i)splat_bits(noise->threshold));
    return (vfloat)_mm512_maskz_mov_ps(kept, (__m512)splat(noise->scale));
#endif
    return choose((vint)(hash >= noise->threshold), splat(noise->scale), splat(0.0f));
}

#endif
