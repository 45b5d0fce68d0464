// What the tiers of pivoted QR share: a group's limits, and what is still to be done with it.
#pragma once
#include "common/reduce.cuh"

// `Phase` of src/gpu/qr/mod.rs.
enum Phase : unsigned { DONE = 0, GREEDY = 1, FORCED = 2 };

// No step, no row.
enum : unsigned { NONE = ~0u };

// `Limits` of src/gpu/qr/mod.rs.
struct Limits {
    double tolerance, rounding, largest;
    Index rank;
};
static_assert(sizeof(Limits) == 32, "as in src/gpu/qr/mod.rs");

// Rows from `first` on, of one group: what a block takes.
struct RowTile {
    unsigned group, first;
};

// Whether a squared residual is good enough to be reported: its root is then good to 2^-11 of itself.
__device__ __forceinline__ bool trusted(double square, double margin) { return square > 1024.0 * margin; }

// A candidate for the next pivot.
struct Leader {
    double square;
    unsigned row;

    // Longer first, ties to the lowest row.
    __device__ __forceinline__ bool behind(const Leader &other) const {
        return other.square > square || (other.square == square && other.row < row);
    }
};

__device__ __forceinline__ Leader warp_leader(Leader best) {
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
        Leader other = {__shfl_xor_sync(ALL_LANES, best.square, mask), __shfl_xor_sync(ALL_LANES, best.row, mask)};
        if (best.behind(other)) best = other;
    }
    return best;
}
