// Products of tiles, [ROWS, K] · [K, COLUMNS], both operands row-major: 64 of K a stage, through a ring in shared memory onto
// tensor cores, the second operand transposed on its way out of it. A warp has 64 x 32 of the sums, in registers.
#pragma once
#include "common/reduce.cuh"
#include "common/smem.cuh"

enum { WARP_ROWS = 64, WARP_COLUMNS = 32, TILES_DOWN = WARP_ROWS / 16, TILES_ACROSS = WARP_COLUMNS / 8 };
enum { STAGE_DEPTH = ROW_ELEMENTS, STEPS = STAGE_DEPTH / 16 };

typedef float Sums[TILES_DOWN][TILES_ACROSS][4];

__device__ __forceinline__ unsigned thread_of_block() { return threadIdx.y * WARP + threadIdx.x; }

// Up to VECTOR.
__device__ __forceinline__ unsigned of_vector(Index rest) { return rest < VECTOR ? (unsigned)rest : VECTOR; }

// A vector of which `there` elements are there, past the registers where it starts on 16 bytes; the others are zero and not
// read.
__device__ __forceinline__ void copy_vector(uint4 *to, const Stored *from, unsigned there) {
    if (there == 0) {
        *to = make_uint4(0, 0, 0, 0);
    } else if (reinterpret_cast<Index>(from) % 16 == 0) {
        cp_async_16(to, from, there * (unsigned)sizeof(Stored));
    } else {
        unsigned words[4] = {};
#pragma unroll
        for (unsigned e = 0; e < VECTOR; ++e)
            if (e < there) words[e / 2] |= (unsigned)from[e] << (16 * (e % 2));
        *to = make_uint4(words[0], words[1], words[2], words[3]);
    }
}

template <int ROWS, int COLUMNS> struct Ring {
    enum { WARPS_ACROSS = COLUMNS / WARP_COLUMNS, THREADS = ROWS / WARP_ROWS * WARPS_ACROSS * WARP };
    enum { ACROSS = COLUMNS / VECTOR }; // vectors of a row of the second operand, and of the result
    enum { FIRST = ROWS * ROW_VECTORS, SECOND = STAGE_DEPTH * ACROSS, STAGE = FIRST + SECOND };
    static_assert(ROWS % WARP_ROWS == 0 && COLUMNS % WARP_COLUMNS == 0, "a warp for every part of the tile");
    static_assert(ACROSS % 8 == 0, "eight rows, or eight vectors of a row, meet every bank once");
    static_assert(ROWS * ACROSS <= STAGES * STAGE, "the result fits the ring");

    // A thread copies the same vector of several rows, FIRST_ROWS or SECOND_ROWS apart: the swizzle is the same in all of them.
    enum { FIRST_ROWS = THREADS / ROW_VECTORS, SECOND_ROWS = THREADS / ACROSS };
    static_assert(FIRST_ROWS % 8 == 0 && SECOND_ROWS % 8 == 0, "as many bits as the swizzle takes");

    // Where this warp's part of the tile starts, and whether any of it is there.
    unsigned down, across;
    bool active;
    // Vectors of the stage where this thread's copies of either operand start.
    unsigned to_first, to_second;

    __device__ __forceinline__ Ring(uint4 *ring, unsigned rows, unsigned columns) {
        down = threadIdx.y / WARPS_ACROSS * WARP_ROWS;
        across = threadIdx.y % WARPS_ACROSS * WARP_COLUMNS;
        active = down < rows && across < columns;
        to_first = (unsigned)(swizzled(ring, first_row(), first_vector()) - ring);
        to_second = FIRST + (unsigned)(place(ring, second_row(), second_vector()) - ring);
    }

    static __device__ __forceinline__ unsigned first_row() { return thread_of_block() / ROW_VECTORS; }
    static __device__ __forceinline__ unsigned first_vector() { return thread_of_block() % ROW_VECTORS; }
    static __device__ __forceinline__ unsigned second_row() { return thread_of_block() / ACROSS; }
    static __device__ __forceinline__ unsigned second_vector() { return thread_of_block() % ACROSS; }

    // Vector `v` of a row of the second operand, or of the result.
    static __device__ __forceinline__ uint4 *place(uint4 *tile, unsigned row, unsigned v) {
        return tile + row * ACROSS + (v ^ row % 8);
    }

    // A stage all of which is there, every vector on 16 bytes, from this thread's first vector of either operand on.
    __device__ __forceinline__ void copy_whole(uint4 *stage, const Stored *first, Index ld_first, const Stored *second,
                                               Index ld_second) const {
#pragma unroll
        for (unsigned pass = 0; pass < FIRST / THREADS; ++pass, first += FIRST_ROWS * ld_first)
            cp_async_16(stage + to_first + pass * THREADS, first);
#pragma unroll
        for (unsigned pass = 0; pass < SECOND / THREADS; ++pass, second += SECOND_ROWS * ld_second)
            cp_async_16(stage + to_second + pass * THREADS, second);
    }

    // Columns start .. start + 64 of the first operand, which has `rows` rows here and `depth` columns.
    __device__ __forceinline__ void copy_first(uint4 *stage, const Stored *from, Index ld, unsigned rows, Index start,
                                               Index depth) const {
        Index column = start + first_vector() * VECTOR;
        unsigned there = column < depth ? of_vector(depth - column) : 0;
        from += first_row() * ld + column;
#pragma unroll 1 // this is for edges: small rather than fast
        for (unsigned pass = 0; pass < FIRST / THREADS; ++pass, from += FIRST_ROWS * ld)
            copy_vector(stage + to_first + pass * THREADS, from, first_row() + pass * FIRST_ROWS < rows ? there : 0);
    }

    // Rows start .. start + 64 of the second operand, which has `depth` of them, each `columns` wide here; those of `chosen`
    // where there is such a list.
    __device__ __forceinline__ void copy_second(uint4 *stage, const Stored *from, Index ld, unsigned columns, Index start,
                                                Index depth, const unsigned *chosen) const {
        unsigned column = second_vector() * VECTOR;
        unsigned there = column < columns ? of_vector(columns - column) : 0;
        Index k = start + second_row();
#pragma unroll
        for (unsigned pass = 0; pass < SECOND / THREADS; ++pass, k += SECOND_ROWS) {
            Index row = chosen && k < depth ? __ldg(chosen + k) : k;
            copy_vector(stage + to_second + pass * THREADS, from + row * ld + column, k < depth ? there : 0);
        }
    }

    // Adds the products of `steps` times 16 of K.
    __device__ __forceinline__ void multiply(Sums &sums, uint4 *stage, unsigned steps) const {
        uint4 *first = stage + down * ROW_VECTORS, *second = stage + FIRST;
#pragma unroll
        for (unsigned step = 0; step < STEPS; ++step) {
            if (step >= steps) break;
            uint4 rows[TILES_DOWN], columns[TILES_ACROSS / 2];
#pragma unroll
            for (int m = 0; m < TILES_DOWN; ++m)
                rows[m] = ldmatrix_x4(swizzled(first, 16 * m + threadIdx.x % 16, 2 * step + threadIdx.x / 16));
#pragma unroll
            for (int n = 0; n < TILES_ACROSS / 2; ++n)
                columns[n] = ldmatrix_x4_trans(
                    place(second, 16 * step + threadIdx.x % 16, across / VECTOR + 2 * n + threadIdx.x / 16));
#pragma unroll
            for (int m = 0; m < TILES_DOWN; ++m)
#pragma unroll
                for (int n = 0; n < TILES_ACROSS; ++n) {
                    const uint4 &pair = columns[n / 2];
                    Elem::mma(sums[m][n], rows[m], n % 2 ? pair.z : pair.x, n % 2 ? pair.w : pair.y);
                }
        }
    }

    // Rounds the sums, with `add` added before where there is one, and stores `rows` x `columns` of them, by way of shared
    // memory so that whole sectors are read and written. `add` may be `to`. No thread reads the ring any more.
    __device__ __forceinline__ void store(const Sums &sums, uint4 *ring, Stored *to, Index ld, unsigned rows, unsigned columns,
                                          const Stored *add, Index ld_add) const {
        unsigned first = second_row(), v = second_vector();
        unsigned there = v * VECTOR < columns ? of_vector(columns - v * VECTOR) : 0;
        if (add) {
            for (unsigned row = first; row < ROWS; row += SECOND_ROWS)
                copy_vector(place(ring, row, v), add + row * ld_add + v * VECTOR, row < rows ? there : 0);
            cp_async_wait_all();
            __syncthreads(); // all of what is added is there for all threads
        }
        unsigned g = threadIdx.x / 4, q = threadIdx.x % 4;
#pragma unroll
        for (int n = 0; n < TILES_ACROSS; ++n)
#pragma unroll
            for (int m = 0; m < TILES_DOWN; ++m)
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    unsigned row = down + 16 * m + 8 * half + g;
                    Elem::Pair *at = reinterpret_cast<Elem::Pair *>(place(ring, row, across / VECTOR + n)) + q;
                    float2 pair = make_float2(sums[m][n][2 * half], sums[m][n][2 * half + 1]);
                    if (add) {
                        float2 more = Elem::widen_pair(*at);
                        pair = make_float2(pair.x + more.x, pair.y + more.y);
                    }
                    *at = Elem::narrow_pair(pair);
                }
        __syncthreads(); // the whole tile is there before other threads store it
        to += v * VECTOR;
        bool whole = there == VECTOR && reinterpret_cast<Index>(to) % 16 == 0 && ld % VECTOR == 0;
        for (unsigned row = first; row < rows; row += SECOND_ROWS) {
            uint4 vector = *place(ring, row, v);
            if (whole) {
                st_global_v4(to + row * ld, vector);
            } else {
#pragma unroll
                for (unsigned e = 0; e < VECTOR; ++e)
                    if (e < there) to[row * ld + e] = (Stored)((&vector.x)[e / 2] >> (16 * (e % 2)));
            }
        }
    }
};
