// Element types: storage, how many fit 16 bytes, and widening to float, which is exact.
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
    enum { VECTOR = 8, RANGE = WITHIN_FLOAT };
    static __device__ __forceinline__ float widen(Stored bits) { return cvt_f32_f16(bits); }
    // Element `i` of 16 bytes.
    static __device__ __forceinline__ float of(const uint4 &bytes, int i) {
        return cvt_f32_f16((unsigned short)((&bytes.x)[i / 2] >> (16 * (i % 2))));
    }
};

// The upper half of a float.
struct bf16 {
    typedef unsigned short Stored;
    enum { VECTOR = 8, RANGE = BEYOND_FLOAT };
    static __device__ __forceinline__ float widen(Stored bits) { return __uint_as_float((unsigned)bits << 16); }
    static __device__ __forceinline__ float of(const uint4 &bytes, int i) {
        unsigned pair = (&bytes.x)[i / 2];
        return __uint_as_float(i % 2 ? pair & 0xffff0000u : pair << 16);
    }
};

// IEEE binary32.
struct f32 {
    typedef float Stored;
    enum { VECTOR = 4, RANGE = BEYOND_FLOAT };
    static __device__ __forceinline__ float widen(Stored x) { return x; }
    static __device__ __forceinline__ float of(const uint4 &bytes, int i) { return __uint_as_float((&bytes.x)[i]); }
};

} // namespace element

typedef element::ELEMENT Elem;
typedef Elem::Stored Stored;
enum { VECTOR = Elem::VECTOR };
static_assert(sizeof(Stored) * VECTOR == 16, "a vector is 16 bytes");
