// The three element types, as a trainer without a library of them would have them.
#ifndef ELEMENT_H
#define ELEMENT_H

#include <stddef.h>
#include <stdint.h>

size_t element_size(uint32_t dtype);
// Half the distance of neighbours, relative: what one rounding may cost.
double unit_roundoff(uint32_t dtype);
// Element `i` of an array, and the other way round, to nearest even.
double element_get(uint32_t dtype, const void *data, size_t i);
void element_set(uint32_t dtype, void *data, size_t i, double value);

#endif
