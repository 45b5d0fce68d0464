#include "formula.h"
#include "check.h"

size_t gate_rows(const Formula *f) {
    return f->gate == IDLORA_GATE_LINEAR || f->gate == IDLORA_GATE_LINEAR_SOFTMAX ? f->components : 1;
}

size_t gate_cols(const Formula *f) {
    switch (f->gate) {
    case IDLORA_GATE_STATIC: return f->components;
    case IDLORA_GATE_INNER:
    case IDLORA_GATE_RMS_INNER: return f->rank;
    default: return f->cols;
    }
}

// The weight of component i for one token with chosen values x [components, rank] and input h [cols].
static double weight(const Formula *f, size_t i, const double *x, const double *h, const double *gate) {
    double value = 0.0, mean = 0.0, sum = 0.0;
    size_t c, j;
    const double *xi = x + i * f->rank;
    switch (f->gate) {
    case IDLORA_GATE_STATIC: return gate[i];
    case IDLORA_GATE_INNER:
    case IDLORA_GATE_RMS_INNER:
        for (c = 0; c < f->rank; c++) value += gate[c] * xi[c];
        for (c = 0; c < f->rank; c++) mean += xi[c] * xi[c] / (double)f->rank;
        return f->gate == IDLORA_GATE_INNER ? value : value / sqrt(mean + 1e-6);
    default:
        for (j = 0; j < f->components; j++) {
            double dot = 0.0;
            for (c = 0; c < f->cols; c++) dot += gate[j * f->cols + c] * h[c];
            sum += exp(dot);
            if (j == i) value = dot;
        }
        return f->gate == IDLORA_GATE_LINEAR ? value : exp(value) / sum;
    }
}

void adapted(const Formula *f, const double *y0, const double *h, const double *b, const double *gate, double *y) {
    const size_t chosen = f->components * f->rank, out = f->rows / f->split, in = f->rank / f->split;
    double *x = (double *)memory(chosen * sizeof *x);
    size_t t, i, c, part, row;
    for (t = 0; t < f->tokens; t++) {
        const double *base = y0 + t * f->rows, *token = h + t * f->cols;
        memcpy(y + t * f->rows, base, f->rows * sizeof *y);
        for (c = 0; c < chosen; c++) x[c] = base[f->skeleton[c]];
        for (i = 0; i < f->components; i++) {
            const double a = weight(f, i, x, token, gate);
            // (I_s kron B) x_i, one part of the rank after the other.
            for (part = 0; part < f->split; part++)
                for (row = 0; row < out; row++)
                    for (c = 0; c < in; c++) {
                        const size_t at = i * f->rank + part * in + c;
                        const double kept = f->factors ? f->factors[t * chosen + at] : 1.0;
                        y[t * f->rows + part * out + row] += f->scale * a * b[row * in + c] * kept * x[at];
                    }
        }
    }
    free(x);
}

Slope slope(const Formula *f, double *y0, double *h, double *b, double *gate, const double *g, double *entry) {
    // The error of the difference is of the order of step^2 = 1e-10, that of rounding 1e-16 / step = 1e-11.
    const double step = 1e-5, kept = *entry;
    const size_t count = f->tokens * f->rows;
    double *up = (double *)memory(count * sizeof *up), *down = (double *)memory(count * sizeof *down);
    Slope sum = {0.0, 0.0};
    size_t i;
    *entry = kept + step;
    adapted(f, y0, h, b, gate, up);
    *entry = kept - step;
    adapted(f, y0, h, b, gate, down);
    *entry = kept;
    for (i = 0; i < count; i++) {
        const double term = g[i] * (up[i] - down[i]) / (2.0 * step);
        sum.value += term;
        sum.size += fabs(term);
    }
    free(up), free(down);
    return sum;
}

// Philox4x32-10 (Salmon and others, 2011).
static void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t words[4]) {
    uint32_t c[4], k0 = key[0], k1 = key[1];
    int round;
    memcpy(c, counter, sizeof c);
    for (round = 0; round < 10; round++) {
        const uint64_t first = (uint64_t)0xD2511F53u * c[0], second = (uint64_t)0xCD9E8D57u * c[2];
        const uint32_t next[4] = {(uint32_t)(second >> 32) ^ c[1] ^ k0, (uint32_t)second,
                                  (uint32_t)(first >> 32) ^ c[3] ^ k1, (uint32_t)first};
        memcpy(c, next, sizeof c);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(words, c, sizeof c);
}

void dropout_factors(uint64_t seed, uint64_t offset, float probability, size_t tokens, size_t columns, double *factors) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const double threshold = floor((double)probability * 4294967296.0), kept = 1.0 / (1.0 - (double)probability);
    size_t t, c;
    for (t = 0; t < tokens; t++)
        for (c = 0; c < columns; c++) {
            const uint64_t token = t + offset;
            const uint32_t counter[4] = {(uint32_t)token, (uint32_t)(token >> 32), (uint32_t)(c / 4), 0};
            uint32_t words[4];
            philox(counter, key, words);
            factors[t * columns + c] = (double)words[c % 4] < threshold ? 0.0 : kept;
        }
}
