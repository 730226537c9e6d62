// Linear layers of few tokens: y = activation(x W' + bias) in float, W packed once.
//
// What is packed are panels of PANEL outputs side by side, [outputs / PANEL, inputs, PANEL], zeros where there is no output
// any more: the innermost loop reads them from front to back. A panel stays in the first cache while blocks of rows go
// through it, and the next one is fetched meanwhile: with few rows, reading the weights takes as long as using them.
#ifndef TUNESMITH_LINEAR_H
#define TUNESMITH_LINEAR_H

#include "vectors.h"

#define PANEL (2 * LANES)
#if LANES == 16
#define BLOCK_ROWS 12  // that are summed at once; with two vectors each, as many as there are registers for
#else
#define BLOCK_ROWS 6
#endif
#define CHUNK 49152  // numbers of x that stay in the second cache while all panels go by

int64_t linear_panel(void) { return PANEL; }

// weight [outputs, inputs] to panels.
void linear_pack(int64_t outputs, int64_t inputs, const float *weight, float *panels) {
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < (outputs + PANEL - 1) / PANEL; p++)
        for (int64_t k = 0; k < inputs; k++)
            for (int64_t i = 0; i < PANEL; i++) {
                int64_t output = p * PANEL + i;
                panels[(p * inputs + k) * PANEL + i] = output < outputs ? weight[output * inputs + k] : 0;
            }
}

typedef struct {
    int64_t num_rows, outputs, inputs;
    const float *x, *panels, *bias;  // bias: NULL for none
    int kind;                        // of the activation; -1: none
    float *y;
} Linear;

// `count` rows through `wide` panels; both are constants wherever this is called. `ahead` is what is fetched meanwhile,
// `pace` bytes for every input.
static inline __attribute__((always_inline)) void linear_block(const Linear *at, int count, int wide, int64_t row,
                                                               int64_t panel, const char *ahead, int64_t pace) {
    int64_t inputs = at->inputs;
    const float *x = at->x + row * inputs, *w = at->panels + panel * inputs * PANEL;
    vfloat sums[BLOCK_ROWS][8];
#pragma GCC unroll 12
    for (int r = 0; r < count; r++)
#pragma GCC unroll 8
        for (int v = 0; v < 2 * wide; v++) sums[r][v] = splat(0);
    for (int64_t k = 0; k < inputs; k++) {
        __builtin_prefetch(ahead, 0, 2);
        ahead += pace;
        vfloat factors[8];
#pragma GCC unroll 8
        for (int v = 0; v < 2 * wide; v++)
            factors[v] = load_f32(w + v / 2 * inputs * PANEL + k * PANEL + v % 2 * LANES, LANES);
#pragma GCC unroll 12
        for (int r = 0; r < count; r++) {
            vfloat factor = splat(x[r * inputs + k]);
#pragma GCC unroll 8
            for (int v = 0; v < 2 * wide; v++) sums[r][v] += factor * factors[v];
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < count; r++)
#pragma GCC unroll 8
        for (int v = 0; v < 2 * wide; v++) {
            int64_t output = panel * PANEL + v * LANES, lanes = at->outputs - output;
            if (lanes <= 0) continue;
            vfloat value = sums[r][v], slope;
            if (at->bias) value += load_f32(at->bias + output, lanes);
            if (at->kind >= 0) value = activate(at->kind, value, &slope);
            store_f32(at->y + (row + r) * at->outputs + output, value, lanes);
        }
}

static void linear_rows(const Linear *at, int count, int64_t row, int64_t panel, int wide, const char *ahead,
                        int64_t pace) {
#define GO(n, w) linear_block(at, n, w, row, panel, ahead, pace)
#define CASE(n) case n: GO(n, 1); break
    if (wide == 4) {
        GO(1, 4);
        return;
    }
    if (wide == 2) {
        if (count == 2) GO(2, 2);
        else GO(3, 2);
        return;
    }
    switch (count) {
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
        CASE(5);
        CASE(6);
#if BLOCK_ROWS > 6
        CASE(7);
        CASE(8);
        CASE(9);
        CASE(10);
        CASE(11);
        CASE(12);
#endif
    }
#undef GO
#undef CASE
}

void linear_forward(const Linear *at) {
    int64_t rows = at->num_rows, num_panels = (at->outputs + PANEL - 1) / PANEL, size = at->inputs * PANEL;
    int64_t chunk = CHUNK / at->inputs / BLOCK_ROWS * BLOCK_ROWS;
    chunk = chunk < BLOCK_ROWS ? BLOCK_ROWS : chunk;
    // Of very few rows each sum waits for itself, unless there are several panels at once.
    int64_t wide = rows == 1 ? 4 : rows <= 3 ? 2 : 1;
#pragma omp parallel if (rows * at->outputs * at->inputs > 65536)
    for (int64_t first = 0; first < rows; first += chunk) {
        int64_t count = rows - first < chunk ? rows - first : chunk, blocks = (count + BLOCK_ROWS - 1) / BLOCK_ROWS;
#pragma omp for schedule(static) nowait
        for (int64_t group = 0; group < (num_panels + wide - 1) / wide; group++) {
            int64_t panel = group * wide, next = panel + wide < num_panels ? panel + wide : 0;
            int64_t pace = PANEL * (int64_t)sizeof(float) / blocks;
            const char *ahead = (const char *)(at->panels + next * size);
            for (int64_t block = 0; block < blocks; block++) {
                int64_t begin = first + block * count / blocks, end = first + (block + 1) * count / blocks;
                if (panel + wide <= num_panels)
                    linear_rows(at, end - begin, begin, panel, wide, ahead, pace);
                else
                    for (int64_t p = panel; p < num_panels; p++) linear_rows(at, end - begin, begin, p, 1, ahead, pace);
                ahead += pace * at->inputs;
            }
        }
    }
}

#endif
