// What the kernels of Lloyd's iteration share: the problem and its state, tiles of rows in registers, dots, the nearest centroid,
// deviations. Operands and tile are those of cluster.cu.
#pragma once
#include "common/points.cuh"

struct Problem {
    Index points, cols, min_size;
    double least_movement;
    unsigned clusters, rows, chunk, directions;
};
static_assert(sizeof(Problem) == 48, "as in src/gpu/cluster/launch.rs");

enum Status : unsigned { RUNNING, CONVERGED, SHORT };

struct State {
    unsigned status, steps, changed, arrived;
};
static_assert(sizeof(State) == 16, "as in src/gpu/cluster/launch.rs");

// The rows of a block, in shared memory.
struct Points {
    const Stored *row[MAX_ROWS];
    float power[MAX_ROWS], rest[MAX_ROWS];

    __device__ __forceinline__ void take(unsigned r, const Stored *from, const Scale &scale) {
        row[r] = from, power[r] = scale.power, rest[r] = scale.rest;
    }
};

enum { QUADS = VECTOR / 4, DOTS = TILE_ROWS * GROUP };
static_assert(GROUP == 4 && DOTS == 16, "a lane in two ends with one sum of a warp");
static_assert(TILE_ROWS <= SCORE_WARPS && TILE_ROWS <= STEP_WARPS, "a warp labels a row");
static_assert(MAX_ROWS <= WARP * SUM_WARPS && MAX_ROWS <= WARP * SCORE_WARPS, "a thread ranks a row");

// Columns of a matrix as threads take them, and the rows of a block.
struct Extent {
    unsigned vectors, quads, count;
    Index begin;

    __device__ __forceinline__ Extent(const Problem &problem, Index block)
        : vectors((unsigned)((problem.cols + VECTOR - 1) / VECTOR)), quads(vectors * QUADS), begin(block * problem.rows) {
        Index left = problem.points - begin;
        count = left < problem.rows ? (unsigned)left : problem.rows;
    }
};

// The block's rows; the last again up to a whole tile.
__device__ __forceinline__ void read_points(Points &points, const Stored *const *rows, const Scale *scales,
                                            const Extent &extent, unsigned thread, unsigned threads) {
    unsigned padded = (extent.count + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    for (unsigned r = thread; r < padded; r += threads) {
        Index p = extent.begin + (r < extent.count ? r : extent.count - 1);
        points.take(r, rows[p], scales[p]);
    }
}

// Vector `v` of a row; zeros stand for the columns from `cols` on.
__device__ __forceinline__ uint4 load_vector(const Stored *row, unsigned v, Index cols) {
    Index first = (Index)v * VECTOR;
    if (reinterpret_cast<Index>(row) % 16 == 0 && first + VECTOR <= cols)
        return *reinterpret_cast<const uint4 *>(row + first);
    union {
        Stored elements[VECTOR];
        uint4 bytes;
    } part;
#pragma unroll
    for (int e = 0; e < VECTOR; ++e) part.elements[e] = first + e < cols ? row[first + e] : (Stored)0;
    return part.bytes;
}

// TILE_ROWS rows, of each the vectors `v`, v + stride, ... of a thread; zeros where there is no row or no vector.
template <int SLOTS> struct Tile {
    uint4 bytes[TILE_ROWS][SLOTS];

    __device__ __forceinline__ void load(const Points &points, unsigned first, unsigned count, unsigned v,
                                         unsigned stride, unsigned vectors, Index cols) {
#pragma unroll
        for (int r = 0; r < TILE_ROWS; ++r)
#pragma unroll
            for (int s = 0; s < SLOTS; ++s)
                bytes[r][s] = first + r < count && v + s * stride < vectors
                                  ? load_vector(points.row[first + r], v + s * stride, cols)
                                  : make_uint4(0, 0, 0, 0);
    }
};

// Dots of the warp's columns of a tile with centroids j..j+GROUP (the last again where there are fewer), left in `dots`,
// [TILE_ROWS, pitch]: without a point's `rest`.
template <int SLOTS>
__device__ __forceinline__ void warp_dots(const Tile<SLOTS> &tile, const float *power, const float4 *centred, unsigned j,
                                          unsigned clusters, unsigned v, unsigned stride, unsigned vectors, float *dots,
                                          unsigned pitch) {
    float sums[DOTS] = {};
#pragma unroll
    for (int s = 0; s < SLOTS; ++s) {
        if (v + s * stride >= vectors) continue;
#pragma unroll
        for (int q = 0; q < QUADS; ++q) {
            float4 c[GROUP];
#pragma unroll
            for (int g = 0; g < GROUP; ++g) {
                unsigned row = j + g < clusters ? j + g : clusters - 1;
                c[g] = centred[(row * QUADS + q) * vectors + v + s * stride];
            }
#pragma unroll
            for (int r = 0; r < TILE_ROWS; ++r)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    float x = Elem::of(tile.bytes[r][s], 4 * q + e) * power[r];
#pragma unroll
                    for (int g = 0; g < GROUP; ++g) sums[r * GROUP + g] = fmaf(x, (&c[g].x)[e], sums[r * GROUP + g]);
                }
        }
    }
    unsigned lane = threadIdx.x, i = lane / 2;
    float sum = warp_sums<DOTS>(sums, lane);
    if (lane % 2 == 0) dots[i / GROUP * pitch + j + i % GROUP] = sum;
}

// Adds the deviations of four columns of a point from its centroid.
__device__ __forceinline__ void add_deviation(float4 &sum, const uint4 &bytes, int quad, float power, float rest,
                                              const float4 &mean, const float4 &centred) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
        float x = Elem::of(bytes, 4 * quad + e) * power;
        (&sum.x)[e] += fmaf(x, rest, -(&mean.x)[e]) - (&centred.x)[e];
    }
}

// A score and its centroid; the lower one, and of equal ones the lower centroid.
struct Best {
    double score;
    unsigned label;

    __device__ __forceinline__ Best() : score(0x1.fffffffffffffp1023), label(~0u) {}

    __device__ __forceinline__ void take(double other, unsigned from) {
        if (other < score || (other == score && from < label)) score = other, label = from;
    }
};

// The nearest centroid of a row: `dots` are those of the first warp with it, of the others `pitch` apart.
__device__ __forceinline__ unsigned nearest(const float *dots, unsigned warps, unsigned pitch, float rest,
                                            const double *offsets, unsigned clusters) {
    Best best;
    for (unsigned j = threadIdx.x; j < clusters; j += WARP) {
        float dot = 0.0f;
        for (unsigned w = 0; w < warps; ++w) dot += dots[w * pitch + j];
        best.take(offsets[j] - (double)rest * dot, j);
    }
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
        double score = __shfl_xor_sync(ALL_LANES, best.score, mask);
        best.take(score, __shfl_xor_sync(ALL_LANES, best.label, mask));
    }
    return best.label;
}

// Adds a tile to the thread's columns of the sums of its rows' clusters, each read and written once. `labels` are ~0 where there is no
// row.
template <int SLOTS>
__device__ __forceinline__ void add_tile(const Tile<SLOTS> &tile, const float *power, const float *rest, const unsigned *chosen,
                                         const float4 *mean, const float4 *centred, float4 *sums, unsigned v,
                                         unsigned stride, unsigned vectors) {
    unsigned labels[TILE_ROWS];
#pragma unroll
    for (int r = 0; r < TILE_ROWS; ++r) labels[r] = chosen[r];
#pragma unroll
    for (int r = 0; r < TILE_ROWS; ++r) {
        bool first = labels[r] != ~0u;
#pragma unroll
        for (int before = 0; before < r; ++before) first &= labels[before] != labels[r];
        if (!first) continue; // the same for the whole block
#pragma unroll
        for (int s = 0; s < SLOTS; ++s) {
            if (v + s * stride >= vectors) continue;
#pragma unroll
            for (int q = 0; q < QUADS; ++q) {
                unsigned slot = q * vectors + v + s * stride, at = labels[r] * QUADS * vectors + slot;
                float4 sum = sums[at], m = mean[slot], d = centred[at];
#pragma unroll
                for (int other = r; other < TILE_ROWS; ++other)
                    if (labels[other] == labels[r])
                        add_deviation(sum, tile.bytes[other][s], q, power[other], rest[other], m, d);
                sums[at] = sum;
            }
        }
    }
}

// Distance between rows of dots: an odd number of quads, so that the rows of a tile lie in different banks.
__device__ __forceinline__ unsigned dots_pitch(unsigned clusters) { return 4 * ((clusters + 3) / 4 | 1); }
