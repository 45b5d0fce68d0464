// Element types: storage, how many fit 16 bytes, widening to float, which is exact, and rounding to nearest even. A pair is
// two neighbours, loaded and stored as one. BF16_TERMS bfloat16 add up to a value exactly, see terms.cuh.
//
// A file is compiled once per element with -DELEMENT=<one of the structs>. What differs between elements is said here
// and nowhere else.
#pragma once
#include "common/ptx.cuh"

namespace element {

// Some of whose squares leave the range of float, or none (see reduce.cuh).
enum Range { WITHIN_FLOAT, BEYOND_FLOAT };

// IEEE binary16: from 2^-24 to 2^16.
struct f16 {
    typedef unsigned short Stored;
    enum { VECTOR = 8, RANGE = WITHIN_FLOAT, BF16_TERMS = 2 };
    static __device__ __forceinline__ float widen(Stored bits) { return cvt_f32_f16(bits); }
    // Element `i` of 16 bytes.
    static __device__ __forceinline__ float of(const uint4 &bytes, int i) {
        return cvt_f32_f16((unsigned short)((&bytes.x)[i / 2] >> (16 * (i % 2))));
    }
    static __device__ __forceinline__ Stored narrow(float x) { return cvt_rn_f16_f32(x); }
    typedef unsigned Pair;
    static __device__ __forceinline__ float2 widen_pair(Pair pair) {
        return make_float2(cvt_f32_f16((unsigned short)pair), cvt_f32_f16((unsigned short)(pair >> 16)));
    }
    static __device__ __forceinline__ Pair narrow_pair(float2 x) { return cvt_rn_f16x2_f32(x.y, x.x); }
    // On tensor cores: sums [16, 8] += a [16, 16] · b [8, 16]ᵀ. Products are exact.
    static __device__ __forceinline__ void mma(float (&sums)[4], const uint4 &a, unsigned b0, unsigned b1) {
        mma_f16(sums, a, b0, b1);
    }
};

// The upper half of a float.
struct bf16 {
    typedef unsigned short Stored;
    enum { VECTOR = 8, RANGE = BEYOND_FLOAT, BF16_TERMS = 1 };
    static __device__ __forceinline__ float widen(Stored bits) { return __uint_as_float((unsigned)bits << 16); }
    static __device__ __forceinline__ float of(const uint4 &bytes, int i) {
        unsigned pair = (&bytes.x)[i / 2];
        return __uint_as_float(i % 2 ? pair & 0xffff0000u : pair << 16);
    }
    static __device__ __forceinline__ Stored narrow(float x) { return (Stored)cvt_rn_bf16x2_f32(0.0f, x); }
    typedef unsigned Pair;
    static __device__ __forceinline__ float2 widen_pair(Pair pair) {
        return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
    }
    static __device__ __forceinline__ Pair narrow_pair(float2 x) { return cvt_rn_bf16x2_f32(x.y, x.x); }
    // On tensor cores: sums [16, 8] += a [16, 16] · b [8, 16]ᵀ. Products are exact.
    static __device__ __forceinline__ void mma(float (&sums)[4], const uint4 &a, unsigned b0, unsigned b1) {
        mma_bf16(sums, a, b0, b1);
    }
};

// IEEE binary32.
struct f32 {
    typedef float Stored;
    enum { VECTOR = 4, RANGE = BEYOND_FLOAT, BF16_TERMS = 3 };
    static __device__ __forceinline__ float widen(Stored x) { return x; }
    static __device__ __forceinline__ float of(const uint4 &bytes, int i) { return __uint_as_float((&bytes.x)[i]); }
    static __device__ __forceinline__ Stored narrow(float x) { return x; }
    typedef float2 Pair;
    static __device__ __forceinline__ float2 widen_pair(Pair pair) { return pair; }
    static __device__ __forceinline__ Pair narrow_pair(float2 x) { return x; }
};

} // namespace element

typedef element::ELEMENT Elem;
typedef Elem::Stored Stored;
enum { VECTOR = Elem::VECTOR };
static_assert(sizeof(Stored) * VECTOR == 16, "a vector is 16 bytes");

__device__ __forceinline__ uint4 load_vector(const Stored *at) { return *reinterpret_cast<const uint4 *>(at); }

// Elements from `at` to the next multiple of 16 bytes.
__device__ __forceinline__ unsigned to_vector(const Stored *at) {
    return (unsigned)(-reinterpret_cast<unsigned long long>(at) % 16) / (unsigned)sizeof(Stored);
}

// VECTOR elements of a row from column `first` on. WHOLE: all of them are there, at a multiple of 16 bytes. Else zeros stand
// for those from `cols` on.
template <bool WHOLE>
__device__ __forceinline__ void load_elements(const Stored *row, unsigned long long first, unsigned long long cols,
                                              float (&x)[VECTOR]) {
    if constexpr (WHOLE) {
        uint4 bytes = load_vector(row + first);
#pragma unroll
        for (int e = 0; e < VECTOR; ++e) x[e] = Elem::of(bytes, e);
    } else {
#pragma unroll
        for (int e = 0; e < VECTOR; ++e) x[e] = first + e < cols ? Elem::widen(row[first + e]) : 0.0f;
    }
}
