// Sums of squares that neither vanish nor overflow, and reductions over a warp in a fixed order.
#pragma once
#include "common/elem.cuh"

enum { WARP = 32 };
enum : unsigned { ALL_LANES = 0xffffffffu };
typedef unsigned long long Index;

// False for NaN and infinity.
__device__ __forceinline__ bool is_finite(float x) { return fabsf(x) <= 0x1.fffffep127f; }

// Blue's sum of squares (ACM TOMS 4, 1978), which LAPACK's xNRM2 uses: what is below 2^-60 is summed scaled up by 2^90,
// what is 2^40 or more scaled down by 2^90, the rest as it is. Scaling is exact, and every square and every sum of up to
// 2^47 of them is a normal float:
//
//          elements            scaled             squares
//   low    [2^-149, 2^-60)     [2^-59, 2^30)      [2^-118, 2^60)
//   mid    [2^-60, 2^40)       as they are        [2^-120, 2^80)
//   high   [2^40, 2^128)       [2^-50, 2^38)      [2^-100, 2^76)
//
// So only the additions round, each by at most 2^-24 of the sum. NaN and infinity end in `high`, or in `mid` where the
// element has no other range, and make the sum not finite; nothing else does.
template <int RANGE> struct Squares {
    float low, mid, high;

    __device__ __forceinline__ Squares() : low(0.0f), mid(0.0f), high(0.0f) {}

    __device__ __forceinline__ void add(float x) {
        if constexpr (RANGE == element::WITHIN_FLOAT) {
            mid = fmaf(x, x, mid);
        } else {
            float a = fabsf(x);
            bool is_low = a < 0x1p-60f;
            bool is_high = !(a < 0x1p40f); // NaN too
            float l = is_low ? a * 0x1p90f : 0.0f;
            float m = is_low || is_high ? 0.0f : a;
            float h = is_high ? a * 0x1p-90f : 0.0f;
            low = fmaf(l, l, low);
            mid = fmaf(m, m, mid);
            high = fmaf(h, h, high);
        }
    }

    // Whether `add` would touch nothing but `mid`. Zero is said not to be, which costs nothing but time.
    static __device__ __forceinline__ bool is_mid(float x) {
        if constexpr (RANGE == element::WITHIN_FLOAT) return true;
        enum : unsigned { FROM = 0x21800000u, TO = 0x53800000u }; // 2^-60, 2^40
        return (__float_as_uint(x) & 0x7fffffffu) - FROM < TO - FROM;
    }

    // What `add` does, to the bit, for such an element.
    __device__ __forceinline__ void add_mid(float x) { mid = fmaf(x, x, mid); }

    __device__ __forceinline__ bool finite() const { return is_finite(mid) && is_finite(high); }

    // The root of the sum. What is left out or underflows is below 2^-30 of the sum: beside `high` (at least 2^80 as a
    // square) `low` is nothing. The last product rounds only where the norm itself is subnormal.
    __device__ __forceinline__ float norm() const {
        if (high > 0.0f) return sqrtf(high + mid * 0x1p-90f * 0x1p-90f) * 0x1p90f;
        if (mid > 0.0f) return sqrtf(mid + low * 0x1p-90f * 0x1p-90f);
        return sqrtf(low) * 0x1p-90f;
    }
};

// The sum over the warp, in every lane the same bits: a butterfly, whose two operands commute.
__device__ __forceinline__ float warp_sum(float x) {
    for (int mask = WARP / 2; mask > 0; mask /= 2) x += __shfl_xor_sync(ALL_LANES, x, mask);
    return x;
}

__device__ __forceinline__ double warp_sum(double x) {
    for (int mask = WARP / 2; mask > 0; mask /= 2) x += __shfl_xor_sync(ALL_LANES, x, mask);
    return x;
}

template <int RANGE> __device__ __forceinline__ Squares<RANGE> warp_sum(Squares<RANGE> sum) {
    sum.mid = warp_sum(sum.mid);
    if constexpr (RANGE != element::WITHIN_FLOAT) {
        sum.low = warp_sum(sum.low);
        sum.high = warp_sum(sum.high);
    }
    return sum;
}

// The least over the warp, in every lane.
__device__ __forceinline__ Index warp_min(Index x) {
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
        Index other = __shfl_xor_sync(ALL_LANES, x, mask);
        x = other < x ? other : x;
    }
    return x;
}

// The sums of N values each over the warp: a lane is left with that of value lane / (WARP / N), in as many shuffles as there are
// values, and one more for each halving of WARP / N, instead of five for each value.
template <int N, int MASK = WARP / 2> __device__ __forceinline__ float warp_sums(float *values, unsigned lane) {
    if constexpr (N > 1) {
        bool upper = lane & MASK;
#pragma unroll
        for (int i = 0; i < N / 2; ++i) {
            float sent = upper ? values[i] : values[i + N / 2], kept = upper ? values[i + N / 2] : values[i];
            values[i] = kept + __shfl_xor_sync(ALL_LANES, sent, MASK);
        }
        return warp_sums<N / 2, MASK / 2>(values, lane);
    } else if constexpr (MASK > 0) {
        values[0] += __shfl_xor_sync(ALL_LANES, values[0], MASK);
        return warp_sums<1, MASK / 2>(values, lane);
    }
    return values[0];
}
