// A vector of doubles in shared memory, and its products with rows of ELEMENT, a warp each. A block has WARPS warps.
#pragma once
#include "common/elem.cuh"
#include "common/reduce.cuh"

// Where a column of q lies in shared memory: columns that are neighbours in a lane's vector lie PITCH apart and those of
// neighbouring lanes side by side, so that a warp reads without conflicts whatever the alignment of its row.
enum { CHUNK = WARP * VECTOR, PITCH = WARP + 1, CHUNK_PITCH = CHUNK + WARP / 2 };
static_assert(VECTOR * PITCH <= CHUNK_PITCH, "a chunk fits");

__device__ __forceinline__ unsigned place(unsigned column) {
    return column / CHUNK * CHUNK_PITCH + column % VECTOR * PITCH + column / VECTOR % WARP;
}

// Columns of q into shared memory, in an order that keeps the writes free of conflicts and the reads in whole sectors.
__device__ __forceinline__ void stage(double *shared, const double *q, unsigned columns) {
    unsigned lane = threadIdx.x;
    for (unsigned turn = threadIdx.y; turn / VECTOR * CHUNK < columns; turn += WARPS) {
        unsigned unit = turn % VECTOR + lane / VECTOR * VECTOR;
        unsigned column = turn / VECTOR * CHUNK + unit * VECTOR + lane % VECTOR;
        if (column < columns) shared[place(column)] = q[column];
    }
}

// <q, row> over the columns that are staged; in every lane. A column's lane does not depend on the row's alignment, so that
// equal rows tie; only how it is loaded does.
__device__ __forceinline__ double dot(const double *q, const Stored *row, unsigned columns) {
    unsigned column = threadIdx.x * VECTOR;
    unsigned whole = to_vector(row) == 0 ? columns / VECTOR * VECTOR : 0;
    double even = 0.0, odd = 0.0;
    q += threadIdx.x;
#pragma unroll 4
    for (; column < whole; column += CHUNK, q += CHUNK_PITCH) {
        uint4 bytes = load_vector(row + column);
#pragma unroll
        for (int e = 0; e < VECTOR; e += 2) {
            even = fma((double)Elem::of(bytes, e), q[e * PITCH], even);
            odd = fma((double)Elem::of(bytes, e + 1), q[(e + 1) * PITCH], odd);
        }
    }
    for (; column < columns; column += CHUNK, q += CHUNK_PITCH) {
#pragma unroll
        for (int e = 0; e < VECTOR; e += 2) {
            if (column + e < columns) even = fma((double)Elem::widen(row[column + e]), q[e * PITCH], even);
            if (column + e + 1 < columns) odd = fma((double)Elem::widen(row[column + e + 1]), q[(e + 1) * PITCH], odd);
        }
    }
    return warp_sum(even + odd);
}
