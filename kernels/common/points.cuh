// Points of a clustering: rows of W, each times a factor of its own.
#pragma once
#include "common/reduce.cuh"

// The factor of a point, as a power of two and the rest, so that neither step leaves the range of float before the point
// itself does: x = (w * power) * rest. The first product is exact but where it underflows beside elements of order one.
struct Scale {
    float power, rest;
};
static_assert(sizeof(Scale) == 8, "as in src/gpu/cluster/points.rs");

// A coordinate of a point. The intrinsics keep the assembler from fusing the product with what follows: a point has the
// same bits wherever it is computed, so that it is at distance 0 from the centroid that was copied from it.
__device__ __forceinline__ float coordinate(float w, const Scale &scale) {
    return __fmul_rn(__fmul_rn(w, scale.power), scale.rest);
}

__device__ __forceinline__ double coordinate(float w, double factor) { return __dmul_rn((double)w, factor); }

// What load_elements does, of a centroid, which starts at a multiple of 16 bytes where WHOLE.
template <bool WHOLE, class Real>
__device__ __forceinline__ void load_centroid(const Real *centroid, Index first, Index cols, Real (&c)[VECTOR]) {
    if constexpr (WHOLE) {
        enum { EACH = 16 / sizeof(Real) };
#pragma unroll
        for (int e = 0; e < VECTOR; e += EACH) {
            uint4 bytes = *reinterpret_cast<const uint4 *>(centroid + first + e);
            if constexpr (EACH == 4) {
                c[e] = __uint_as_float(bytes.x), c[e + 1] = __uint_as_float(bytes.y);
                c[e + 2] = __uint_as_float(bytes.z), c[e + 3] = __uint_as_float(bytes.w);
            } else {
                c[e] = __hiloint2double((int)bytes.y, (int)bytes.x);
                c[e + 1] = __hiloint2double((int)bytes.w, (int)bytes.z);
            }
        }
    } else {
#pragma unroll
        for (int e = 0; e < VECTOR; ++e) c[e] = first + e < cols ? centroid[first + e] : (Real)0;
    }
}
