// Lloyd's steps: the nearest centroid of every point, fused with the sums of the next centroids.
//
// Math
//   score[p,j] = |d_j|^2 / 2 + <mean, d_j> - <x_p, d_j>,  d_j = c_j - mean: half a squared distance, less a term of p alone
//   label[p]   = argmin_j score[p,j], the lowest j of equal ones
//   c_j       += (sum of x_p - c_j over the points with label j) / how many there are, of unit length for directions
// Operands
//   rows      [points] addresses of rows of ELEMENT; scales [points] of Scale: x = (w * power) * rest
//   mean      [columns] of float: of all points, fixed
//   centred   [clusters, columns] of float: the d_j, which with `mean` are the centroids; offsets [clusters] of double:
//             what a score has besides the dot
//   labels    [points] of 32 bits: of the step before; next: of this one
//   partial   [blocks, clusters, columns] of float: sums of deviations over the rows of a block
//   sizes     [clusters] of 32 bits, arrivals [clusters] of 32 bits, state: zero before the first step, left so by an update
//   means     [clusters, columns] of double, movements [clusters] of double: scratch of an update
//   scores    [points, clusters] of double
//   Columns are padded with zeros to whole vectors, and their quads of four floats stored as [QUADS, vectors]: neighbouring
//   threads, a vector each, then read neighbouring quads.
// Tile
//   TILE_ROWS, GROUP   rows that are in registers at a time, and centroids whose dots with them are
//   STEP_WARPS, SCORE_WARPS, SUM_WARPS, UPDATE_WARPS   warps of a block of each kernel
//   SCORED             centroids that one pass of lloyd_labels over its rows takes
//   MAX_ROWS           the most rows that a block takes; how many it does (`rows`) depends on `points` alone
// Launch (grids have one dimension, P = ceil(points / rows))
//   lloyd_step, lloyd_step_wide   P blocks; rows of up to 32*STEP_WARPS vectors, and of up to twice as many
//   lloyd_labels, lloyd_scores    P blocks
//   lloyd_sums                    P * ceil(vectors / (32*SUM_WARPS)) blocks
//   lloyd_update                  clusters * ceil(columns / (32*UPDATE_WARPS)) blocks
//   All but lloyd_scores return at once unless the state is RUNNING, so that the host may queue steps ahead. Where the floats
//   of a step, (2*clusters + 1) * columns and what src/gpu/cluster/launch.rs adds, do not fit shared memory, or a row has
//   more vectors than lloyd_step_wide takes, lloyd_labels and lloyd_sums take its place: with 227 KB and 4 clusters from 6,353
//   columns on, in float from 4,097 on.
// Requires
//   points, cols, clusters, min_size >= 1; rows <= MAX_ROWS; dynamic shared memory as the host computes it.
//   Points at most of order one and centroids within 2^41, so that no dot leaves the range of float.
// Traffic
//   Least: W once a step. lloyd_step: that, P * (clusters+1) * columns floats of centroids, as many (but for the mean) written
//   to `partial` and read from it. lloyd_labels then lloyd_sums: W twice, once more per further SCORED clusters.
//   No tensor cores: up to 16 centroids, the dots are less work than reading W.
// Numerics
//   u = 2^-24. A point's factor `rest` is rounded by u; x itself is not rounded. A dot is a chain of VECTOR fused products a
//   slot of its lane (2 slots in lloyd_step_wide, else 1), 5 additions of the warp and one per warp: together at most
//   (2*VECTOR + 5 + ceil(vectors/32)) u of sum |x||d|, and never more roundings than columns. Scores are double. A deviation
//   rounds by u|x - mean| + u|x - c|, a block's sum of them by one u per row, beside which double's over the blocks is
//   nothing; d_j rounds by u|d_j|. Order: fixed by points, cols, clusters and the tile; the alignment of rows, resident
//   blocks and schedules change no bit.
//   A direction whose members' mean is shorter than 2^-16, the rounding of such a mean, stays as it was.

#include "common/lloyd.cuh"

template <int SLOTS>
__device__ __forceinline__ void step(const Stored *const *rows, const Scale *scales, const float4 *mean,
                                     const float4 *centred, const double *offsets, const unsigned *labels, unsigned *next,
                                     float4 *partial, unsigned *sizes, State *state, const Problem &problem) {
    enum { THREADS = WARP * STEP_WARPS };
    extern __shared__ float4 shared[];
    __shared__ Points points;
    __shared__ unsigned chosen[MAX_ROWS];
    if (state->status != RUNNING) return;
    Extent extent(problem, blockIdx.x);
    unsigned k = problem.clusters, vectors = extent.vectors, pitch = dots_pitch(k);
    unsigned lane = threadIdx.x, warp = threadIdx.y, thread = warp * WARP + lane;

    // A thread reads and writes its own columns alone of the first three: no barrier is there for them.
    float4 *own_centred = shared, *sums = own_centred + k * extent.quads; // [clusters, QUADS, vectors]
    float4 *own_mean = sums + k * extent.quads;                           // [QUADS, vectors]
    float *dots = reinterpret_cast<float *>(own_mean + extent.quads);     // [STEP_WARPS, TILE_ROWS, pitch]
    unsigned *counts = reinterpret_cast<unsigned *>(dots + STEP_WARPS * TILE_ROWS * pitch); // [clusters]
    read_points(points, rows, scales, extent, thread, THREADS);
    for (unsigned j = thread; j < k; j += THREADS) counts[j] = 0;
    for (unsigned v = thread; v < vectors; v += THREADS)
        for (unsigned q = 0; q < QUADS; ++q) {
            own_mean[q * vectors + v] = mean[q * vectors + v];
            for (unsigned j = 0; j < k; ++j) {
                own_centred[(j * QUADS + q) * vectors + v] = centred[(j * QUADS + q) * vectors + v];
                sums[(j * QUADS + q) * vectors + v] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            }
        }
    __syncthreads(); // points and counts are there before another thread uses them

    bool active = warp * WARP < vectors;
    unsigned active_warps = (vectors + WARP - 1) / WARP < STEP_WARPS ? (vectors + WARP - 1) / WARP : STEP_WARPS;
    Tile<SLOTS> ahead;
    if (active) ahead.load(points, 0, extent.count, thread, THREADS, vectors, problem.cols);
    for (unsigned first = 0; first < extent.count; first += TILE_ROWS) {
        Tile<SLOTS> tile = ahead;
        if (active) {
            ahead.load(points, first + TILE_ROWS, extent.count, thread, THREADS, vectors, problem.cols);
            for (unsigned j = 0; j < k; j += GROUP)
                warp_dots(tile, points.power + first, own_centred, j, k, thread, THREADS, vectors,
                          dots + warp * TILE_ROWS * pitch, pitch);
        }
        __syncthreads(); // the dots of every warp are written before a warp adds them
        if (warp < TILE_ROWS) {
            unsigned r = first + warp, label = ~0u;
            if (r < extent.count)
                label = nearest(dots + warp * pitch, active_warps, TILE_ROWS * pitch, points.rest[r], offsets, k);
            if (lane == 0) chosen[r] = label;
            if (lane == 0 && r < extent.count) atomicAdd(&counts[label], 1u);
        }
        __syncthreads(); // labels are there before they are used, and dots were read before those of the next tile
        if (active)
            add_tile(tile, points.power + first, points.rest + first, chosen + first, own_mean, own_centred, sums,
                     thread, THREADS, vectors);
    }
    for (unsigned v = thread; v < vectors; v += THREADS)
        for (unsigned slot = v; slot < k * extent.quads; slot += vectors)
            partial[(Index)blockIdx.x * k * extent.quads + slot] = sums[slot];
    bool differs = false;
    if (thread < extent.count) {
        Index p = extent.begin + thread;
        differs = labels[p] != chosen[thread];
        next[p] = chosen[thread];
    }
    int changed = __syncthreads_count(differs);
    if (thread == 0 && changed) atomicAdd(&state->changed, (unsigned)changed);
    for (unsigned j = thread; j < k; j += THREADS)
        if (counts[j]) atomicAdd(&sizes[j], counts[j]);
}

extern "C" __global__ void __launch_bounds__(WARP *STEP_WARPS)
lloyd_step(const Stored *const *__restrict__ rows, const Scale *__restrict__ scales, const float4 *__restrict__ mean,
           const float4 *__restrict__ centred, const double *__restrict__ offsets, const unsigned *__restrict__ labels,
           unsigned *__restrict__ next, float4 *__restrict__ partial, unsigned *sizes, State *state, Problem problem) {
    step<1>(rows, scales, mean, centred, offsets, labels, next, partial, sizes, state, problem);
}

extern "C" __global__ void __launch_bounds__(WARP *STEP_WARPS)
lloyd_step_wide(const Stored *const *__restrict__ rows, const Scale *__restrict__ scales,
                const float4 *__restrict__ mean, const float4 *__restrict__ centred, const double *__restrict__ offsets,
                const unsigned *__restrict__ labels, unsigned *__restrict__ next, float4 *__restrict__ partial,
                unsigned *sizes, State *state, Problem problem) {
    step<2>(rows, scales, mean, centred, offsets, labels, next, partial, sizes, state, problem);
}

// Hands the scores of the block's rows against centroids first..first+SCORED to `each(row, j, score)`, a thread a row. A group of
// centroids and a chunk of columns at a time; a thread reads its own columns alone of the group.
template <class Each>
__device__ __forceinline__ void score(const Stored *const *rows, const Scale *scales, const float4 *centred,
                                      const double *offsets, const Problem &problem, const Extent &extent, Each each) {
    enum { THREADS = WARP * SCORE_WARPS, PITCH = 4 * (SCORED / 4 | 1) };
    extern __shared__ float4 shared[]; // [SCORED, QUADS, chunk]
    __shared__ Points points;
    __shared__ float dots[SCORE_WARPS * TILE_ROWS * PITCH];
    __shared__ float totals[MAX_ROWS][SCORED + 1]; // an odd pitch: a thread a row reads without conflicts
    unsigned lane = threadIdx.x, warp = threadIdx.y, thread = warp * WARP + lane;
    read_points(points, rows, scales, extent, thread, THREADS);

    for (unsigned group = 0; group < problem.clusters; group += SCORED) {
        unsigned k = problem.clusters - group < SCORED ? problem.clusters - group : SCORED;
        for (unsigned i = thread; i < MAX_ROWS * (SCORED + 1); i += THREADS) (&totals[0][0])[i] = 0.0f;
        __syncthreads(); // points and zeros are there before another thread uses them
        for (unsigned begin = 0; begin < extent.vectors; begin += problem.chunk) {
            unsigned left = extent.vectors - begin, here = left < problem.chunk ? left : problem.chunk;
            bool active = warp * WARP < here;
            unsigned active_warps = (here + WARP - 1) / WARP;
            if (thread < here)
                for (unsigned i = 0; i < k * QUADS; ++i)
                    shared[i * here + thread] =
                        centred[(Index)group * extent.quads + (Index)i * extent.vectors + begin + thread];
            Tile<1> ahead;
            unsigned vector = thread < here ? begin + thread : extent.vectors;
            if (active) ahead.load(points, 0, extent.count, vector, 0, extent.vectors, problem.cols);
            for (unsigned first = 0; first < extent.count; first += TILE_ROWS) {
                Tile<1> tile = ahead;
                if (active) {
                    ahead.load(points, first + TILE_ROWS, extent.count, vector, 0, extent.vectors, problem.cols);
                    for (unsigned j = 0; j < k; j += GROUP)
                        warp_dots(tile, points.power + first, shared, j, k, thread, 0, here,
                                  dots + warp * TILE_ROWS * PITCH, PITCH);
                }
                __syncthreads(); // the dots of every warp are written before a thread adds them
                if (warp < TILE_ROWS && first + warp < extent.count && lane < k) {
                    float total = totals[first + warp][lane];
                    for (unsigned w = 0; w < active_warps; ++w) total += dots[(w * TILE_ROWS + warp) * PITCH + lane];
                    totals[first + warp][lane] = total;
                }
                __syncthreads(); // dots were read before those of the next tile, totals are there before they are used
            }
        }
        if (thread < extent.count)
            for (unsigned j = 0; j < k; ++j)
                each(thread, group + j, offsets[group + j] - (double)points.rest[thread] * totals[thread][j]);
        __syncthreads(); // totals were read before they are zeroed
    }
}

extern "C" __global__ void __launch_bounds__(WARP *SCORE_WARPS)
lloyd_labels(const Stored *const *__restrict__ rows, const Scale *__restrict__ scales,
             const float4 *__restrict__ centred, const double *__restrict__ offsets, const State *__restrict__ state,
             unsigned *__restrict__ next, Problem problem) {
    if (state->status != RUNNING) return;
    Extent extent(problem, blockIdx.x);
    Best best;
    score(rows, scales, centred, offsets, problem, extent,
          [&](unsigned, unsigned j, double score) { best.take(score, j); });
    unsigned thread = threadIdx.y * WARP + threadIdx.x;
    if (thread < extent.count) next[extent.begin + thread] = best.label;
}

extern "C" __global__ void __launch_bounds__(WARP *SCORE_WARPS)
lloyd_scores(const Stored *const *__restrict__ rows, const Scale *__restrict__ scales,
             const float4 *__restrict__ centred, const double *__restrict__ offsets, double *__restrict__ scores,
             Problem problem) {
    Extent extent(problem, blockIdx.x);
    score(rows, scales, centred, offsets, problem, extent, [&](unsigned r, unsigned j, double score) {
        scores[(extent.begin + r) * problem.clusters + j] = score;
    });
}

// The block's rows by label and, within one, in their order; a thread's columns of a cluster's sum stay in registers.
extern "C" __global__ void __launch_bounds__(WARP *SUM_WARPS)
lloyd_sums(const Stored *const *__restrict__ rows, const Scale *__restrict__ scales, const float4 *__restrict__ mean,
           const float4 *__restrict__ centred, const unsigned *__restrict__ labels, const unsigned *__restrict__ next,
           float4 *__restrict__ partial, unsigned *sizes, State *state, Problem problem) {
    enum { THREADS = WARP * SUM_WARPS, AHEAD = 4 };
    __shared__ unsigned given[MAX_ROWS], sorted[MAX_ROWS];
    __shared__ Points points;
    if (state->status != RUNNING) return;
    unsigned thread = threadIdx.y * WARP + threadIdx.x;
    unsigned tiles = (unsigned)((problem.cols + VECTOR * THREADS - 1) / (VECTOR * THREADS));
    Index block = blockIdx.x / tiles;
    unsigned tile = blockIdx.x % tiles;
    Extent extent(problem, block);
    unsigned label = thread < extent.count ? next[extent.begin + thread] : ~0u;
    if (thread < extent.count) given[thread] = label;
    // Every label is there before a thread compares its own with it.
    int changed = __syncthreads_count(thread < extent.count && labels[extent.begin + thread] != label);
    if (thread < extent.count) {
        unsigned rank = 0;
        for (unsigned r = 0; r < extent.count; ++r) rank += given[r] < label || (given[r] == label && r < thread);
        sorted[rank] = label;
        points.take(rank, rows[extent.begin + thread], scales[extent.begin + thread]);
    }
    __syncthreads(); // rows are sorted before any is used
    if (tile == 0) {
        if (thread == 0 && changed) atomicAdd(&state->changed, (unsigned)changed);
        if (thread < extent.count && (thread == 0 || sorted[thread - 1] != sorted[thread])) {
            unsigned end = thread + 1;
            while (end < extent.count && sorted[end] == sorted[thread]) ++end;
            atomicAdd(&sizes[sorted[thread]], end - thread);
        }
    }

    unsigned v = tile * THREADS + thread;
    if (v >= extent.vectors) return;
    float4 m[QUADS];
#pragma unroll
    for (int q = 0; q < QUADS; ++q) m[q] = mean[q * extent.vectors + v];
    unsigned end = 0;
    for (unsigned j = 0; j < problem.clusters; ++j) {
        unsigned begin = end;
        while (end < extent.count && sorted[end] == j) ++end;
        float4 sums[QUADS] = {}, d[QUADS] = {};
        Index at = (Index)j * extent.quads + v;
        if (begin < end)
#pragma unroll
            for (int q = 0; q < QUADS; ++q) d[q] = centred[at + q * extent.vectors];
        for (unsigned first = begin; first < end; first += AHEAD) {
            uint4 bytes[AHEAD];
#pragma unroll
            for (int i = 0; i < AHEAD; ++i)
                if (first + i < end) bytes[i] = load_vector(points.row[first + i], v, problem.cols);
#pragma unroll
            for (int i = 0; i < AHEAD; ++i)
                if (first + i < end)
#pragma unroll
                    for (int q = 0; q < QUADS; ++q)
                        add_deviation(sums[q], bytes[i], q, points.power[first + i], points.rest[first + i], m[q], d[q]);
        }
#pragma unroll
        for (int q = 0; q < QUADS; ++q)
            partial[block * problem.clusters * extent.quads + at + q * extent.vectors] = sums[q];
    }
}

// Whether the block is the last of `count` that have come here: what the others wrote before is then there to read. Leaves
// `arrived` at zero.
__device__ __forceinline__ bool is_last(unsigned *arrived, unsigned count) {
    __shared__ bool last;
    __threadfence();
    __syncthreads(); // the whole block has written, and `last` was read by all
    if (threadIdx.x == 0 && threadIdx.y == 0) last = atomicInc(arrived, count - 1) == count - 1; // wraps to zero
    __syncthreads(); // the answer is there
    __threadfence();
    return last;
}

// The sum over the block, in every thread.
__device__ __forceinline__ double block_sum(double x) {
    __shared__ double warps[UPDATE_WARPS];
    x = warp_sum(x);
    __syncthreads(); // the sum before was read by all
    if (threadIdx.x == 0) warps[threadIdx.y] = x;
    __syncthreads(); // every warp's part is there
    double sum = 0.0;
    for (int w = 0; w < UPDATE_WARPS; ++w) sum += warps[w];
    return sum;
}

// Takes the mean of a cluster's points as its centroid.
__device__ __forceinline__ void move_centroid(const float *mean, const double *means, float *centred, double *offset,
                                              double *movement, unsigned columns, bool direction) {
    enum { THREADS = WARP * UPDATE_WARPS };
    unsigned thread = threadIdx.y * WARP + threadIdx.x;
    double norm = 1.0;
    if (direction) {
        double square = 0.0;
        for (unsigned i = thread; i < columns; i += THREADS) square += means[i] * means[i];
        norm = sqrt(block_sum(square));
    }
    bool stays = norm < 0x1p-16;
    double half = 0.0, moved = 0.0;
    for (unsigned i = thread; i < columns; i += THREADS) {
        double m = mean[i];
        float from = centred[i], to = stays ? from : (float)(means[i] / norm - m);
        double d = to, by = d - from;
        half += d * (0.5 * d + m);
        moved += by * by;
        centred[i] = to;
    }
    half = block_sum(half);
    moved = block_sum(moved);
    if (thread == 0) {
        *offset = half;
        *movement = moved;
    }
}

// Adds up what the blocks of a step left, a column a thread; the last block of a cluster moves its centroid, and the last of
// those decides whether the iteration goes on. Where a cluster is short of points, nothing moves.
extern "C" __global__ void __launch_bounds__(WARP *UPDATE_WARPS)
lloyd_update(const float *__restrict__ mean, const float *__restrict__ partial, float *centred, double *offsets,
             unsigned *sizes, double *means, double *movements, unsigned *arrivals, State *state, Problem problem) {
    enum { THREADS = WARP * UPDATE_WARPS };
    if (state->status != RUNNING) return;
    unsigned columns = Extent(problem, 0).vectors * VECTOR, thread = threadIdx.y * WARP + threadIdx.x;
    unsigned tiles = (columns + THREADS - 1) / THREADS, j = blockIdx.x / tiles, k = problem.clusters;
    unsigned i = blockIdx.x % tiles * THREADS + thread;
    Index row = (Index)j * columns;

    bool lacks = false;
    for (unsigned other = thread; other < k; other += THREADS) lacks |= sizes[other] < problem.min_size;
    bool is_short = __syncthreads_or(lacks);
    if (!is_short && i < columns) {
        Index blocks = (problem.points + problem.rows - 1) / problem.rows;
        double sum = 0.0;
#pragma unroll 8
        for (Index block = 0; block < blocks; ++block) sum += partial[block * k * columns + row + i];
        means[row + i] = (double)mean[i] + centred[row + i] + sum / sizes[j];
    }
    if (!is_last(&arrivals[j], tiles)) return;
    if (!is_short)
        move_centroid(mean, means + row, centred + row, offsets + j, movements + j, columns, problem.directions);
    if (!is_last(&state->arrived, k)) return;

    for (unsigned other = thread; other < k; other += THREADS) sizes[other] = 0;
    if (thread != 0) return;
    if (is_short) {
        state->status = SHORT;
    } else {
        double moved = 0.0;
        for (unsigned other = 0; other < k; ++other) moved += movements[other];
        state->steps += 1;
        if (state->changed == 0 || moved <= problem.least_movement) state->status = CONVERGED;
    }
    state->changed = 0;
}
