// Tiles of rows in shared memory: 128 bytes of a row, eight vectors of 16 bytes, by a swizzle without bank conflicts.
#pragma once
#include "common/elem.cuh"

enum { ROW_VECTORS = 8, ROW_ELEMENTS = ROW_VECTORS * VECTOR };

// Vector `v` of row `row` of a tile. Eight lanes that write the vectors of one row, and eight that read the same vector of
// eight rows (ldmatrix), meet every bank once.
__device__ __forceinline__ uint4 *swizzled(uint4 *tile, unsigned row, unsigned v) {
    return tile + row * ROW_VECTORS + (v ^ row % ROW_VECTORS);
}
