// ID-LoRA as its paper writes it, in double and without any thought of speed: what the library is held against.
#ifndef FORMULA_H
#define FORMULA_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    size_t rows, cols, rank, components, split, tokens;
    uint32_t gate;           // an idlora_gate
    double scale;            // the factor on the update
    const uint32_t *skeleton; // [components, rank]
    const double *factors;   // dropout, [tokens, components * rank]; null: none
} Formula;

size_t gate_rows(const Formula *f);
size_t gate_cols(const Formula *f);

// Y [tokens, rows] from the output Y0 without bias, the input H [tokens, cols], B [rows/split, rank/split] and the gate.
void adapted(const Formula *f, const double *y0, const double *h, const double *b, const double *gate, double *y);

// The slope of <G, Y> along one entry of one of its arguments, by a central difference, and the sum of its terms' magnitudes, by
// which rounding is measured. `entry` lies in y0, h, b or gate.
typedef struct {
    double value, size;
} Slope;
Slope slope(const Formula *f, double *y0, double *h, double *b, double *gate, const double *g, double *entry);

// The factors of dropout, 0 or 1 / (1 - probability), by the words of the header.
void dropout_factors(uint64_t seed, uint64_t offset, float probability, size_t tokens, size_t columns, double *factors);

#endif
