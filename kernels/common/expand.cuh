// The adapter's expansion, window by window: the update (kappa B) z on tensor cores, from the terms of z that shrink.cuh
// leaves, and adding it to Y0. The operands are those of lowrank.cu.
#pragma once
#include "common/shrink.cuh"

// A window is 64 bytes of every sub-row; in shared memory by itself, [16*ROW_TILES, STAGE_PITCH].
enum { WINDOW = 64 / (int)sizeof(Stored), COLUMN_TILES = WINDOW / 8, STAGE_PITCH = sizeof(Stored) == 4 ? 24 : 40 };

// Whether sub-rows start on 16 bytes.
__device__ __forceinline__ bool aligned(const Stored *start, Index ld, unsigned part) {
    return reinterpret_cast<Index>(start) % 16 == 0 && ld % VECTOR == 0 && part % VECTOR == 0;
}

// Four neighbours in r/s, from d, of row column + 8n + lane/4 of B, for each n; zero outside.
__device__ __forceinline__ void load_b(float4 (&values)[COLUMN_TILES], const Module &module, bool whole, unsigned column,
                                       unsigned d, const Block &block) {
    unsigned c = column + block.lane / 4;
    d += block.lane % 4 * 4;
    const float *at = module.b + c * module.ld_b + d;
    if (whole) { // one block of code, so that all loads are on their way before the first is waited for
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; ++n, at += 8 * module.ld_b) values[n] = __ldg(reinterpret_cast<const float4 *>(at));
        return;
    }
#pragma unroll
    for (int n = 0; n < COLUMN_TILES; ++n, at += 8 * module.ld_b) {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e)
            (&values[n].x)[e] = c + 8 * n < block.part && d + e < block.depth ? __ldg(at + e) : 0.0f;
    }
}

// The update of a window [16*ROW_TILES sub-rows, WINDOW], whose rows of B `load(values, d)` loads.
template <int ROW_TILES, class Load>
__device__ __forceinline__ void multiply_by(Tile<TERMS> (&update)[ROW_TILES][COLUMN_TILES], Load load, float scale,
                                            unsigned group, const Block &block, const Shape &shape) {
    const unsigned short *z = shared_at<unsigned short>(shape.terms) + group / 16 * block.steps * STEP + block.lane * FRAGMENT;
    float4 values[COLUMN_TILES];
    load(values, 0);
    for (unsigned step = 0; step < block.steps; ++step, z += STEP) {
        unsigned terms[COLUMN_TILES][TERMS][2];
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; ++n) {
            unsigned first[TERMS], second[TERMS];
            split_pair(scale * values[n].x, scale * values[n].y, first);
            split_pair(scale * values[n].z, scale * values[n].w, second);
#pragma unroll
            for (int i = 0; i < TERMS; ++i) {
                terms[n][i][0] = first[i];
                terms[n][i][1] = second[i];
            }
        }
        if (step + 1 < block.steps) load(values, 16 * (step + 1));
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m) {
            uint4 of_z[TERMS];
#pragma unroll
            for (int i = 0; i < TERMS; ++i)
                of_z[i] = *reinterpret_cast<const uint4 *>(z + i * shape.term_stride + m * block.steps * STEP);
#pragma unroll
            for (int n = 0; n < COLUMN_TILES; ++n) update[m][n].add(of_z, terms[n]);
        }
    }
}

// The update of the window whose first column is `column`.
template <int ROW_TILES>
__device__ __forceinline__ void multiply(Tile<TERMS> (&update)[ROW_TILES][COLUMN_TILES], const Module &module,
                                         unsigned group, unsigned column, const Block &block, const Shape &shape) {
    bool whole = reinterpret_cast<Index>(module.b) % 16 == 0 && module.ld_b % 4 == 0 && block.depth % 16 == 0 &&
                 column + WINDOW <= block.part;
    auto load = [&](float4(&values)[COLUMN_TILES], unsigned d) { load_b(values, module, whole, column, d, block); };
    multiply_by(update, load, module.scale, group, block, shape);
}

// y0 + update; with no update y0's bits, the sign of its zero too.
__device__ __forceinline__ float plus(float y0, float update) { return update == 0.0f ? y0 : y0 + update; }

// Adds the update, and the bias where it is separate, to a window [rows, count] in shared memory, where a row has an even
// number of columns.
template <int ROW_TILES>
__device__ __forceinline__ void add(Stored *window, unsigned pitch, const Tile<TERMS> (&update)[ROW_TILES][COLUMN_TILES],
                                    const Stored *bias, unsigned group, unsigned rows, unsigned count, const Block &block,
                                    const Shape &shape) {
    unsigned g = block.lane / 4, q = block.lane % 4;
    window += g * pitch + 2 * q;
    float2 y[2 * ROW_TILES][COLUMN_TILES];
#pragma unroll
    for (int half = 0; half < 2 * ROW_TILES; ++half) {
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; ++n) {
            Elem::Pair pair = {};
            if (8 * half + g < rows && 8 * n + 2 * q < count)
                pair = *reinterpret_cast<const Elem::Pair *>(window + 8 * half * pitch + 8 * n);
            y[half][n] = Elem::widen_pair(pair);
        }
    }
    if (shape.bias_kind == SEPARATE) {
#pragma unroll
        for (int half = 0; half < 2 * ROW_TILES; ++half) {
            const Stored *of_row = bias + (group + 8 * half + g) % shape.split * block.part;
#pragma unroll
            for (int n = 0; n < COLUMN_TILES; ++n) {
                unsigned c = 8 * n + 2 * q;
                if (c < count) y[half][n].x += Elem::widen(__ldg(of_row + c));
                if (c + 1 < count) y[half][n].y += Elem::widen(__ldg(of_row + c + 1));
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2 * ROW_TILES; ++half) {
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; ++n) {
            float2 sum = make_float2(plus(y[half][n].x, update[half / 2][n].at(half % 2 * 2)),
                                     plus(y[half][n].y, update[half / 2][n].at(half % 2 * 2 + 1)));
            if (8 * half + g < rows && 8 * n + 2 * q < count)
                *reinterpret_cast<Elem::Pair *>(window + 8 * half * pitch + 8 * n) = Elem::narrow_pair(sum);
        }
    }
}

// Which vector of a window a lane copies, 8 rows at a time: the 8 lanes that shared memory serves together have 8 different
// groups of 4 banks, for pitches that are odd multiples of 16 bytes, of 32 for float.
__device__ __forceinline__ unsigned window_row(unsigned lane) {
    return VECTOR == 8 ? lane % 8 : lane % 8 / 2 + lane / 16 * 4;
}
__device__ __forceinline__ unsigned window_vector(unsigned lane) {
    return VECTOR == 8 ? lane / 8 : lane / 8 % 2 * 2 + lane % 2;
}

// Copies a window between shared and device memory: sub-row i is `count` elements at memory + starts[i].
template <bool TO_SHARED, typename Memory>
__device__ __forceinline__ void copy_window(Stored *window, unsigned pitch, Memory *memory, const Index *starts, bool vectors,
                                            unsigned rows, unsigned count, unsigned lane) {
    if (vectors) {
        unsigned c = window_vector(lane) * VECTOR;
        if (c >= count) return;
        for (unsigned row = window_row(lane); row < rows; row += 8) {
            if constexpr (TO_SHARED) cp_async_16(window + row * pitch + c, memory + starts[row] + c);
            else
                *reinterpret_cast<uint4 *>(memory + starts[row] + c) =
                    *reinterpret_cast<const uint4 *>(window + row * pitch + c);
        }
    } else if (lane < (TO_SHARED ? count + count % 2 : count)) { // see `add`
        for (unsigned row = 0; row < rows; ++row) {
            if constexpr (TO_SHARED) window[row * pitch + lane] = lane < count ? memory[starts[row] + lane] : Stored(0);
            else memory[starts[row] + lane] = window[row * pitch + lane];
        }
    }
}
