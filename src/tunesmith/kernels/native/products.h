// Small matrix products of ROWS rows, the inner loops of attention. Two kinds of one form: _plain in float; _dot on
// pairs of bf16 with the processor's own instruction for them, sums in float.
//
// The left factor has ROWS rows, the right one is laid out with the summed index first. Columns come in multiples of
// 32, summed indices in multiples of 2.
#ifndef TUNESMITH_PRODUCTS_H
#define TUNESMITH_PRODUCTS_H

#include "vectors.h"

#define ROWS 8
// What the registers hold: sums of so many rows, and factors of so many vectors, at a time.
#if LANES == 16
#define ROWS_AT_ONCE 8
#define VECTORS_AT_ONCE 2
#else
#define ROWS_AT_ONCE 4
#define VECTORS_AT_ONCE 1
#endif

// ---- in float -------------------------------------------------------------------------------------------------------

typedef float factor_plain;

// A right factor from its rows [count, depth], summed over depth later: [depth, stride], zeros from `count` on.
static inline void by_depth_plain(const float *rows, int64_t count, int64_t depth, factor_plain *to, int64_t stride) {
    for (int64_t d = 0; d < depth; d++) {
        for (int64_t j = 0; j < count; j++) to[d * stride + j] = rows[j * depth + d];
        for (int64_t j = count; j < stride; j++) to[d * stride + j] = 0;
    }
}

// A right factor from its rows [count, depth], summed over rows later.
static inline const factor_plain *by_row_plain(const float *rows, int64_t count, int64_t depth, factor_plain *space) {
    return rows;
}

// A left factor from its rows, of which [from, to) is used.
static inline const factor_plain *left_plain(const float *rows, int64_t stride, int64_t from, int64_t to,
                                             factor_plain *space) {
    return rows;
}

// out[r, c] = sum over k in [from, to) of a[r, k] * b[k, c]
static inline void products_plain(const factor_plain *a, int64_t a_stride, const factor_plain *b, int64_t b_stride,
                                  int64_t from, int64_t to, int64_t first_column, int64_t end_column, float *out,
                                  int64_t out_stride) {
    for (int64_t c = first_column; c < end_column; c += 2 * LANES)
        for (int first = 0; first < ROWS; first += ROWS_AT_ONCE) {
            const factor_plain *left = a + first * a_stride;
            vfloat sums[ROWS_AT_ONCE][2];
            for (int r = 0; r < ROWS_AT_ONCE; r++) sums[r][0] = sums[r][1] = splat(0);
            for (int64_t k = from; k < to; k++) {
                vfloat low = load_f32(b + k * b_stride + c, LANES), high = load_f32(b + k * b_stride + c + LANES, LANES);
#pragma GCC unroll 8
                for (int r = 0; r < ROWS_AT_ONCE; r++) {
                    sums[r][0] += left[r * a_stride + k] * low;
                    sums[r][1] += left[r * a_stride + k] * high;
                }
            }
            for (int r = 0; r < ROWS_AT_ONCE; r++) {
                store_f32(out + (first + r) * out_stride + c, sums[r][0], LANES);
                store_f32(out + (first + r) * out_stride + c + LANES, sums[r][1], LANES);
            }
        }
}

// out[k, c] += sum over r of a[r, k] * b[r, c]
static inline void add_outer_plain(const float *a, int64_t a_stride, const float *b, int64_t columns, int64_t from,
                                   int64_t to, float *out, factor_plain *space) {
    for (int64_t c = 0; c < columns; c += VECTORS_AT_ONCE * LANES) {
        vfloat factors[ROWS][VECTORS_AT_ONCE];
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS_AT_ONCE; v++) factors[r][v] = load_f32(b + r * columns + c + v * LANES, LANES);
        for (int64_t k = from; k < to; k++) {
            float *place = out + k * columns + c;
            vfloat sums[VECTORS_AT_ONCE];
            for (int v = 0; v < VECTORS_AT_ONCE; v++) sums[v] = load_f32(place + v * LANES, LANES);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++)
                for (int v = 0; v < VECTORS_AT_ONCE; v++) sums[v] += a[r * a_stride + k] * factors[r][v];
            for (int v = 0; v < VECTORS_AT_ONCE; v++) store_f32(place + v * LANES, sums[v], LANES);
        }
    }
}

// ---- on pairs of bf16 -----------------------------------------------------------------------------------------------

#ifdef __AVX512BF16__

typedef uint32_t factor_dot;  // two bf16 that are multiplied and added together

static inline vuint pairs(vfloat first, vfloat second) {
    return __builtin_convertvector(narrow(first), vuint) | (__builtin_convertvector(narrow(second), vuint) << 16);
}

static inline vuint load_pairs(const factor_dot *from) {
    vuint result;
    memcpy(&result, from, sizeof result);
    return result;
}

static inline void store_pairs(factor_dot *to, vuint value) { memcpy(to, &value, sizeof value); }

static inline vfloat dot(vfloat sum, vuint a, vuint b) {
    return (vfloat)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}

// A row of floats as bf16, pairs of neighbours.
static inline void neighbours(const float *row, int64_t count, factor_dot *to) {
    for (int64_t i = 0; i < count; i += LANES) store_bf16((bf16 *)to + i, load_f32(row + i, LANES), LANES);
}

static inline void by_depth_dot(const float *rows, int64_t count, int64_t depth, factor_dot *to, int64_t stride) {
    factor_dot row[depth / 2];
    for (int64_t j = 0; j < count; j++) {
        neighbours(rows + j * depth, depth, row);
        for (int64_t d = 0; d < depth / 2; d++) to[d * stride + j] = row[d];
    }
    for (int64_t d = 0; d < depth / 2; d++) memset(to + d * stride + count, 0, (stride - count) * sizeof(factor_dot));
}

static inline const factor_dot *by_row_dot(const float *rows, int64_t count, int64_t depth, factor_dot *space) {
    for (int64_t j = 0; j < count; j += 2)
        for (int64_t i = 0; i < depth; i += LANES) {
            const float *place = rows + j * depth + i;
            store_pairs(space + j / 2 * depth + i, pairs(load_f32(place, LANES), load_f32(place + depth, LANES)));
        }
    return space;
}

static inline const factor_dot *left_dot(const float *rows, int64_t stride, int64_t from, int64_t to,
                                         factor_dot *space) {
    for (int64_t r = 0; r < ROWS; r++) neighbours(rows + r * stride + from, to - from, space + (r * stride + from) / 2);
    return space;
}

static inline void products_dot(const factor_dot *a, int64_t a_stride, const factor_dot *b, int64_t b_stride,
                                int64_t from, int64_t to, int64_t first_column, int64_t end_column, float *out,
                                int64_t out_stride) {
    for (int64_t c = first_column; c < end_column; c += 2 * LANES) {
        vfloat sums[ROWS][2];
        for (int r = 0; r < ROWS; r++) sums[r][0] = sums[r][1] = splat(0);
        for (int64_t k = from / 2; k < to / 2; k++) {
            vuint low = load_pairs(b + k * b_stride + c), high = load_pairs(b + k * b_stride + c + LANES);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) {
                vuint factor = splat_bits(a[r * a_stride / 2 + k]);
                sums[r][0] = dot(sums[r][0], factor, low);
                sums[r][1] = dot(sums[r][1], factor, high);
            }
        }
        for (int r = 0; r < ROWS; r++) {
            store_f32(out + r * out_stride + c, sums[r][0], LANES);
            store_f32(out + r * out_stride + c + LANES, sums[r][1], LANES);
        }
    }
}

// `space` takes ROWS / 2 rows of a and of b.
static inline void add_outer_dot(const float *a, int64_t a_stride, const float *b, int64_t columns, int64_t from,
                                 int64_t to, float *out, factor_dot *space) {
    for (int r = 0; r < ROWS / 2; r++)
        for (int64_t k = from; k < to; k += LANES)
            store_pairs(space + r * a_stride + k,
                        pairs(load_f32(a + 2 * r * a_stride + k, LANES), load_f32(a + (2 * r + 1) * a_stride + k, LANES)));
    for (int64_t c = 0; c < columns; c += 2 * LANES) {
        vuint low[ROWS / 2], high[ROWS / 2];
        for (int r = 0; r < ROWS / 2; r++) {
            const float *even = b + 2 * r * columns + c, *odd = even + columns;
            low[r] = pairs(load_f32(even, LANES), load_f32(odd, LANES));
            high[r] = pairs(load_f32(even + LANES, LANES), load_f32(odd + LANES, LANES));
        }
        for (int64_t k = from; k < to; k++) {
            float *place = out + k * columns + c;
            vfloat sum_low = load_f32(place, LANES), sum_high = load_f32(place + LANES, LANES);
#pragma GCC unroll 4
            for (int r = 0; r < ROWS / 2; r++) {
                vuint factor = splat_bits(space[r * a_stride + k]);
                sum_low = dot(sum_low, factor, low[r]);
                sum_high = dot(sum_high, factor, high[r]);
            }
            store_f32(place, sum_low, LANES);
            store_f32(place + LANES, sum_high, LANES);
        }
    }
}

#endif
#endif
