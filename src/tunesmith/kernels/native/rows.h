// Kernels that work on rows of T tokens, included once per number format: REAL, LOAD, STORE and NAME are set.
// Sums are kept in float. Sums over tokens are formed per thread and added in the order of threads.

// sum = noise(x + bias) + residual; y = (sum - mean) / deviation * gain + shift.
void NAME(layer_norm_forward)(int64_t num_tokens, int64_t width, const REAL *x, const REAL *bias, const REAL *residual,
                              const REAL *gain, const REAL *shift, float epsilon, const uint32_t *keys, uint32_t call,
                              uint32_t threshold, float scale, REAL *sum, REAL *y, float *means, float *inverses) {
    Noise noise = {keys, call, threshold, scale};
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < num_tokens; t++) {
        uint32_t start = noise_start(&noise, t);
        vfloat total = {};
        for (int64_t i = 0; i < width; i += LANES) {
            int64_t lanes = width - i;
            vfloat value = LOAD(x + t * width + i, lanes);
            if (bias) value += LOAD(bias + i, lanes);
            if (keys) value *= noise_factors(&noise, start, i);
            if (residual) value += LOAD(residual + t * width + i, lanes);
            STORE(sum + t * width + i, value, lanes);
            total += LOAD(sum + t * width + i, lanes);
        }
        float mean = sum_of(total) / width;
        vfloat squares = {};
        for (int64_t i = 0; i < width; i += LANES) {
            int64_t lanes = width - i;
            vfloat value = LOAD(sum + t * width + i, lanes) - mean;
            if (lanes < LANES) value = choose((vint)(IOTA < (uint32_t)lanes), value, splat(0));
            squares += value * value;
        }
        float inverse = 1.0f / sqrtf(sum_of(squares) / width + epsilon);
        for (int64_t i = 0; i < width; i += LANES) {
            int64_t lanes = width - i;
            vfloat value = (LOAD(sum + t * width + i, lanes) - mean) * inverse;
            STORE(y + t * width + i, value * LOAD(gain + i, lanes) + LOAD(shift + i, lanes), lanes);
        }
        means[t] = mean;
        inverses[t] = inverse;
    }
}

// The gradients of x and of the residual, and the sums over tokens that are those of bias, gain and shift. Any but
// the residual's may be NULL.
int NAME(layer_norm_backward)(int64_t num_tokens, int64_t width, const REAL *y_gradient, const REAL *sum,
                              const REAL *gain, const float *means, const float *inverses, const uint32_t *keys,
                              uint32_t call, uint32_t threshold, float scale, REAL *x_gradient,
                              REAL *residual_gradient, float *bias_gradient, float *gain_gradient,
                              float *shift_gradient) {
    Noise noise = {keys, call, threshold, scale};
    Partial partial = partial_begin(bias_gradient || gain_gradient || shift_gradient ? 3 * width : 0);
    if (partial.status) return partial.status;
#pragma omp parallel
    {
        float *sums = partial_mine(&partial);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < num_tokens; t++) {
            uint32_t start = noise_start(&noise, t);
            const REAL *dy = y_gradient + t * width, *s = sum + t * width;
            float mean = means[t], inverse = inverses[t];
            vfloat first = {}, second = {};
            for (int64_t i = 0; i < width; i += LANES) {
                int64_t lanes = width - i;
                vfloat scaled = LOAD(dy + i, lanes) * LOAD(gain + i, lanes);
                first += scaled;
                second += scaled * (LOAD(s + i, lanes) - mean);
            }
            float mean_first = sum_of(first) / width, mean_second = sum_of(second) * inverse / width;
            for (int64_t i = 0; i < width; i += LANES) {
                int64_t lanes = width - i;
                vfloat gradient = LOAD(dy + i, lanes), normal = (LOAD(s + i, lanes) - mean) * inverse;
                vfloat result = (gradient * LOAD(gain + i, lanes) - mean_first - normal * mean_second) * inverse;
                STORE(residual_gradient + t * width + i, result, lanes);
                if (keys) result *= noise_factors(&noise, start, i);
                if (x_gradient) STORE(x_gradient + t * width + i, result, lanes);
                if (!sums) continue;
                add_f32(sums + i, result, lanes);
                add_f32(sums + width + i, gradient * normal, lanes);
                add_f32(sums + 2 * width + i, gradient, lanes);
            }
        }
    }
    partial_end(&partial, (float *[]){bias_gradient, gain_gradient, shift_gradient}, 3, width);
    return 0;
}

// sum = x + residual; y = sum / root mean square * gain.
void NAME(rms_norm_forward)(int64_t num_tokens, int64_t width, const REAL *x, const REAL *residual, const REAL *gain,
                            float epsilon, REAL *sum, REAL *y, float *inverses) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < num_tokens; t++) {
        const REAL *s = x + t * width;
        vfloat squares = {};
        for (int64_t i = 0; i < width; i += LANES) {
            int64_t lanes = width - i;
            vfloat value = LOAD(s + i, lanes);
            if (residual) {
                STORE(sum + t * width + i, value + LOAD(residual + t * width + i, lanes), lanes);
                value = LOAD(sum + t * width + i, lanes);
            }
            squares += value * value;
        }
        if (residual) s = sum + t * width;
        float inverse = 1.0f / sqrtf(sum_of(squares) / width + epsilon);
        for (int64_t i = 0; i < width; i += LANES) {
            int64_t lanes = width - i;
            STORE(y + t * width + i, LOAD(s + i, lanes) * inverse * LOAD(gain + i, lanes), lanes);
        }
        inverses[t] = inverse;
    }
}

// The gradient of `sum` (what reached it on other ways, `sum_gradient`, is added) and of the gain (NULL if frozen).
int NAME(rms_norm_backward)(int64_t num_tokens, int64_t width, const REAL *y_gradient, const REAL *sum_gradient,
                            const REAL *sum, const REAL *gain, const float *inverses, REAL *gradient,
                            float *gain_gradient) {
    Partial partial = partial_begin(gain_gradient ? width : 0);
    if (partial.status) return partial.status;
#pragma omp parallel
    {
        float *sums = partial_mine(&partial);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < num_tokens; t++) {
            const REAL *dy = y_gradient + t * width, *s = sum + t * width;
            float inverse = inverses[t];
            vfloat products = {};
            for (int64_t i = 0; i < width; i += LANES) {
                int64_t lanes = width - i;
                products += LOAD(dy + i, lanes) * LOAD(gain + i, lanes) * LOAD(s + i, lanes);
            }
            float mean = sum_of(products) * inverse * inverse / width;
            for (int64_t i = 0; i < width; i += LANES) {
                int64_t lanes = width - i;
                vfloat dyi = LOAD(dy + i, lanes), si = LOAD(s + i, lanes);
                vfloat result = (dyi * LOAD(gain + i, lanes) - si * mean) * inverse;
                if (sum_gradient) result += LOAD(sum_gradient + t * width + i, lanes);
                STORE(gradient + t * width + i, result, lanes);
                if (gain_gradient) add_f32(sums + i, dyi * si * inverse, lanes);
            }
        }
    }
    if (gain_gradient) partial_end(&partial, (float *[]){gain_gradient}, 1, width);
    return 0;
}

// y = activation(x + bias)
void NAME(activation_forward)(int64_t num_tokens, int64_t width, const REAL *x, const REAL *bias, int kind, REAL *y) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < num_tokens; t++)
        for (int64_t i = 0; i < width; i += LANES) {
            int64_t lanes = width - i;
            vfloat value = LOAD(x + t * width + i, lanes), slope;
            if (bias) value += LOAD(bias + i, lanes);
            STORE(y + t * width + i, activate(kind, value, &slope), lanes);
        }
}

int NAME(activation_backward)(int64_t num_tokens, int64_t width, const REAL *y_gradient, const REAL *x,
                              const REAL *bias, int kind, REAL *x_gradient, float *bias_gradient) {
    Partial partial = partial_begin(bias_gradient ? width : 0);
    if (partial.status) return partial.status;
#pragma omp parallel
    {
        float *sums = partial_mine(&partial);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < num_tokens; t++)
            for (int64_t i = 0; i < width; i += LANES) {
                int64_t lanes = width - i;
                vfloat value = LOAD(x + t * width + i, lanes), slope;
                if (bias) value += LOAD(bias + i, lanes);
                activate(kind, value, &slope);
                vfloat result = LOAD(y_gradient + t * width + i, lanes) * slope;
                STORE(x_gradient + t * width + i, result, lanes);
                if (bias_gradient) add_f32(sums + i, result, lanes);
            }
    }
    if (bias_gradient) partial_end(&partial, (float *[]){bias_gradient}, 1, width);
    return 0;
}

// x holds gate and value side by side, [T, 2 * width]: y = activation(gate) * value.
void NAME(gated_forward)(int64_t num_tokens, int64_t width, const REAL *x, int kind, REAL *y) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < num_tokens; t++)
        for (int64_t i = 0; i < width; i += LANES) {
            int64_t lanes = width - i;
            const REAL *gate = x + 2 * t * width;
            vfloat slope;
            STORE(y + t * width + i, activate(kind, LOAD(gate + i, lanes), &slope) * LOAD(gate + width + i, lanes), lanes);
        }
}

void NAME(gated_backward)(int64_t num_tokens, int64_t width, const REAL *y_gradient, const REAL *x, int kind,
                          REAL *x_gradient) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < num_tokens; t++)
        for (int64_t i = 0; i < width; i += LANES) {
            int64_t lanes = width - i;
            const REAL *gate = x + 2 * t * width;
            vfloat slope, dy = LOAD(y_gradient + t * width + i, lanes);
            vfloat activated = activate(kind, LOAD(gate + i, lanes), &slope);
            STORE(x_gradient + 2 * t * width + i, dy * LOAD(gate + width + i, lanes) * slope, lanes);
            STORE(x_gradient + 2 * t * width + width + i, dy * activated, lanes);
        }
}

void NAME(dropout)(int64_t num_tokens, int64_t width, const REAL *x, const uint32_t *keys, uint32_t call,
                   uint32_t threshold, float scale, REAL *y) {
    Noise noise = {keys, call, threshold, scale};
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < num_tokens; t++) {
        uint32_t start = noise_start(&noise, t);
        for (int64_t i = 0; i < width; i += LANES)
            STORE(y + t * width + i, LOAD(x + t * width + i, width - i) * noise_factors(&noise, start, i), width - i);
    }
}

// The sum over tokens of every column.
int NAME(column_sums)(int64_t num_tokens, int64_t width, const REAL *x, float *result) {
    Partial partial = partial_begin(width);
    if (partial.status) return partial.status;
#pragma omp parallel
    {
        float *sums = partial_mine(&partial);
#pragma omp for schedule(static)
        for (int64_t t = 0; t < num_tokens; t++)
            for (int64_t i = 0; i < width; i += LANES) add_f32(sums + i, LOAD(x + t * width + i, width - i), width - i);
    }
    partial_end(&partial, (float *[]){result}, 1, width);
    return 0;
}

// Cross-entropy of every row of scores against its class, the scores replaced by the gradient of the losses' sum.
// A class below 0 takes no part. Returns the losses.
void NAME(cross_entropy)(int64_t num_rows, int64_t num_classes, REAL *scores, const int64_t *classes, float *losses) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < num_rows; r++) {
        REAL *row = scores + r * num_classes;
        if (classes[r] < 0) {
            memset(row, 0, num_classes * sizeof(REAL));
            losses[r] = 0;
            continue;
        }
        vfloat largest = splat(-INFINITY);
        for (int64_t i = 0; i + LANES <= num_classes; i += LANES) largest = vmax(largest, LOAD(row + i, LANES));
        float top = max_of(largest);
        for (int64_t i = num_classes / LANES * LANES; i < num_classes; i++) {
            float value = LOAD(row + i, 1)[0];
            top = value > top || value != value ? value : top;
        }
        float target = LOAD(row + classes[r], 1)[0];
        vfloat total = {};
        for (int64_t i = 0; i < num_classes; i += LANES) {
            int64_t lanes = num_classes - i;
            vfloat value = vexp(LOAD(row + i, lanes) - top);
            if (lanes < LANES) value = choose((vint)(IOTA < (uint32_t)lanes), value, splat(0));
            total += value;
        }
        float normaliser = sum_of(total);
        losses[r] = logf(normaliser) + top - target;
        float inverse = 1.0f / normaliser;
        for (int64_t i = 0; i < num_classes; i += LANES) {
            int64_t lanes = num_classes - i;
            STORE(row + i, vexp(LOAD(row + i, lanes) - top) * inverse, lanes);
        }
        float probability = expf(target - top) * inverse;
        vfloat rest = splat(probability - 1.0f);
        STORE(row + classes[r], rest, 1);
    }
}
