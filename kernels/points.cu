// Points of a clustering: distances to centroids, k-means++ seeding, exact means.
//
// Math, with x_p = factor_p * w_p
//   Distances:  distances[p] = |x_p - c_label(p)|^2
//   Nearest:    nearest[p] = min(nearest[p], |x_p - c_round|^2)
//   Seed:       the point at fraction uniforms[round] of the sum of nearest, and c_round = x_seed
//   Residuals:  residuals[p] = |x_p - c_label(p)|^2, all in double
//   Means:      means[j] = (sum of x_p with label j) / size_j, in two stages: sums of chunks of points of one cluster, then
//               the sum of those sums.
// Operands
//   rows       [count] addresses of rows of ELEMENT, of any matrices, in any order; dim elements each are read
//   scales     [count] of Scale: factors whose products are taken in float
//   factors    [count] of double
//   labels     [count], below k
//   centroids  [k, dim], of float, or of double for residuals; point_seed writes row `round` of it
//   uniforms   [k] of double in [0, 1); the first is not read
//   nearest    [count] of double, infinite before the first round; -1 marks a seed and stays
//   seeds      [k]; the first is given, point_seed writes the one of its round
//   order      [count] points by cluster
//   starts     [chunks + 1] where in `order` each chunk starts; a chunk has 1 to CHUNK_POINTS points of one cluster
//   clusters   [k + 1] where in `starts` the chunks of each cluster start
//   partial    [chunks, dim] of double: sums of the chunks
//   distances, residuals  [count] of double;  means  [k, dim] of double
// Tile
//   POINT_WARPS   warps of a block of the distances; a warp takes a point, of point_nearest NEAREST_POINTS
//   SEED_THREADS  threads of the one block that draws
//   SUM_WARPS     warps of a block of point_sums; each takes every SUM_WARPS-th point of the chunk
//   CHUNK_POINTS  points of a chunk
//   A block of point_sums takes 32*VECTOR columns, one of point_means MEAN_THREADS.
// Launch (grids have one dimension)
//   point_distances, point_residuals  ceil(count / POINT_WARPS) blocks of [32, POINT_WARPS] threads
//   point_nearest                     ceil(count / (POINT_WARPS*NEAREST_POINTS)) blocks of [32, POINT_WARPS] threads
//   point_seed                        one block of SEED_THREADS threads
//   point_sums                        chunks * ceil(dim / (32*VECTOR)) blocks of [32, SUM_WARPS] threads
//   point_means                       k * ceil(dim / MEAN_THREADS) blocks of MEAN_THREADS threads
// Requires
//   count, dim, k >= 1; fewer than 2^32 points and chunks; rows finite, of any alignment; centroids at a multiple of 16 bytes.
//   Round r of point_seed follows point_nearest of round r - 1, and has fewer than count seeds before it.
// Traffic
//   Least: each element of the rows once per launch. Rows that do not start at a multiple of 16 bytes, or a dim that is no
//   multiple of 4, are read element by element, the sectors again from L1. Centroids: a row for every point, from L2;
//   point_nearest shares one among NEAREST_POINTS. Sums: also partial, written and read once: 8 bytes per up to CHUNK_POINTS
//   elements. Seed: nearest once, and a row.
// Numerics
//   Distances: u = 2^-24. A coordinate rounds once and a difference once, both in float, squares are exact in double and
//   their sum rounds like that of residuals, so a distance is off by 2*u*|x_p| + u*|x_p - c| before it is squared, and exactly
//   0 where point and centroid agree. Residuals: u = 2^-53 in the same places, and VECTOR*ceil(dim / (32*VECTOR)) + 6
//   roundings of the sum.
//   Means: an element is rounded once with its sum, passes at most CHUNK_POINTS/SUM_WARPS + SUM_WARPS additions within its
//   chunk, then one per chunk, and the division rounds once; u = 2^-53.
//   Seed: sums of nearest in double, ceil(count / SEED_THREADS) + 5 + SEED_THREADS/32 roundings to a prefix at most.
//   Order: fixed by count, dim and the tile, not by the alignment of rows: equal rows have equal distances. The lowest point
//   among several at the fraction; the lowest that is no seed where all weights are 0.

#include "common/points.cuh"

struct Shape {
    Index count, dim;
};
static_assert(sizeof(Shape) == 16, "as in src/gpu/cluster/points.rs");

struct Round {
    Index count, dim, round;
};
static_assert(sizeof(Round) == 24, "as in src/gpu/cluster/seeding.rs");

enum { SUM_POINTS = CHUNK_POINTS / SUM_WARPS, SEED_WARPS = SEED_THREADS / WARP };
static_assert(CHUNK_POINTS % SUM_WARPS == 0 && SUM_POINTS <= WARP, "a lane for each point of a warp");
static_assert(SEED_THREADS % WARP == 0, "whole warps");

enum : unsigned { NONE = 0xffffffffu };

__device__ __forceinline__ void add_square(float difference, double &sum) {
    double d = difference;
    sum = fma(d, d, sum);
}

__device__ __forceinline__ void add_square(double d, double &sum) { sum = fma(d, d, sum); }

// Adds the squares of a lane's next VECTOR columns for each of some points, all against one centroid.
template <bool WHOLE, int POINTS, class Factor, class Real>
__device__ __forceinline__ void add_squares(const Stored *const (&rows)[POINTS], const Factor (&factors)[POINTS],
                                            const Real *centroid, Index first, Index dim, double (&sums)[POINTS]) {
    float w[POINTS][VECTOR];
#pragma unroll
    for (int p = 0; p < POINTS; ++p) load_elements<WHOLE>(rows[p], first, dim, w[p]);
    Real c[VECTOR];
    load_centroid<WHOLE>(centroid, first, dim, c);
#pragma unroll
    for (int p = 0; p < POINTS; ++p) {
#pragma unroll
        for (int e = 0; e < VECTOR; ++e) add_square(coordinate(w[p][e], factors[p]) - c[e], sums[p]);
    }
}

// The squared distances of some points from one centroid, in every lane.
template <int POINTS, class Factor, class Real>
__device__ __forceinline__ void squared_distances(const Stored *const (&rows)[POINTS],
                                                  const Factor (&factors)[POINTS], const Real *centroid, Index dim,
                                                  double (&sums)[POINTS]) {
    bool aligned = dim % 4 == 0; // then rows of centroids start at multiples of 16 bytes
#pragma unroll
    for (int p = 0; p < POINTS; ++p) {
        aligned &= reinterpret_cast<Index>(rows[p]) % 16 == 0;
        sums[p] = 0.0;
    }
    // A lane's columns, and so the order of its sum, are the same on both ways.
    Index first = (Index)threadIdx.x * VECTOR;
    if (aligned) {
#pragma unroll 2
        for (; first + VECTOR <= dim; first += WARP * VECTOR)
            add_squares<true>(rows, factors, centroid, first, dim, sums);
    }
    for (; first < dim; first += WARP * VECTOR) add_squares<false>(rows, factors, centroid, first, dim, sums);
#pragma unroll
    for (int p = 0; p < POINTS; ++p) sums[p] = warp_sum(sums[p]);
}

// The squared distance of a warp's point from the centroid of its label.
template <class Factor, class Real>
__device__ __forceinline__ void labelled_distance(const Stored *const *rows, const Factor *factors, const Real *centroids,
                                                  const unsigned *labels, double *distances, const Shape &shape) {
    Index p = (Index)blockIdx.x * POINT_WARPS + threadIdx.y;
    if (p >= shape.count) return;
    const Stored *const row[1] = {rows[p]};
    const Factor factor[1] = {factors[p]};
    double sum[1];
    squared_distances(row, factor, centroids + labels[p] * shape.dim, shape.dim, sum);
    if (threadIdx.x == 0) distances[p] = sum[0];
}

extern "C" __global__ void __launch_bounds__(WARP *POINT_WARPS)
point_distances(const Stored *const *__restrict__ rows, const Scale *__restrict__ scales,
                const float *__restrict__ centroids, const unsigned *__restrict__ labels,
                double *__restrict__ distances, Shape shape) {
    labelled_distance(rows, scales, centroids, labels, distances, shape);
}

extern "C" __global__ void __launch_bounds__(WARP *POINT_WARPS)
point_nearest(const Stored *const *__restrict__ rows, const Scale *__restrict__ scales,
              const float *__restrict__ centroids, double *__restrict__ nearest, Round shape) {
    Index first = ((Index)blockIdx.x * POINT_WARPS + threadIdx.y) * NEAREST_POINTS;
    if (first >= shape.count) return;
    const Stored *row[NEAREST_POINTS];
    Scale scale[NEAREST_POINTS];
#pragma unroll
    for (int i = 0; i < NEAREST_POINTS; ++i) {
        // Past the last point, that one again; what comes of it is dropped.
        Index p = first + i < shape.count ? first + i : shape.count - 1;
        row[i] = rows[p];
        scale[i] = scales[p];
    }
    double sums[NEAREST_POINTS];
    squared_distances(row, scale, centroids + shape.round * shape.dim, shape.dim, sums);
#pragma unroll
    for (int i = 0; i < NEAREST_POINTS; ++i)
        if (threadIdx.x == 0 && first + i < shape.count) nearest[first + i] = fmin(nearest[first + i], sums[i]);
}

// Four blocks a multiprocessor: left to itself, the assembler aims at six and spills.
extern "C" __global__ void __launch_bounds__(WARP *POINT_WARPS, 4)
point_residuals(const Stored *const *__restrict__ rows, const double *__restrict__ factors,
                const double *__restrict__ centroids, const unsigned *__restrict__ labels,
                double *__restrict__ residuals, Shape shape) {
    labelled_distance(rows, factors, centroids, labels, residuals, shape);
}

// The point at fraction `at` of the sum of `nearest`, in every thread. A thread takes a run of points, and the prefix sums of the
// runs' sums say in whose run the point lies.
__device__ __forceinline__ unsigned draw(const double *nearest, Index count, double at) {
    __shared__ double warps[SEED_WARPS];
    __shared__ unsigned crossing, last, spare, drawn;
    unsigned thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP;
    Index each = (count + SEED_THREADS - 1) / SEED_THREADS;
    Index begin = thread * each < count ? thread * each : count;
    Index end = begin + each < count ? begin + each : count;

    double own = 0.0;
    unsigned unseeded = NONE;
    for (Index p = begin; p < end; ++p) {
        double weight = nearest[p];
        if (weight > 0.0) own += weight;
        if (weight >= 0.0 && unseeded == NONE) unseeded = (unsigned)p;
    }
    double through = own; // the sum of the warp's runs through this one
    for (unsigned step = 1; step < WARP; step *= 2) {
        double before = __shfl_up_sync(ALL_LANES, through, step);
        if (lane >= step) through += before;
    }
    double before = __shfl_up_sync(ALL_LANES, through, 1);
    if (lane == 0) before = 0.0;
    if (lane == WARP - 1) warps[warp] = through;
    if (thread == 0) {
        crossing = spare = NONE;
        last = 0;
        drawn = 0;
    }
    __syncthreads(); // sums of all warps and the first values of the atomics, before they are used

    double earlier = 0.0, total = 0.0;
    for (unsigned w = 0; w < SEED_WARPS; ++w) {
        if (w == warp) earlier = total;
        total += warps[w];
    }
    double target = at * total;
    // Lanes are in the order of points: of each warp one speaks.
    unsigned crosses = __ballot_sync(ALL_LANES, own > 0.0 && earlier + through > target);
    unsigned weighs = __ballot_sync(ALL_LANES, own > 0.0);
    unsigned free = __ballot_sync(ALL_LANES, unseeded != NONE);
    if (lane == 0 && crosses) atomicMin(&crossing, warp * WARP + __ffs(crosses) - 1);
    if (lane == 0 && weighs) atomicMax(&last, warp * WARP + WARP - __clz(weighs));
    if (free && lane == (unsigned)__ffs(free) - 1) atomicMin(&spare, unseeded);
    __syncthreads(); // every thread has had its say

    // Rounding may leave the target past the last prefix: then the last point with a weight.
    unsigned winner = crossing != NONE ? crossing : last - 1;
    if (thread == winner) {
        double sum = earlier + before;
        for (Index p = begin; p < end && !(sum > target); ++p) {
            if (nearest[p] > 0.0) {
                sum += nearest[p];
                drawn = (unsigned)p;
            }
        }
    } else if (thread == 0 && last == 0 && spare != NONE) {
        drawn = spare;
    }
    __syncthreads(); // the point is written before it is read
    return drawn;
}

extern "C" __global__ void __launch_bounds__(SEED_THREADS)
point_seed(const Stored *const *__restrict__ rows, const Scale *__restrict__ scales,
           const double *__restrict__ uniforms, double *__restrict__ nearest, unsigned *__restrict__ seeds,
           float *__restrict__ centroids, Round shape) {
    unsigned seed = shape.round == 0 ? seeds[0] : draw(nearest, shape.count, uniforms[shape.round]);
    if (threadIdx.x == 0) {
        nearest[seed] = -1.0;
        if (shape.round > 0) seeds[shape.round] = seed;
    }
    const Stored *row = rows[seed];
    Scale scale = scales[seed];
    float *centroid = centroids + shape.round * shape.dim;
    for (Index j = threadIdx.x; j < shape.dim; j += SEED_THREADS)
        centroid[j] = coordinate(Elem::widen(row[j]), scale);
}

extern "C" __global__ void __launch_bounds__(WARP *SUM_WARPS)
point_sums(const Stored *const *__restrict__ rows, const double *__restrict__ factors,
           const unsigned *__restrict__ order, const unsigned *__restrict__ starts, double *__restrict__ partial,
           Shape shape) {
    // The pitch keeps writes by lane and reads by column free of conflicts.
    enum { TILE = WARP * VECTOR, PITCH = WARP + WARP / 2 / VECTOR };
    __shared__ double sums[SUM_WARPS][VECTOR * PITCH];
    Index tiles = (shape.dim + TILE - 1) / TILE;
    Index chunk = blockIdx.x / tiles;
    Index tile = blockIdx.x % tiles * TILE;
    unsigned lane = threadIdx.x, warp = threadIdx.y;
    unsigned begin = starts[chunk], end = starts[chunk + 1];

    // Each lane fetches one of the warp's points, so that the loop waits for elements only.
    const Stored *row = nullptr;
    double factor = 0.0;
    unsigned place = begin + warp + lane * SUM_WARPS;
    if (place < end) {
        unsigned p = order[place];
        row = rows[p];
        factor = factors[p];
    }
    Index first = tile + lane * VECTOR;
    bool whole = first + VECTOR <= shape.dim;
    double sum[VECTOR] = {};
    unsigned points = begin + warp < end ? (end - begin - warp + SUM_WARPS - 1) / SUM_WARPS : 0;
#pragma unroll 4
    for (unsigned i = 0; i < points; ++i) {
        Index address = __shfl_sync(ALL_LANES, reinterpret_cast<Index>(row), i);
        double times = __shfl_sync(ALL_LANES, factor, i);
        float w[VECTOR];
        if (whole && address % 16 == 0)
            load_elements<true>(reinterpret_cast<const Stored *>(address), first, shape.dim, w);
        else
            load_elements<false>(reinterpret_cast<const Stored *>(address), first, shape.dim, w);
#pragma unroll
        for (int e = 0; e < VECTOR; ++e) sum[e] = fma((double)w[e], times, sum[e]);
    }
#pragma unroll
    for (int e = 0; e < VECTOR; ++e) sums[warp][e * PITCH + lane] = sum[e];
    __syncthreads(); // the sums of every warp are written before any thread adds them

    for (unsigned c = warp * WARP + lane; c < TILE && tile + c < shape.dim; c += WARP * SUM_WARPS) {
        double all = 0.0;
        for (int other = 0; other < SUM_WARPS; ++other) all += sums[other][c % VECTOR * PITCH + c / VECTOR];
        partial[chunk * shape.dim + tile + c] = all;
    }
}

extern "C" __global__ void __launch_bounds__(MEAN_THREADS)
point_means(const double *__restrict__ partial, const unsigned *__restrict__ starts,
            const unsigned *__restrict__ clusters, double *__restrict__ means, Shape shape) {
    Index tiles = (shape.dim + MEAN_THREADS - 1) / MEAN_THREADS;
    Index cluster = blockIdx.x / tiles;
    Index j = blockIdx.x % tiles * MEAN_THREADS + threadIdx.x;
    if (j >= shape.dim) return;
    unsigned first = clusters[cluster], end = clusters[cluster + 1];
    double sum = 0.0;
#pragma unroll 4
    for (unsigned chunk = first; chunk < end; ++chunk) sum += partial[chunk * shape.dim + j];
    unsigned size = starts[end] - starts[first];
    means[cluster * shape.dim + j] = size > 0 ? sum / (double)size : 0.0;
}
