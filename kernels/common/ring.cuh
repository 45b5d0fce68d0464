// Products of tiles, [BLOCK_TOKENS, K] · [BLOCK_COLUMNS, K]ᵀ: rows by address, 64 columns a stage, through a ring in shared
// memory onto tensor cores. A block has WARPS warps, each with WARP_TOKENS x WARP_COLUMNS of the sums, in registers. A sum's
// terms and their order are the same in every tile.
#pragma once
#include "common/smem.cuh"
#include "common/terms.cuh"

enum { THREADS = WARP * WARPS, WARPS_ACROSS = BLOCK_COLUMNS / WARP_COLUMNS };
enum { TILES_DOWN = WARP_TOKENS / 16, TILES_ACROSS = WARP_COLUMNS / 8, STEPS = ROW_ELEMENTS / 16 };
enum { ROWS = BLOCK_TOKENS + BLOCK_COLUMNS }; // of both operands
enum { OPERAND = BLOCK_TOKENS * ROW_VECTORS, STAGE = ROWS * ROW_VECTORS }; // vectors of 16 bytes
static_assert(BLOCK_TOKENS / WARP_TOKENS * WARPS_ACROSS == WARPS, "a warp for every part of the tile");
static_assert(WARP_TOKENS % 16 == 0 && WARP_COLUMNS % 16 == 0, "a warp's part is whole fragments");
static_assert(OPERAND % THREADS == 0 && STAGE % THREADS == 0, "every thread copies as many vectors");
static_assert(BLOCK_COLUMNS % ROW_ELEMENTS == 0, "the swizzle of a tile that is stored stays in its row");

// Waits until a word is not zero.
__device__ __forceinline__ void wait_for(const unsigned *at) {
    while (ld_acquire(at) == 0) {
    }
}

typedef float Sums[TILES_DOWN][TILES_ACROSS][4];

__device__ __forceinline__ unsigned thread_of_block() { return threadIdx.y * WARP + threadIdx.x; }

// The part of a tile that is this warp's, and whether any of it is there.
struct Part {
    unsigned down, across;
    bool active;

    __device__ __forceinline__ Part(unsigned rows, unsigned columns) {
        down = threadIdx.y / WARPS_ACROSS * WARP_TOKENS;
        across = threadIdx.y % WARPS_ACROSS * WARP_COLUMNS;
        active = down < rows && across < columns;
    }
};

// One vector of a row, element by element; what is beyond the row is zero and not read.
__device__ __forceinline__ uint4 gather_vector(const Stored *row, Index at, Index cols) {
    unsigned words[4] = {};
#pragma unroll
    for (int e = 0; e < VECTOR; ++e)
        if (at + e < cols) words[e / 2] |= (unsigned)__ldg(row + at + e) << (16 * (e % 2));
    return make_uint4(words[0], words[1], words[2], words[3]);
}

// Columns start .. start + 64 of COUNT rows of an operand, past the registers where a row starts on 16 bytes; rows that are not
// there are zero.
template <int COUNT>
__device__ __forceinline__ void copy_rows(uint4 *tile, const Stored *const *sources, Index start, Index cols) {
#pragma unroll
    for (int pass = 0; pass < COUNT * ROW_VECTORS / THREADS; ++pass) {
        unsigned i = thread_of_block() + pass * THREADS, row = i / ROW_VECTORS, v = i % ROW_VECTORS;
        const Stored *source = sources[row];
        uint4 *to = swizzled(tile, row, v);
        Index at = start + v * VECTOR;
        if (source == nullptr || at >= cols) {
            *to = make_uint4(0, 0, 0, 0);
        } else if (reinterpret_cast<Index>(source) % 16 == 0) {
            Index there = (cols - at) * sizeof(Stored);
            cp_async_16(to, source + at, there < 16 ? (unsigned)there : 16u);
        } else {
            *to = gather_vector(source, at, cols);
        }
    }
}

// Fragments of 16 columns: of the warp's rows of the first operand, and of the second.
__device__ __forceinline__ void load_rows(uint4 (&rows)[TILES_DOWN], uint4 *a, unsigned step) {
#pragma unroll
    for (int m = 0; m < TILES_DOWN; ++m)
        rows[m] = ldmatrix_x4(swizzled(a, 16 * m + threadIdx.x % 16, 2 * step + threadIdx.x / 16));
}
__device__ __forceinline__ void load_columns(uint4 (&columns)[TILES_ACROSS / 2], uint4 *b, unsigned step) {
#pragma unroll
    for (int n = 0; n < TILES_ACROSS / 2; ++n)
        columns[n] =
            ldmatrix_x4(swizzled(b, 16 * n + threadIdx.x % 8 + threadIdx.x / 16 * 8, 2 * step + threadIdx.x / 8 % 2));
}

// Their product, of elements of KIND, for those 8 columns at a time whose bit is set.
template <typename KIND>
__device__ __forceinline__ void multiply(Sums &sums, const uint4 (&rows)[TILES_DOWN], const uint4 (&columns)[TILES_ACROSS / 2],
                                         unsigned which = ~0u) {
#pragma unroll
    for (int n = 0; n < TILES_ACROSS; ++n) {
        if (!(which >> n & 1)) continue;
        const uint4 &pair = columns[n / 2];
#pragma unroll
        for (int m = 0; m < TILES_DOWN; ++m) KIND::mma(sums[m][n], rows[m], n % 2 ? pair.z : pair.x, n % 2 ? pair.w : pair.y);
    }
}

// Adds the products of the rows at `sources` [ROWS], tokens first, along all `cols` columns. Leaves no copy under way; other threads
// may still read the ring.
__device__ __forceinline__ void multiply_rows(Sums &sums, uint4 *ring, const Stored *const *sources, Index cols,
                                              const Part &part) {
    unsigned stages = (unsigned)((cols + ROW_ELEMENTS - 1) / ROW_ELEMENTS);
    auto copy = [&](unsigned stage) {
        if (stage < stages) {
            copy_rows<ROWS>(ring + stage % STAGES * STAGE, sources, (Index)stage * ROW_ELEMENTS, cols);
        }
        cp_async_commit(); // perhaps of nothing, so that stages and groups of copies are in step
    };
    for (unsigned stage = 0; stage + 1 < STAGES; ++stage) copy(stage);
    for (unsigned stage = 0; stage < stages; ++stage) {
        cp_async_wait<STAGES - 2>();
        __syncthreads(); // this stage is there for all threads, and all have read the one before, which is filled next
        copy(stage + STAGES - 1);
        if (!part.active) continue;
        uint4 *a = ring + stage % STAGES * STAGE + part.down * ROW_VECTORS;
        uint4 *b = ring + stage % STAGES * STAGE + OPERAND + part.across * ROW_VECTORS;
        Index rest = cols - (Index)stage * ROW_ELEMENTS;
        unsigned steps = rest < ROW_ELEMENTS ? ((unsigned)rest + 15) / 16 : STEPS;
#pragma unroll
        for (unsigned step = 0; step < STEPS; ++step) {
            if (step >= steps) break;
            uint4 rows[TILES_DOWN], columns[TILES_ACROSS / 2];
            load_rows(rows, a, step);
            load_columns(columns, b, step);
            multiply<Elem>(sums, rows, columns);
        }
    }
}

// Rounds a tile and stores `rows` x `columns` of it, with `bias` added where there is one, by way of shared memory so that
// whole sectors are written. No thread reads the ring any more.
__device__ __forceinline__ void store_tile(const Sums &sums, uint4 *ring, Stored *to, Index ld, unsigned rows, unsigned columns,
                                           const Stored *bias, const Part &part) {
    enum { ACROSS = BLOCK_COLUMNS / VECTOR };
    unsigned g = threadIdx.x / 4, q = threadIdx.x % 4;
    auto place = [&](unsigned row, unsigned v) { return ring + row * ACROSS + (v ^ row % 8); };
#pragma unroll
    for (int n = 0; n < TILES_ACROSS; ++n) {
        unsigned column = part.across + 8 * n + 2 * q;
        float first = bias && column < columns ? Elem::widen(__ldg(bias + column)) : 0.0f;
        float second = bias && column + 1 < columns ? Elem::widen(__ldg(bias + column + 1)) : 0.0f;
#pragma unroll
        for (int m = 0; m < TILES_DOWN; ++m)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float2 pair = make_float2(sums[m][n][2 * half] + first, sums[m][n][2 * half + 1] + second);
                unsigned row = part.down + 16 * m + 8 * half + g;
                reinterpret_cast<Elem::Pair *>(place(row, column / VECTOR))[q] = Elem::narrow_pair(pair);
            }
    }
    __syncthreads(); // the whole tile is there before other threads store it
    bool vectors = reinterpret_cast<Index>(to) % 16 == 0 && ld % VECTOR == 0;
    for (unsigned i = thread_of_block(); i < rows * ACROSS; i += THREADS) {
        unsigned row = i / ACROSS, column = i % ACROSS * VECTOR;
        uint4 vector = *place(row, i % ACROSS);
        Stored *at = to + row * ld + column;
        if (vectors && column + VECTOR <= columns) {
            st_global_v4(at, vector);
        } else {
#pragma unroll
            for (unsigned e = 0; e < VECTOR; ++e)
                if (column + e < columns) at[e] = (Stored)((&vector.x)[e / 2] >> (16 * (e % 2)));
        }
    }
}
