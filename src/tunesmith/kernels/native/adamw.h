// One pass over a tensor for AdamW (Loshchilov & Hutter 2019, algorithm 2): decay, moments, update, and the weights
// in bf16 that the model computes with. `factor` scales the gradient (clipping).
// Included once per number format of the gradient (see rows.h).
#ifndef TUNESMITH_ADAMW_H
#define TUNESMITH_ADAMW_H

#define SMALL 32768  // below it, waking other threads costs more than they save

typedef struct {
    float rate, beta1, beta2, epsilon, decay, correction1, correction2_root, factor;
} Step;

static inline void adamw(const Step *step, int64_t i, int64_t lanes, vfloat gradient, float *weights, float *first,
                         float *second, bf16 *shadow) {
    gradient *= step->factor;
    vfloat m = load_f32(first + i, lanes), v = load_f32(second + i, lanes), w = load_f32(weights + i, lanes);
    m += (gradient - m) * (1.0f - step->beta1);
    v = v * step->beta2 + gradient * gradient * (1.0f - step->beta2);
    w = w * (1.0f - step->rate * step->decay) -
        (step->rate / step->correction1) * m / (vsqrt(v) / step->correction2_root + step->epsilon);
    store_f32(first + i, m, lanes);
    store_f32(second + i, v, lanes);
    store_f32(weights + i, w, lanes);
    if (shadow) store_bf16(shadow + i, w, lanes);
}

// The update of a table of which few rows have a gradient: `slots[r]` is the row of `gradient` that belongs to row r, or
// -1. Rows that never had one have moments of zero: all that happens to them is decay.
void adamw_rows_f32(const Step *step, int64_t num_rows, int64_t width, const int32_t *slots, const uint8_t *has_moments,
                    const float *gradient, float *weights, float *first, float *second, bf16 *shadow) {
    float kept = 1.0f - step->rate * step->decay;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < num_rows; r++) {
        const float *given = slots[r] >= 0 ? gradient + slots[r] * width : NULL;
        int64_t start = r * width;
        if (given || has_moments[r]) {
            for (int64_t i = 0; i < width; i += LANES)
                adamw(step, i, width - i, given ? load_f32(given + i, width - i) : splat(0), weights + start,
                      first + start, second + start, shadow ? shadow + start : NULL);
        } else if (kept != 1.0f) {
            for (int64_t i = 0; i < width; i += LANES) {
                vfloat value = load_f32(weights + start + i, width - i) * kept;
                store_f32(weights + start + i, value, width - i);
                if (shadow) store_bf16(shadow + start + i, value, width - i);
            }
        }
    }
}

#define BLOCK 4096

static double in_order(double *sums, int64_t size) {
    double total = 0;
    for (int64_t block = 0; block < size; block++) total += sums[block];
    free(sums);
    return total;
}

#endif

void NAME(adamw)(const Step *step, int64_t size, const REAL *gradient, float *weights, float *first, float *second,
                 bf16 *shadow) {
#pragma omp parallel for schedule(static) if (size > SMALL)
    for (int64_t i = 0; i < size; i += LANES)
        adamw(step, i, size - i, LOAD(gradient + i, size - i), weights, first, second, shadow);
}

// The sum of squares: blocks of 4096 in float, their sums in double, in the order of the blocks. Below 0 without memory.
double NAME(squares)(int64_t size, const REAL *x) {
    int64_t num_blocks = (size + BLOCK - 1) / BLOCK;
    double *sums = malloc((num_blocks + 1) * sizeof(double));
    if (!sums) return -1;
#pragma omp parallel for schedule(static) if (size > SMALL)
    for (int64_t block = 0; block < num_blocks; block++) {
        vfloat sum = {};
        for (int64_t i = block * BLOCK; i < size && i < (block + 1) * BLOCK; i += LANES) {
            vfloat value = LOAD(x + i, size - i);
            sum += value * value;
        }
        sums[block] = sum_of(sum);
    }
    return in_order(sums, num_blocks);
}
