#include "element.h"
#include "check.h"

size_t element_size(uint32_t dtype) {
    return dtype == IDLORA_DTYPE_F32 ? 4 : 2;
}

double unit_roundoff(uint32_t dtype) {
    return dtype == IDLORA_DTYPE_F32 ? ldexp(1.0, -24) : dtype == IDLORA_DTYPE_F16 ? ldexp(1.0, -11) : ldexp(1.0, -8);
}

double element_get(uint32_t dtype, const void *data, size_t i) {
    if (dtype == IDLORA_DTYPE_F32) return (double)((const float *)data)[i];
    {
        const uint32_t bits = ((const uint16_t *)data)[i];
        const int fraction = dtype == IDLORA_DTYPE_F16 ? 10 : 7;
        const int exponent = (int)((bits & 0x7fffu) >> fraction), bias = dtype == IDLORA_DTYPE_F16 ? 15 : 127;
        const double mantissa = (double)(bits & ((1u << fraction) - 1u)) / (double)(1u << fraction);
        const double value =
            exponent ? ldexp(1.0 + mantissa, exponent - bias) : ldexp(mantissa, 1 - bias);
        CHECK(exponent < 2 * bias + 1); // neither infinity nor NaN in these tests
        return bits & 0x8000u ? -value : value;
    }
}

void element_set(uint32_t dtype, void *data, size_t i, double value) {
    if (dtype == IDLORA_DTYPE_F32) {
        ((float *)data)[i] = (float)value;
    } else {
        const int fraction = dtype == IDLORA_DTYPE_F16 ? 10 : 7, bias = dtype == IDLORA_DTYPE_F16 ? 15 : 127;
        uint16_t bits = signbit(value) ? 0x8000u : 0u;
        int exponent;
        if (value != 0.0) {
            // |value| = mantissa * 2^exponent with mantissa in [1, 2): normal numbers are enough here.
            double mantissa = 2.0 * frexp(fabs(value), &exponent);
            exponent -= 1;
            CHECK(exponent > -bias && exponent < bias);
            // rint rounds to even; a carry into the exponent is what the sum of fields wants.
            bits = (uint16_t)(bits + (((uint32_t)(exponent + bias)) << fraction) +
                              (uint32_t)rint((mantissa - 1.0) * (double)(1u << fraction)));
        }
        ((uint16_t *)data)[i] = bits;
    }
}
