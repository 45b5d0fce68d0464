// f32 operands on bf16 tensor cores: a value enters as the sum of its first TERMS terms, each the rounding of what the ones
// before left over. A term has 8 bits and the range of f32: with u = 2^-8, two terms leave u^2 of the value over, three
// nothing, but for what lies below 2^-134. Of the products of terms i and j, those with i + j < TERMS are taken. What is left
// out is at most u^2 of |a||b| of two terms, and 2.01 u^3 of three.
#pragma once
#include "common/reduce.cuh"

// The largest bfloat16: beyond it, rounding to nearest would be infinite for a finite float.
#define LARGEST_BF16 0x1.fep127f

// Terms of two values, `low` in the lower halves. Beyond LARGEST_BF16 a value becomes infinity and NaN.
template <int TERMS> __device__ __forceinline__ void split_pair(float low, float high, unsigned (&terms)[TERMS]) {
#pragma unroll
    for (int i = 0; i < TERMS; ++i) {
        terms[i] = cvt_rn_bf16x2_f32(high, low);
        low -= __uint_as_float(terms[i] << 16);
        high -= __uint_as_float(terms[i] & 0xffff0000u);
    }
}

// Terms of one value, whatever it is: infinity and NaN are all in the last one, which meets no other operand's rest.
template <int TERMS> __device__ __forceinline__ void split(float x, unsigned short (&terms)[TERMS]) {
    bool finite = is_finite(x);
#pragma unroll
    for (int i = 0; i < TERMS; ++i) {
        float rest = finite || i == TERMS - 1 ? x : 0.0f;
        if (i == 0 && finite) rest = fminf(fmaxf(rest, -LARGEST_BF16), LARGEST_BF16);
        terms[i] = (unsigned short)cvt_rn_bf16x2_f32(0.0f, rest);
        if (finite) x -= __uint_as_float((unsigned)terms[i] << 16);
    }
}

// A tile [16, 8] of a product: the leading products apart from the rest, whose roundings are then 2^-8 as large. Two terms
// are no more exact for it, and go without.
template <int TERMS> struct Tile {
    enum { SUMS = TERMS > 2 ? 2 : 1 };
    float sums[SUMS][4];

    __device__ __forceinline__ Tile() {
#pragma unroll
        for (int i = 0; i < SUMS * 4; ++i) (&sums[0][0])[i] = 0.0f;
    }

    // Adds the product of fragments, term by term, the least products first.
    __device__ __forceinline__ void add(const uint4 (&a)[TERMS], const unsigned (&b)[TERMS][2]) {
#pragma unroll
        for (int order = TERMS - 1; order >= 0; --order)
#pragma unroll
            for (int i = 0; i <= order; ++i)
                mma_bf16(sums[order > 0 ? SUMS - 1 : 0], a[i], b[order - i][0], b[order - i][1]);
    }

    __device__ __forceinline__ float at(int i) const {
        float sum = sums[0][i];
#pragma unroll
        for (int rest = 1; rest < SUMS; ++rest) sum += sums[rest][i];
        return sum;
    }
};
