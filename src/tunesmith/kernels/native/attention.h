// Attention within each sequence of a flat row, included once per number format (see rows.h).
//
// One task is one sequence and one head of keys, with all heads of queries that share it. Its keys and values are
// laid out for products; blocks of ROWS queries then go through two small matrix products (five in the backward pass),
// and weights exist for one block at a time. Nothing is kept for the backward pass but queries, keys and values.
#ifndef TUNESMITH_ATTENTION_H
#define TUNESMITH_ATTENTION_H

#include "products.h"

typedef struct {
    int64_t num_sequences, num_heads, num_key_heads, depth;  // depth: numbers per head, a multiple of 32
    const int32_t *borders;                                  // [num_sequences + 1]
    const int32_t *query_borders, *places;  // [num_sequences + 1], [Q]: who asks, or NULL: every token
    int64_t query_stride, key_stride, value_stride;                 // from one token to the next
    int64_t query_head_stride, key_head_stride, value_head_stride;  // from one head to the next
    float scale;
    int64_t ahead, behind;  // how many tokens after and before itself a token sees
    const float *cosines, *sines;  // [T, depth], or NULL: no rotation
    Noise noise;
} Attention;

static inline void rotate(float *x, int64_t depth, const float *cosine, const float *sine) {
    int64_t half = depth / 2;
    for (int64_t i = 0; i < half; i += LANES) {
        vfloat low = load_f32(x + i, LANES), high = load_f32(x + half + i, LANES);
        store_f32(x + i, low * load_f32(cosine + i, LANES) - high * load_f32(sine + i, LANES), LANES);
        store_f32(x + half + i,
                  high * load_f32(cosine + half + i, LANES) + low * load_f32(sine + half + i, LANES), LANES);
    }
}

// The transpose of the rotation.
static inline void rotate_back(float *x, int64_t depth, const float *cosine, const float *sine) {
    int64_t half = depth / 2;
    for (int64_t i = 0; i < half; i += LANES) {
        vfloat low = load_f32(x + i, LANES), high = load_f32(x + half + i, LANES);
        store_f32(x + i, low * load_f32(cosine + i, LANES) + high * load_f32(sine + half + i, LANES), LANES);
        store_f32(x + half + i, high * load_f32(cosine + half + i, LANES) - low * load_f32(sine + i, LANES), LANES);
    }
}

// The queries of a sequence: [*first, *first + count) among all, and where each is in its sequence.
static inline int64_t queries_of(const Attention *at, int64_t sequence, int64_t *first) {
    const int32_t *borders = at->query_borders ? at->query_borders : at->borders;
    *first = borders[sequence];
    return borders[sequence + 1] - borders[sequence];
}

static inline int64_t place_of(const Attention *at, int64_t first, int64_t query) {
    return at->query_borders ? at->places[first + query] : query;
}

// Which keys queries at places from `first` to `last` see at most: [*from, *to), both multiples of 32.
static inline void seen_by_block(const Attention *at, int64_t first, int64_t last, int64_t length, int64_t *from,
                                 int64_t *to) {
    int64_t begin = first - at->behind, end = last + at->ahead + 1;
    begin = begin < 0 ? 0 : begin;
    end = end > length ? length : end;
    *from = begin / 32 * 32;
    *to = (end + 31) / 32 * 32;
}

// Turn scores into weights, in place, from `from` to `to`; those of tokens outside of [begin, end) are not looked at.
static inline void weights_of(float *scores, int64_t begin, int64_t end, int64_t from, int64_t to, float scale) {
    vfloat largest = splat(-INFINITY);
    for (int64_t j = from; j < to; j += LANES) {
        vint index = (vint)IOTA + (int32_t)j;
        vfloat score = load_f32(scores + j, LANES) * scale;
        score = choose((index >= (int32_t)begin) & (index < (int32_t)end), score, splat(-INFINITY));
        store_f32(scores + j, score, LANES);
        largest = vmax(largest, score);
    }
    float top = max_of(largest);
    vfloat total = {};
    for (int64_t j = from; j < to; j += LANES) {
        vfloat score = load_f32(scores + j, LANES);
        vfloat weight = choose(score == -INFINITY, splat(0), vexp(score - top));
        store_f32(scores + j, weight, LANES);
        total += weight;
    }
    vfloat inverse = splat(1.0f / sum_of(total));
    for (int64_t j = from; j < to; j += LANES) store_f32(scores + j, load_f32(scores + j, LANES) * inverse, LANES);
}

static inline void softmax(const Attention *at, int64_t row, int64_t length, float *scores, int64_t from, int64_t to) {
    int64_t begin = row - at->behind, end = row + at->ahead + 1;
    weights_of(scores, begin < 0 ? 0 : begin, end > length ? length : end, from, to, at->scale);
}

static inline uint32_t head_noise(const Attention *at, int64_t token, int64_t head) {
    return at->noise.keys ? mix(noise_start(&at->noise, token) + (uint32_t)head * 0x85ebca6bu) : 0;
}

static inline int64_t longest_sequence(const Attention *at) {
    int64_t longest = 0;
    for (int64_t s = 0; s < at->num_sequences; s++) {
        int64_t length = at->borders[s + 1] - at->borders[s];
        longest = length > longest ? length : longest;
    }
    return longest;
}

static inline int64_t padded(int64_t length) { return (length + 31) / 32 * 32; }

#endif

static inline void NAME(load_head)(const Attention *at, const REAL *x, int64_t token, int turned, float *to) {
    for (int64_t i = 0; i < at->depth; i += LANES) store_f32(to + i, LOAD(x + i, LANES), LANES);
    if (turned && at->cosines) rotate(to, at->depth, at->cosines + token * at->depth, at->sines + token * at->depth);
}

static inline void NAME(store_head)(const Attention *at, float *from, int64_t token, int turned, REAL *to) {
    if (turned && at->cosines)
        rotate_back(from, at->depth, at->cosines + token * at->depth, at->sines + token * at->depth);
    for (int64_t i = 0; i < at->depth; i += LANES) STORE(to + i, load_f32(from + i, LANES), LANES);
}

// The keys, turned, and the values of one head in one sequence: each [length, depth].
static inline void NAME(load_sequence)(const Attention *at, const REAL *key, const REAL *value, int64_t start,
                                       int64_t length, int64_t key_head, float *keys, float *values) {
    for (int64_t j = 0; j < length; j++) {
        NAME(load_head)(at, key + (start + j) * at->key_stride + key_head * at->key_head_stride, start + j, 1,
                        keys + j * at->depth);
        NAME(load_head)(at, value + (start + j) * at->value_stride + key_head * at->value_head_stride, start + j, 0,
                        values + j * at->depth);
    }
}

// query [Q, heads, depth], key and value [T, key heads, depth], each with its strides; output [Q, heads, depth].
// Returns a status, like all that need memory.
int NAME(attention_forward)(const Attention *at, const REAL *query, const REAL *key, const REAL *value, REAL *output) {
    int64_t depth = at->depth, group = at->num_heads / at->num_key_heads, most = padded(longest_sequence(at));
    int64_t num_tasks = at->num_sequences * at->num_key_heads;
    int status = 0;
#pragma omp parallel
    {
        float *space = aligned_alloc(64, sizeof(float) * (4 * most * depth + ROWS * (2 * most + 3 * depth)));
        if (!space) {
#pragma omp atomic write
            status = NO_MEMORY;
        }
        float *rows = space, *weights = rows + most * depth, *queries = weights + ROWS * most;
        float *results = queries + ROWS * depth, *left = results + ROWS * depth;
        FACTOR *keys = (FACTOR *)(left + ROWS * (most + depth)), *packed = keys + most * depth;
        float *value_rows = (float *)(packed + most * depth);
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = num_tasks - 1; task >= 0; task--) {
            if (!space) continue;
            int64_t sequence = task / at->num_key_heads, key_head = task % at->num_key_heads;
            int64_t start = at->borders[sequence], length = at->borders[sequence + 1] - start, wide = padded(length);
            int64_t asked, num_queries = queries_of(at, sequence, &asked);
            if (!num_queries) continue;
            NAME(load_sequence)(at, key, value, start, length, key_head, rows, value_rows);
            memset(value_rows + length * depth, 0, (wide - length) * depth * sizeof(float));
            PRODUCT(by_depth)(rows, length, depth, keys, wide);
            const FACTOR *values = PRODUCT(by_row)(value_rows, wide, depth, packed);
            for (int64_t head = key_head * group; head < (key_head + 1) * group; head++)
                for (int64_t first = 0; first < num_queries; first += ROWS) {
                    int64_t count = num_queries - first < ROWS ? num_queries - first : ROWS, from, to, places[ROWS];
                    for (int64_t r = 0; r < count; r++) places[r] = place_of(at, asked, first + r);
                    seen_by_block(at, places[0], places[count - 1], length, &from, &to);
                    memset(queries, 0, ROWS * depth * sizeof(float));
                    for (int64_t r = 0; r < count; r++) {
                        NAME(load_head)(at, query + (asked + first + r) * at->query_stride + head * at->query_head_stride,
                                        start + places[r], 1, queries + r * depth);
                    }
                    const FACTOR *asking = PRODUCT(left)(queries, depth, 0, depth, (FACTOR *)left);
                    PRODUCT(products)(asking, depth, keys, wide, 0, depth, from, to, weights, wide);
                    for (int64_t r = 0; r < count; r++) {
                        softmax(at, places[r], length, weights + r * wide, from, to);
                        if (!at->noise.keys) continue;
                        uint32_t noise = head_noise(at, start + places[r], head);
                        for (int64_t j = from; j < to; j += LANES) {
                            float *place = weights + r * wide + j;
                            store_f32(place, load_f32(place, LANES) * noise_factors(&at->noise, noise, j), LANES);
                        }
                    }
                    const FACTOR *weighing = PRODUCT(left)(weights, wide, from, to, (FACTOR *)left);
                    PRODUCT(products)(weighing, wide, values, depth, from, to, 0, depth, results, depth);
                    for (int64_t r = 0; r < count; r++)
                        NAME(store_head)(at, results + r * depth, 0, 0,
                                         output + ((asked + first + r) * at->num_heads + head) * depth);
                }
        }
        free(space);
    }
    return status;
}

// The gradients have the shapes and strides of query, key and value.
int NAME(attention_backward)(const Attention *at, const REAL *query, const REAL *key, const REAL *value,
                             const REAL *output_gradient, REAL *query_gradient, REAL *key_gradient,
                             REAL *value_gradient) {
    int64_t depth = at->depth, group = at->num_heads / at->num_key_heads, most = padded(longest_sequence(at));
    int64_t num_tasks = at->num_sequences * at->num_key_heads;
    int status = 0;
#pragma omp parallel
    {
        float *space = aligned_alloc(64, sizeof(float) * (7 * most * depth + ROWS * (4 * most + 4 * depth)));
        if (!space) {
#pragma omp atomic write
            status = NO_MEMORY;
        }
        float *rows = space, *value_rows = rows + most * depth;
        float *key_sums = value_rows + most * depth, *value_sums = key_sums + most * depth;
        float *weights = value_sums + most * depth, *slopes = weights + ROWS * most, *dropped = slopes + ROWS * most;
        float *queries = dropped + ROWS * most, *outputs = queries + ROWS * depth, *results = outputs + ROWS * depth;
        float *left = results + ROWS * depth;
        FACTOR *keys = (FACTOR *)(left + ROWS * (most + depth)), *values = keys + most * depth;
        FACTOR *packed = values + most * depth;
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = num_tasks - 1; task >= 0; task--) {
            if (!space) continue;
            int64_t sequence = task / at->num_key_heads, key_head = task % at->num_key_heads;
            int64_t start = at->borders[sequence], length = at->borders[sequence + 1] - start, wide = padded(length);
            int64_t asked, num_queries = queries_of(at, sequence, &asked);
            NAME(load_sequence)(at, key, value, start, length, key_head, rows, value_rows);
            memset(rows + length * depth, 0, (wide - length) * depth * sizeof(float));
            PRODUCT(by_depth)(rows, length, depth, keys, wide);
            PRODUCT(by_depth)(value_rows, length, depth, values, wide);
            const FACTOR *key_rows = PRODUCT(by_row)(rows, wide, depth, packed);
            memset(key_sums, 0, wide * depth * sizeof(float));
            memset(value_sums, 0, wide * depth * sizeof(float));
            for (int64_t head = key_head * group; head < (key_head + 1) * group; head++)
                for (int64_t first = 0; first < num_queries; first += ROWS) {
                    int64_t count = num_queries - first < ROWS ? num_queries - first : ROWS, from, to, places[ROWS];
                    for (int64_t r = 0; r < count; r++) places[r] = place_of(at, asked, first + r);
                    seen_by_block(at, places[0], places[count - 1], length, &from, &to);
                    memset(queries, 0, ROWS * depth * sizeof(float));
                    memset(outputs, 0, ROWS * depth * sizeof(float));
                    for (int64_t r = 0; r < count; r++) {
                        int64_t index = asked + first + r, token = start + places[r];
                        NAME(load_head)(at, query + index * at->query_stride + head * at->query_head_stride, token, 1,
                                        queries + r * depth);
                        NAME(load_head)(at, output_gradient + (index * at->num_heads + head) * depth, token, 0,
                                        outputs + r * depth);
                    }
                    const FACTOR *asking = PRODUCT(left)(queries, depth, 0, depth, (FACTOR *)left);
                    PRODUCT(products)(asking, depth, keys, wide, 0, depth, from, to, weights, wide);
                    const FACTOR *answering = PRODUCT(left)(outputs, depth, 0, depth, (FACTOR *)left);
                    PRODUCT(products)(answering, depth, values, wide, 0, depth, from, to, slopes, wide);
                    for (int64_t r = 0; r < ROWS; r++) {
                        float *weight = weights + r * wide, *slope = slopes + r * wide, *drop = dropped + r * wide;
                        if (r >= count) {
                            memset(slope + from, 0, (to - from) * sizeof(float));
                            memset(drop + from, 0, (to - from) * sizeof(float));
                            continue;
                        }
                        softmax(at, places[r], length, weight, from, to);
                        uint32_t noise = head_noise(at, start + places[r], head);
                        vfloat total = {};
                        for (int64_t j = from; j < to; j += LANES) {
                            vfloat w = load_f32(weight + j, LANES), s = load_f32(slope + j, LANES), kept = w;
                            if (at->noise.keys) {
                                vfloat factors = noise_factors(&at->noise, noise, j);
                                kept *= factors;
                                s *= factors;
                                store_f32(slope + j, s, LANES);
                            }
                            store_f32(drop + j, kept, LANES);
                            total += w * s;
                        }
                        float mean = sum_of(total);
                        for (int64_t j = from; j < to; j += LANES)
                            store_f32(slope + j,
                                      load_f32(weight + j, LANES) * (load_f32(slope + j, LANES) - mean) * at->scale,
                                      LANES);
                    }
                    PRODUCT(add_outer)(dropped, wide, outputs, depth, from, to, value_sums, (FACTOR *)left);
                    PRODUCT(add_outer)(slopes, wide, queries, depth, from, to, key_sums, (FACTOR *)left);
                    const FACTOR *sloping = PRODUCT(left)(slopes, wide, from, to, (FACTOR *)left);
                    PRODUCT(products)(sloping, wide, key_rows, depth, from, to, 0, depth, results, depth);
                    for (int64_t r = 0; r < count; r++) {
                        int64_t index = asked + first + r, token = start + places[r];
                        NAME(store_head)(at, results + r * depth, token, 1,
                                         query_gradient + index * at->query_stride + head * at->query_head_stride);
                    }
                }
            for (int64_t j = 0; j < length; j++) {
                NAME(store_head)(at, key_sums + j * depth, start + j, 1,
                                 key_gradient + (start + j) * at->key_stride + key_head * at->key_head_stride);
                NAME(store_head)(at, value_sums + j * depth, start + j, 0,
                                 value_gradient + (start + j) * at->value_stride + key_head * at->value_head_stride);
            }
        }
        free(space);
    }
    return status;
}
