// All kernels, for float and for bf16. Compiled once per machine by kernels/building.py.
//
// OpenMP's functions are not linked: they are found in the library that torch has loaded, so that both share one
// pool of threads.
#include "vectors.h"

#define NO_MEMORY 1  // the status of a kernel whose result is not valid

int omp_get_max_threads(void);
int omp_get_thread_num(void);

// ---- sums over tokens, one row of floats per thread -----------------------------------------------------------------

typedef struct {
    int64_t size;
    int num_threads;
    float *rows;
    int status;
} Partial;

static Partial partial_begin(int64_t size) {
    Partial partial = {(size + LANES) / LANES * LANES, omp_get_max_threads(), NULL, 0};
    if (size) partial.rows = calloc(partial.num_threads * partial.size, sizeof(float));
    if (size && !partial.rows) partial.status = NO_MEMORY;
    return partial;
}

static float *partial_mine(const Partial *partial) {
    return partial->rows ? partial->rows + omp_get_thread_num() * partial->size : NULL;
}

static void partial_end(Partial *partial, float **results, int num_results, int64_t width) {
    for (int k = 0; k < num_results; k++) {
        if (!results[k]) continue;
        memset(results[k], 0, width * sizeof(float));
        for (int thread = 0; thread < partial->num_threads; thread++)
            for (int64_t i = 0; i < width; i++) results[k][i] += partial->rows[thread * partial->size + k * width + i];
    }
    free(partial->rows);
}

static inline void add_f32(float *to, vfloat value, int64_t lanes) {
    store_f32(to, load_f32(to, lanes) + value, lanes);
}

// ---- activations: 0 gelu, 1 gelu by tanh, 2 silu, 3 relu ------------------------------------------------------------

static inline vfloat activate(int kind, vfloat x, vfloat *slope) {
    if (kind == 0) {
        vfloat bell = vexp(-0.5f * x * x);
        vfloat below = 0.5f * (1.0f + verf(x * 0.70710678f, bell));
        *slope = below + x * bell * 0.39894228f;
        return x * below;
    }
    if (kind == 1) {
        vfloat share = vsigmoid(1.59576912f * (x + 0.044715f * x * x * x));
        *slope = share + x * share * (1.0f - share) * 1.59576912f * (1.0f + 0.134145f * x * x);
        return x * share;
    }
    if (kind == 2) {
        vfloat share = vsigmoid(x);
        *slope = share * (1.0f + x * (1.0f - share));
        return x * share;
    }
    *slope = choose(x <= 0, splat(0), splat(1));  // this way around a NaN stays one
    return choose(x <= 0, splat(0), x);
}

#include "linear.h"

#define REAL float
#define LOAD load_f32
#define STORE store_f32
#define NAME(name) name##_f32
#define PRODUCT(name) name##_plain
#define FACTOR factor_plain
#include "adamw.h"
#include "attention.h"
#include "decoding.h"
#include "rows.h"
#undef REAL
#undef LOAD
#undef STORE
#undef NAME

#define REAL bf16
#define LOAD load_bf16
#define STORE store_bf16
#define NAME(name) name##_bf16
#ifdef __AVX512BF16__
#undef PRODUCT
#undef FACTOR
#define PRODUCT(name) name##_dot
#define FACTOR factor_dot
#endif
#include "adamw.h"
#include "attention.h"
#include "decoding.h"
#include "rows.h"
