// Attention of one new token of each text to what is kept of the text, included once per number format (see rows.h).
//
// Keys are kept in tiles of 32 tokens ([capacity / 32, depth, 32] for every slot and head of keys), so that scores of
// many tokens are summed at once and memory is read from front to back; values as they come ([capacity, depth]).
#ifndef TUNESMITH_DECODING_H
#define TUNESMITH_DECODING_H

#define MOST_QUERIES 4  // that go through keys and values together

typedef struct {
    int64_t num_rows, num_heads, num_key_heads, depth, capacity;  // depth and capacity: multiples of 32
    const int32_t *places;                                        // [num_rows]: of the new tokens
    int64_t query_stride, key_stride, value_stride;               // from one token to the next
    int64_t query_head_stride, key_head_stride, value_head_stride;
    float scale;
    int64_t behind;                // how many tokens before itself a token sees
    const float *cosines, *sines;  // [num_rows, depth], or NULL: no rotation
} Decoding;

#endif

// `count` is a constant wherever this is called.
static inline __attribute__((always_inline)) void NAME(see)(const Decoding *at, int count, const float *queries,
                                                            const REAL *keys, const REAL *values, const REAL *next, int64_t begin,
                                                            int64_t end, float *scores, int64_t wide, float *results) {
    int64_t depth = at->depth;
    for (int64_t j = begin / 32 * 32; j < padded(end); j += 2 * LANES) {
        const REAL *tile = keys + j / 32 * 32 * depth + j % 32;
        vfloat sums[MOST_QUERIES][2] = {};
        for (int64_t d = 0; d < depth; d++) {
            const REAL *line = tile + d * 32;
            __builtin_prefetch(j / 32 * 32 + 32 < end ? line + 32 * depth : values + begin * depth + d * 32 + j % 32);
            vfloat low = LOAD(line, LANES), high = LOAD(line + LANES, LANES);
            for (int r = 0; r < count; r++) {
                sums[r][0] += queries[r * depth + d] * low;
                sums[r][1] += queries[r * depth + d] * high;
            }
        }
        for (int r = 0; r < count; r++) {
            store_f32(scores + r * wide + j, sums[r][0], LANES);
            store_f32(scores + r * wide + j + LANES, sums[r][1], LANES);
        }
    }
    for (int r = 0; r < count; r++) {
        weights_of(scores + r * wide, begin, end, begin / 32 * 32, padded(end), at->scale);
    }
    for (int64_t c = 0; c < depth; c += 2 * LANES) {
        vfloat sums[MOST_QUERIES][2] = {};
        for (int64_t j = begin; j < end; j++) {
            const REAL *line = values + j * depth + c;
            __builtin_prefetch(j + 32 < end ? line + 32 * depth : next + (j + 32 - end) * depth + c);
            vfloat low = LOAD(line, LANES), high = LOAD(line + LANES, LANES);
            for (int r = 0; r < count; r++) {
                sums[r][0] += scores[r * wide + j] * low;
                sums[r][1] += scores[r * wide + j] * high;
            }
        }
        for (int r = 0; r < count; r++) {
            store_f32(results + r * depth + c, sums[r][0], LANES);
            store_f32(results + r * depth + c + LANES, sums[r][1], LANES);
        }
    }
}

static inline void NAME(take_head)(const Decoding *at, const REAL *x, int64_t row, int turned, float *to) {
    for (int64_t i = 0; i < at->depth; i += LANES) store_f32(to + i, LOAD(x + i, LANES), LANES);
    if (turned && at->cosines) rotate(to, at->depth, at->cosines + row * at->depth, at->sines + row * at->depth);
}

// query [rows, heads, depth], key and value [rows, key heads, depth], each with its strides; keys
// [slots, key heads, capacity / 32, depth, 32] and values [slots, key heads, capacity, depth] gain the new token's; output
// [rows, heads, depth]. Returns a status.
int NAME(decoding)(const Decoding *at, const REAL *query, const REAL *key, const REAL *value, REAL *keys, REAL *values,
                   REAL *output) {
    int64_t depth = at->depth, group = at->num_heads / at->num_key_heads, wide = at->capacity;
    int64_t num_tasks = at->num_rows * at->num_key_heads;
    int status = 0;
#pragma omp parallel if (num_tasks > 1)
    {
        float *space = aligned_alloc(64, sizeof(float) * (MOST_QUERIES * (wide + 2 * depth) + depth) + depth * 4);
        if (!space) {
#pragma omp atomic write
            status = NO_MEMORY;
        }
        float *queries = space + MOST_QUERIES * wide, *results = queries + MOST_QUERIES * depth;
        float *turned = results + MOST_QUERIES * depth;
        REAL *rounded = (REAL *)(turned + depth);
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < num_tasks; task++) {
            if (!space) continue;
            int64_t row = task / at->num_key_heads, key_head = task % at->num_key_heads, place = at->places[row];
            REAL *own_keys = keys + task * depth * wide, *own_values = values + task * depth * wide;
            NAME(take_head)(at, key + row * at->key_stride + key_head * at->key_head_stride, row, 1, turned);
            for (int64_t i = 0; i < depth; i += LANES) STORE(rounded + i, load_f32(turned + i, LANES), LANES);
            REAL *column = own_keys + place / 32 * 32 * depth + place % 32;
            for (int64_t d = 0; d < depth; d++) column[d * 32] = rounded[d];
            memcpy(own_values + place * depth, value + row * at->value_stride + key_head * at->value_head_stride,
                   depth * sizeof(REAL));
            int64_t begin = place > at->behind ? place - at->behind : 0, end = place + 1;
            for (int64_t first = 0; first < group; first += MOST_QUERIES) {
                int64_t head = key_head * group + first, count = group - first;
                count = count < MOST_QUERIES ? count : MOST_QUERIES;
                for (int64_t r = 0; r < count; r++)
                    NAME(take_head)(at, query + row * at->query_stride + (head + r) * at->query_head_stride, row, 1,
                                    queries + r * depth);
#define SEE(n) NAME(see)(at, n, queries, own_keys, own_values, own_keys + depth * wide, begin, end, space, wide, results)
                switch (count) {
                    case 1: SEE(1); break;
                    case 2: SEE(2); break;
                    case 3: SEE(3); break;
                    default: SEE(4);
                }
#undef SEE
                for (int64_t r = 0; r < count; r++)
                    for (int64_t i = 0; i < depth; i += LANES)
                        STORE(output + (row * at->num_heads + head + r) * depth + i, load_f32(results + r * depth + i, LANES),
                              LANES);
            }
        }
        free(space);
    }
    return status;
}
