// A static adapter merged into its base weight and taken out again, in place: the rows that it mixes, the solve, the update.
//
// Math (src/lowrank/mod.rs: P = sum_i a_i E_{S_i}, U = kappa (I_s x B))
//   merge     Z = P W;                      W += U Z
//   unmerge   Z = P W;  Z <- (I + P U)^-1 Z;  W -= U Z
//   rows      Z[j,:] = sum_i a_i W[S[i, order[j]],:]            order: that of the pivots, or none
//   solve     Z <- U^-1 L^-1 Z                                  L U: the rows of I + P U in that order, factored by the host
//   update    W[p m/s + c,:] += factor sum_d B[c,d] Z[p r/s + d,:]      for p < s; factor = kappa, or -kappa
// Operands, by address in Merge, rows ld_name apart
//   w         [m, n] of ELEMENT, any ld and alignment; what lies between rows is neither read nor written
//   skeleton  [k*r] of 32 bits, distinct, below m
//   order     [r] of 32 bits, a permutation, where the solve follows; else null
//   b         [m/s, r/s] of float                  gate      [k] of float
//   lu        [ld_lu, ld_lu] of double, columns one after the other, padded by an identity from r to ld_lu; the solve's only
//   z         [r, n] of double, at a multiple of 16 bytes; rows writes it whole, with one more column where n is odd
// Tile
//   WARPS          warps of a block of rows, which take a row of Z each, and of update
//   SOLVE_THREADS  of a block of solve, a column of Z each
//   PANEL          rows of Z that a thread of solve keeps in registers
//   DEPTH          of r/s, what a block of update has in shared memory at a time
//   A block of update owns 8*VECTOR columns of 1024/VECTOR rows of W, a thread 32/VECTOR rows of VECTOR columns.
// Launch (grids have one dimension), one after the other: W changes when Z is whole
//   lowrank_merge_rows     ceil(r/WARPS) * ceil(n/64) blocks of [32, WARPS] threads
//   lowrank_merge_solve    ceil(n/SOLVE_THREADS) blocks of SOLVE_THREADS threads; unmerge only
//   lowrank_merge_update   s * row_tiles * column_tiles blocks of [32, WARPS] threads
// Requires
//   m, n, r, k >= 1, each below 2^32; s divides m and r; ld_z and ld_lu even, ld_lu a multiple of PANEL. Two elements of W at
//   a time in rows, 16 bytes at a time in update where start and ld allow it, else one element at a time.
// Traffic
//   Least: W read and written once. Moved: rows reads the k*r chosen rows, once more than that, and writes 8 r n bytes. Solve
//   reads and writes Z once from memory; from the caches a panel reads all panels before it, r^2/PANEL n doubles in all, and L U
//   once a warp. Update reads and writes W once; Z once for each 1024/VECTOR rows, 8 r n bytes times ceil((m/s) / (1024/VECTOR)),
//   and B once for each 8*VECTOR columns, 4 m r/s bytes times ceil(n / (8*VECTOR)), both from the second cache. Shared memory
//   has no bank conflicts. Where the start or ld of W is no multiple of 16 bytes, update asks for a sector more than once, from
//   the caches, and writes it in pieces.
//   Arithmetic: m n r/s fused multiply-adds of double. At m = n = 4096, r = 32, s = 2, 0.27 G of them: 16 us of an H100 (17 T a
//   second), as much as the 64 MiB of a bf16 W, 22 us at 3 TB/s; at r = 128, 65 us.
// Numerics
//   u = 2^-53. Elements, B, the gate and kappa are floats: their products of two are exact in double. An entry of Z is k
//   roundings, components in order; the solve subtracts product by product, each rounded, and divides, k ascending and then
//   descending: both are the CPU's to the bit. The update: r/s fused multiply-adds from d = 0 on, then W is added, r/s + 1 roundings;
//   the CPU's order and fusing are those of its matrix product, so that the two differ by at most 2 (r/s + 1) u sum |factor B||Z| + u|W|,
//   and after storing only where that crosses a midpoint of two neighbouring values. Stored: double to float to ELEMENT, each to
//   nearest even, which is twice rounded, as on the CPU; beyond the range infinite, NaN stays NaN. Every element of W is read by the
//   one thread that writes it. Order: fixed by r and s, not by the tile.

#include "common/elem.cuh"

typedef unsigned long long Index;

struct Merge {
    Stored *w;
    const unsigned *skeleton, *order;
    const float *b, *gate;
    const double *lu;
    double *z;
    Index ld_w, ld_b, ld_lu, ld_z;
    double factor;
    unsigned rows, cols, rank, components, split;
    unsigned row_tiles, column_tiles, unused; // of one of the s parts, of update
};
static_assert(sizeof(Merge) == 128, "as in src/gpu/lowrank/merge.rs");

enum { WARP = 32, THREADS = WARP * WARPS };
enum { LANES = 8, ROW_LANES = WARP / LANES };                // of a warp of update, along a row of W and across rows
enum { OWN = 32 / VECTOR, COLUMNS = LANES * VECTOR, PAIRS = COLUMNS / 2, ROWS = WARPS * ROW_LANES * OWN };
enum { PITCH = (ROWS + 2) / 2 };                             // of B in shared memory, in pairs: see `load_b`
static_assert(ROWS == 1024 / VECTOR && OWN % 2 == 0, "as in src/gpu/variants/lowrank_merge.rs");
static_assert(DEPTH == 16, "what load_b deals out");
static_assert(PANEL % 2 == 0, "whole vectors of L U");

extern "C" __global__ void __launch_bounds__(THREADS) lowrank_merge_rows(const Merge merge) {
    unsigned tiles = (merge.cols + 2 * WARP - 1ull) / (2 * WARP);
    Index column = 2 * (Index)(blockIdx.x % tiles * WARP + threadIdx.x);
    Index row = (Index)(blockIdx.x / tiles) * WARPS + threadIdx.y;
    if (row >= merge.rank || column >= merge.cols) return;
    bool second = column + 1 < merge.cols;
    bool pairs = second && reinterpret_cast<Index>(merge.w) % sizeof(Elem::Pair) == 0 && merge.ld_w % 2 == 0;
    const unsigned *chosen = merge.skeleton + (merge.order ? __ldg(merge.order + row) : row);
    double2 sum = make_double2(0.0, 0.0);
#pragma unroll 4
    for (unsigned i = 0; i < merge.components; ++i) {
        const Stored *w = merge.w + __ldg(chosen + (Index)i * merge.rank) * merge.ld_w + column;
        double a = __ldg(merge.gate + i);
        float2 x = pairs ? Elem::widen_pair(*reinterpret_cast<const Elem::Pair *>(w))
                         : make_float2(Elem::widen(w[0]), second ? Elem::widen(w[1]) : 0.0f);
        sum.x = fma(a, (double)x.x, sum.x); // the product is exact: fused or not, the same
        sum.y = fma(a, (double)x.y, sum.y);
    }
    *reinterpret_cast<double2 *>(merge.z + row * merge.ld_z + column) = sum;
}

// rest[r] -= column[r] * x for rows [BEGIN, end) of a panel, rounded as the CPU rounds.
__device__ __forceinline__ void subtract(double (&rest)[PANEL], const double *column, double x, int begin, int end) {
#pragma unroll
    for (int r = 0; r < PANEL; r += 2) {
        if (r + 2 <= begin || r >= end) continue;
        double2 pair = __ldg(reinterpret_cast<const double2 *>(column + r));
        if (r >= begin) rest[r] = __dsub_rn(rest[r], __dmul_rn(pair.x, x));
        if (r + 1 < end) rest[r + 1] = __dsub_rn(rest[r + 1], __dmul_rn(pair.y, x));
    }
}

__device__ __forceinline__ void load_panel(double (&rest)[PANEL], const double *z, unsigned a, const Merge &merge) {
#pragma unroll
    for (unsigned r = 0; r < PANEL; ++r) rest[r] = a + r < merge.rank ? z[(a + r) * merge.ld_z] : 0.0;
}

__device__ __forceinline__ void store_panel(const double (&rest)[PANEL], double *z, unsigned a, const Merge &merge) {
#pragma unroll
    for (unsigned r = 0; r < PANEL; ++r)
        if (a + r < merge.rank) z[(a + r) * merge.ld_z] = rest[r];
}

extern "C" __global__ void __launch_bounds__(SOLVE_THREADS) lowrank_merge_solve(const Merge merge) {
    Index column = (Index)blockIdx.x * SOLVE_THREADS + threadIdx.x;
    if (column >= merge.cols) return;
    double *z = merge.z + column;
    double rest[PANEL];
    for (unsigned a = 0; a < merge.ld_lu; a += PANEL) {
        load_panel(rest, z, a, merge);
        const double *lu = merge.lu + a;
#pragma unroll 4
        for (unsigned b = 0; b < a; ++b) subtract(rest, lu + b * merge.ld_lu, z[b * merge.ld_z], 0, PANEL);
#pragma unroll
        for (int r = 0; r < PANEL - 1; ++r) subtract(rest, lu + (a + r) * merge.ld_lu, rest[r], r + 1, PANEL);
        store_panel(rest, z, a, merge);
    }
    for (unsigned a = merge.ld_lu; a > 0;) {
        a -= PANEL;
        load_panel(rest, z, a, merge);
        const double *lu = merge.lu + a;
#pragma unroll 4
        for (unsigned b = merge.rank; b > a + PANEL;) {
            --b;
            subtract(rest, lu + b * merge.ld_lu, z[b * merge.ld_z], 0, PANEL);
        }
#pragma unroll
        for (int r = PANEL - 1; r >= 0; --r) {
            const double *known = lu + (a + r) * merge.ld_lu;
            rest[r] /= __ldg(known + r);
            subtract(rest, known, rest[r], 0, r);
        }
        store_panel(rest, z, a, merge);
    }
}

// What a block of update owns, and where a thread's share begins.
struct Tile {
    Index row, column;         // the first, of W
    unsigned part, p;          // m/s, and which of the s
    unsigned first, count;     // rows of the part from `first` on
    unsigned columns;          // that there are
    unsigned lane, row_lane;   // along a row, across rows
    __device__ __forceinline__ Tile(const Merge &merge) {
        unsigned rest = blockIdx.x / merge.column_tiles;
        part = merge.rows / merge.split;
        p = rest / merge.row_tiles;
        first = rest % merge.row_tiles * ROWS;
        count = part - first < ROWS ? part - first : ROWS;
        row = (Index)p * part + first;
        column = (Index)(blockIdx.x % merge.column_tiles) * COLUMNS;
        columns = merge.cols - column < COLUMNS ? merge.cols - column : COLUMNS;
        lane = threadIdx.x % LANES;
        row_lane = threadIdx.x / LANES;
    }
};

// Of the block's rows, a thread's row `own`. Neighbours are a pair in shared memory, of all lanes across rows 64 bytes.
__device__ __forceinline__ unsigned own_row(const Tile &tile, int own) {
    return threadIdx.y * ROW_LANES * OWN + own / 2 * 2 * ROW_LANES + tile.row_lane * 2 + own % 2;
}

// Of the block's columns, the first of a lane's pair q: VECTOR in a row where they are loaded at once, else pairs of
// neighbouring lanes side by side.
template <bool VECTORS> __device__ __forceinline__ unsigned own_column(unsigned lane, unsigned q) {
    return VECTORS ? lane * VECTOR + 2 * q : (q * LANES + lane) * 2;
}

// factor * B for the block's rows, zero past the last, [DEPTH, 2*PITCH]. Eight entries of each of two rows are written by half
// a warp: with 2*PITCH = 2 modulo 16, to sixteen different pairs of banks.
__device__ __forceinline__ void load_b(double2 (&to)[DEPTH][PITCH], const Tile &tile, unsigned d0, unsigned count,
                                       const Merge &merge) {
    const float *b = merge.b + tile.first * merge.ld_b + d0;
    for (unsigned i = threadIdx.y * WARP + threadIdx.x; i < ROWS * DEPTH; i += THREADS) {
        unsigned row = i / WARP * 2 + i / 8 % 2, d = i % 8 + i / 16 % 2 * 8;
        bool there = row < tile.count && d < count;
        double x = there ? merge.factor * (double)__ldg(b + row * merge.ld_b + d) : 0.0;
        reinterpret_cast<double *>(to[d])[row] = x;
    }
}

// Z for the block's columns, a lane's pair q at q*LANES + lane, zero past the last.
template <bool VECTORS>
__device__ __forceinline__ void load_z(double2 (&to)[DEPTH][PAIRS], const Tile &tile, unsigned d0, unsigned count,
                                       const Merge &merge) {
    const double *z = merge.z + ((Index)tile.p * (merge.rank / merge.split) + d0) * merge.ld_z + tile.column;
    for (unsigned i = threadIdx.y * WARP + threadIdx.x; i < count * PAIRS; i += THREADS) {
        unsigned d = i / PAIRS, place = i % PAIRS, column = own_column<VECTORS>(place % LANES, place / LANES);
        to[d][place] = VECTORS || column < tile.columns
                           ? __ldg(reinterpret_cast<const double2 *>(z + d * merge.ld_z + column))
                           : make_double2(0.0, 0.0);
    }
}

__device__ __forceinline__ uint4 pack(const unsigned (&x)[4]) { return make_uint4(x[0], x[1], x[2], x[3]); }

__device__ __forceinline__ uint4 pack(const float2 (&x)[2]) {
    return make_uint4(__float_as_uint(x[0].x), __float_as_uint(x[0].y), __float_as_uint(x[1].x), __float_as_uint(x[1].y));
}

// A thread's sums added to its share of W.
template <bool VECTORS>
__device__ __forceinline__ void add(const double (&sums)[OWN][VECTOR], const Tile &tile, const Merge &merge) {
#pragma unroll
    for (int own = 0; own < OWN; ++own) {
        unsigned row = own_row(tile, own);
        if (row >= tile.count) continue;
        Stored *w = merge.w + (tile.row + row) * merge.ld_w + tile.column;
        if constexpr (VECTORS) {
            uint4 bytes = load_vector(w + tile.lane * VECTOR);
            Elem::Pair pairs[VECTOR / 2];
#pragma unroll
            for (int e = 0; e < VECTOR; e += 2)
                pairs[e / 2] = Elem::narrow_pair(make_float2((float)((double)Elem::of(bytes, e) + sums[own][e]),
                                                             (float)((double)Elem::of(bytes, e + 1) + sums[own][e + 1])));
            *reinterpret_cast<uint4 *>(w + tile.lane * VECTOR) = pack(pairs);
        } else {
#pragma unroll
            for (int e = 0; e < VECTOR; ++e) {
                unsigned column = own_column<false>(tile.lane, e / 2) + e % 2;
                if (column < tile.columns)
                    w[column] = Elem::narrow((float)((double)Elem::widen(w[column]) + sums[own][e]));
            }
        }
    }
}

template <bool VECTORS>
__device__ __forceinline__ void update(double2 (&b)[DEPTH][PITCH], double2 (&z)[DEPTH][PAIRS], const Tile &tile,
                                       const Merge &merge) {
    double sums[OWN][VECTOR] = {};
    unsigned depth = merge.rank / merge.split;
    for (unsigned d0 = 0; d0 < depth; d0 += DEPTH) {
        unsigned count = depth - d0 < DEPTH ? depth - d0 : DEPTH;
        __syncthreads(); // every warp is done with what was there before
        load_b(b, tile, d0, count, merge);
        load_z<VECTORS>(z, tile, d0, count, merge);
        __syncthreads(); // B and Z are there before any warp reads what others loaded
#pragma unroll 2
        for (unsigned d = 0; d < count; ++d) {
            double2 x[VECTOR / 2];
#pragma unroll
            for (int q = 0; q < VECTOR / 2; ++q) x[q] = z[d][q * LANES + tile.lane];
#pragma unroll
            for (int own = 0; own < OWN; own += 2) {
                double2 f = b[d][own_row(tile, own) / 2];
#pragma unroll
                for (int q = 0; q < VECTOR / 2; ++q) {
                    sums[own][2 * q] = fma(f.x, x[q].x, sums[own][2 * q]);
                    sums[own][2 * q + 1] = fma(f.x, x[q].y, sums[own][2 * q + 1]);
                    sums[own + 1][2 * q] = fma(f.y, x[q].x, sums[own + 1][2 * q]);
                    sums[own + 1][2 * q + 1] = fma(f.y, x[q].y, sums[own + 1][2 * q + 1]);
                }
            }
        }
    }
    add<VECTORS>(sums, tile, merge);
}

// Two blocks a multiprocessor: while one waits for W, the other computes.
extern "C" __global__ void __launch_bounds__(THREADS, 2) lowrank_merge_update(const Merge merge) {
    __shared__ double2 b[DEPTH][PITCH];
    __shared__ double2 z[DEPTH][PAIRS];
    Tile tile(merge);
    bool aligned = reinterpret_cast<Index>(merge.w) % 16 == 0 && merge.ld_w % VECTOR == 0;
    if (aligned && tile.columns == COLUMNS) update<true>(b, z, tile, merge);
    else update<false>(b, z, tile, merge);
}
