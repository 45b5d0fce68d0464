// Truncated pivoted QR of groups of rows, exact tier: left-looking Gram-Schmidt, run twice, in double throughout.
//
// Math
//   Of each group of rows c_i, step j takes as pivot p the row with the largest residual, or the one that was given:
//   v = c_p - sum_a R[a,p] q_a,  h = Q^T v,  R[j,p] = sqrt(|v|^2 - |h|^2),  q_j = (v - Q h) / R[j,p]
//   R[j,i] = <q_j, c_i> and square_i -= R[j,i]^2 for the rows not taken; R[j,i] = 0 for those taken
//   The first projection needs no products: the steps before have left them in R. The second makes q_j orthogonal. A square
//   that has fallen to DOWNDATE of what it was last computed as is computed anew, as |v|^2 - |h|^2 of its row.
// Operands
//   rows      [count] addresses of rows of ELEMENT, the groups one after another
//   squares   [count] of double: squared norms of the rows
//   indptr    [groups + 1]: group g is rows indptr[g] to indptr[g+1]
//   limits    [groups] of Limits
//   phase     [groups] of Phase; groups that are DONE are left as they are, the others are afterwards
//   reached   [groups]: pivots given; afterwards pivots taken
//   jpvt      [groups, rank]: pivots as positions in the group, the given ones first
//   r         [rank, count] of double; group g's columns, rows 0 to reached[g], are written
//   remaining [groups] of double: the largest residual norm that is left
//   residuals [count] of Residual, workspace
//   basis     [teams, rank, cols] of double, workspace: Q
//   partial   [teams, rank, ceil(cols / TILE)] of double, workspace: products of a tile's columns
//   coeffs    [blocks, rank] of double, workspace: h
//   leaders   [blocks] of Leader, workspace: the best row of each block
//   counters  [2 + 2 teams], zero before the launch: tickets, the next group; who arrived, the group of each team
// Tile
//   WARPS   warps of a block; each takes runs of RUN neighbouring rows, the same at every step
//   TILE    columns of a tile of v; a team's blocks share out the tiles, a block's warps the vectors of Q
//   SLICE   columns of q that are in shared memory at a time
// Launch
//   qr_exact   teams * parts blocks (common/team.cuh) of [32, WARPS] threads; a team takes one group after another
// Requires
//   1 <= cols, rank; any alignment of rows; given pivots are rows of their group, none twice
//   at least `parts` blocks resident at a time
// Traffic
//   Least: the rows once, if all of a group stayed on the chip. Here: the rows not taken once a step and each pivot once more,
//   at most rank times their bytes; a row computed anew, ceil(steps / 32) times more. A team reads Q three times a step, each
//   block reads q once. Rows that do not start at multiples of 16 bytes are loaded by element.
// Numerics
//   u = 2^-53. A product passes cols/64 + 2 roundings in its lane, 6 in the warp and one a slice. |v|^2 - |h|^2 rounds by
//   cols*u of |v|^2; h is rounding itself, so its root is off by less than what h is. Sums are in an order fixed by cols,
//   whatever the number of blocks and the alignment of rows: equal rows tie. Leaders by square, ties to the lowest position.

#include "common/qr.cuh"
#include "common/staged.cuh"
#include "common/team.cuh"

struct Shape {
    Index count, cols, groups, rank, parts;
};
static_assert(sizeof(Shape) == 40, "as in src/gpu/qr/exact.rs");

// The square that marks a row as taken.
#define TAKEN (-0x1.fffffffffffffp1023)
// Share of its reference to which a square may fall by downdating.
#define DOWNDATE 1e-2

struct Residual {
    double square, reference;
};

enum { EACH = TILE / WARP, SHARED = SLICE / CHUNK * CHUNK_PITCH };
static_assert(SLICE % CHUNK == 0 && TILE % WARP == 0, "a chunk fits");
static_assert(SHARED >= WARPS * TILE, "the sums of a tile fit");

// Neighbouring rows that a warp takes: their numbers in R fill a sector.
enum { RUN = 4 };

// A group as a block works on it.
struct Group {
    const Stored *const *rows;
    Residual *residuals;
    double *basis, *r, *partial, *coeffs;
    double *shared;
    Index size, cols, count, tiles;
    unsigned part, parts;

    // The warps of a team take turns at runs of rows: row `turn` of this warp, and whether a row is one of its.
    __device__ __forceinline__ Index row(Index turn) const {
        return (turn / RUN * parts * WARPS + part * WARPS + threadIdx.y) * RUN + turn % RUN;
    }
    __device__ __forceinline__ bool owns(Index i) const {
        return i / RUN % ((Index)parts * WARPS) == part * WARPS + threadIdx.y;
    }
    __device__ __forceinline__ double &coefficient(Index j, Index i) const { return r[j * count + i]; }
};

// sum[e] = sum_a x[a * stride] q_a over the `count` vectors so far, for column e*WARP + lane of the tile: the same in every
// warp.
__device__ __forceinline__ void span(const Group &group, const double *x, Index stride, Index count, Index tile,
                                     double (&sum)[EACH]) {
    unsigned lane = threadIdx.x, warp = threadIdx.y;
    Index first = tile * TILE + lane;
    for (int e = 0; e < EACH; ++e) sum[e] = 0.0;
#pragma unroll 2
    for (Index a = warp; a < count; a += WARPS) {
        double factor = x[a * stride];
#pragma unroll
        for (int e = 0; e < EACH; ++e)
            if (first + e * WARP < group.cols) sum[e] = fma(factor, group.basis[a * group.cols + first + e * WARP], sum[e]);
    }
    __syncthreads(); // the sums of the tile before are read
#pragma unroll
    for (int e = 0; e < EACH; ++e) group.shared[warp * TILE + e * WARP + lane] = sum[e];
    __syncthreads(); // every warp's sums are there
#pragma unroll
    for (int e = 0; e < EACH; ++e) {
        sum[e] = 0.0;
        for (int w = 0; w < WARPS; ++w) sum[e] += group.shared[w * TILE + e * WARP + lane];
    }
}

// This block's tiles of v, into row j of the basis, and their products with the vectors so far and with itself.
__device__ __forceinline__ void project(const Group &group, Index p, Index j) {
    unsigned lane = threadIdx.x, warp = threadIdx.y;
    const Stored *row = group.rows[p];
    for (Index tile = group.part; tile < group.tiles; tile += group.parts) {
        double v[EACH];
        span(group, group.r + p, group.count, j, tile, v);
        Index first = tile * TILE + lane;
#pragma unroll
        for (int e = 0; e < EACH; ++e) {
            Index column = first + e * WARP;
            v[e] = column < group.cols ? Elem::widen(row[column]) - v[e] : 0.0;
            if (warp == 0 && column < group.cols) group.basis[j * group.cols + column] = v[e];
        }
        for (Index a = warp; a <= j; a += WARPS) {
            double product = 0.0;
#pragma unroll
            for (int e = 0; e < EACH; ++e) {
                if (first + e * WARP >= group.cols) continue;
                product = fma(a < j ? group.basis[a * group.cols + first + e * WARP] : v[e], v[e], product);
            }
            product = warp_sum(product);
            if (lane == 0) group.partial[a * group.tiles + tile] = product;
        }
    }
}

// h, into the block's coefficients, and the norm of what the second projection will leave; the same in every thread.
__device__ __forceinline__ double second_norm(const Group &group, Index j) {
    __shared__ double squares[WARPS];
    unsigned lane = threadIdx.x, warp = threadIdx.y;
    double square = 0.0; // the warp's part of |v|^2 - |h|^2
    for (Index a = warp; a <= j; a += WARPS) {
        double sum = 0.0;
        for (Index tile = lane; tile < group.tiles; tile += WARP) sum += group.partial[a * group.tiles + tile];
        sum = warp_sum(sum);
        if (a < j && lane == 0) group.coeffs[a] = sum;
        square += a < j ? -sum * sum : sum;
    }
    if (lane == 0) squares[warp] = square;
    __syncthreads(); // every warp's part and coefficients are there
    square = 0.0;
    for (int w = 0; w < WARPS; ++w) square += squares[w];
    return square > 0.0 ? sqrt(square) : 0.0;
}

// This block's tiles of q = (v - Q h) / norm.
__device__ __forceinline__ void normalise(const Group &group, Index j, double norm) {
    for (Index tile = group.part; tile < group.tiles; tile += group.parts) {
        double inside[EACH];
        span(group, group.coeffs, 1, j, tile, inside);
        if (threadIdx.y != 0) continue;
#pragma unroll
        for (int e = 0; e < EACH; ++e) {
            Index column = tile * TILE + e * WARP + threadIdx.x;
            if (column >= group.cols) continue;
            double &q = group.basis[j * group.cols + column];
            q = (q - inside[e]) / norm;
        }
    }
}

// The squared norm of what projecting row i on the first `count` vectors leaves, as |v|^2 - |h|^2; in every lane. Lane l has
// the products of vector `block + l`.
__device__ __forceinline__ double computed_anew(const Group &group, Index i, Index count) {
    enum { COLUMNS = 8 }; // of a lane at a time
    unsigned lane = threadIdx.x;
    const Stored *row = group.rows[i];
    double square = 0.0; // the lane's part
    for (Index block = 0; block < count; block += WARP) {
        Index end = block + WARP < count ? block + WARP : count;
        double inside = 0.0;
        for (Index first = 0; first < group.cols; first += WARP * COLUMNS) {
            const double *q = group.basis + first + lane;
            double v[COLUMNS];
#pragma unroll
            for (int e = 0; e < COLUMNS; ++e) {
                Index column = first + e * WARP + lane;
                v[e] = column < group.cols ? Elem::widen(row[column]) : 0.0f;
            }
            for (Index a = 0; a < count; ++a) {
                double factor = -group.coefficient(a, i);
#pragma unroll
                for (int e = 0; e < COLUMNS; ++e)
                    if (first + e * WARP + lane < group.cols) v[e] = fma(factor, q[a * group.cols + e * WARP], v[e]);
            }
            for (Index a = block; a < end; ++a) {
                double product = 0.0;
#pragma unroll
                for (int e = 0; e < COLUMNS; ++e)
                    if (first + e * WARP + lane < group.cols) product = fma(q[a * group.cols + e * WARP], v[e], product);
                product = warp_sum(product);
                if (lane == a - block) inside += product;
            }
#pragma unroll
            for (int e = 0; e < COLUMNS; ++e)
                if (block == 0) square = fma(v[e], v[e], square);
        }
        square = fma(-inside, inside, square);
    }
    square = warp_sum(square);
    return square > 0.0 ? square : 0.0;
}

// The residuals of the warp's rows, one a lane, after the products `r` of a step: a residual does not rise, only its rounding
// can. What was rounding already stays it.
__device__ __forceinline__ Residual downdated(const Group &group, Index i, bool open, Residual left, double r, Index count,
                                              double rounding) {
    double after = left.square - r * r;
    bool anew = open && after <= DOWNDATE * left.reference && sqrt(left.reference) > rounding;
    for (unsigned rest = __ballot_sync(ALL_LANES, anew); rest != 0; rest &= rest - 1) {
        int lane = __ffs((int)rest) - 1;
        double square = computed_anew(group, __shfl_sync(ALL_LANES, i, lane), count);
        if ((int)threadIdx.x == lane) after = square < left.square ? square : left.square;
    }
    return {after, anew ? after : left.reference};
}

// Row j of R for this block's rows, and their residuals after it. A lane holds what belongs to one of 32 rows, which the warp
// multiplies one after another.
__device__ __forceinline__ void pass(const Group &group, Index p, Index j, double norm, double rounding) {
    const double *q = group.basis + j * group.cols;
    for (Index begin = 0; begin < group.cols; begin += SLICE) {
        unsigned columns = group.cols - begin < SLICE ? group.cols - begin : SLICE;
        bool last = begin + columns == group.cols;
        __syncthreads(); // the slice before, or a tile's sums, are read
        stage(group.shared, q + begin, columns);
        __syncthreads(); // the slice is there
        for (Index turn = 0; group.row(turn) < group.size; turn += WARP) {
            Index i = group.row(turn + threadIdx.x);
            bool there = i < group.size;
            Residual left = {TAKEN, 0.0};
            if (there) left = group.residuals[i];
            bool open = left.square != TAKEN && i != p;
            double r = open && begin > 0 ? group.coefficient(j, i) : 0.0;
            const Stored *row = open ? group.rows[i] + begin : nullptr;
            for (unsigned rest = __ballot_sync(ALL_LANES, open); rest != 0; rest &= rest - 1) {
                int lane = __ffs((int)rest) - 1;
                Index address = __shfl_sync(ALL_LANES, reinterpret_cast<Index>(row), lane);
                double product = dot(group.shared, reinterpret_cast<const Stored *>(address), columns);
                if ((int)threadIdx.x == lane) r += product;
            }
            if (there) group.coefficient(j, i) = i == p ? norm : r;
            if (!last) continue;
            __syncwarp(); // R is written before it is projected by
            left = downdated(group, i, open, left, r, j + 1, rounding);
            if (there) group.residuals[i] = {open ? left.square : TAKEN, left.reference};
        }
    }
}

// The leader of all rows that are not taken, the same in every thread of the team; `square` is TAKEN where there is none.
__device__ __forceinline__ Leader elect(const Group &group, Team &team, Leader *leaders) {
    __shared__ Leader best[WARPS];
    Leader leader = {TAKEN, NONE};
    __syncwarp(); // every lane has written its residuals
    for (Index turn = threadIdx.x, i; (i = group.row(turn)) < group.size; turn += WARP) {
        Leader other = {group.residuals[i].square, (unsigned)i};
        if (leader.behind(other)) leader = other;
    }
    leader = warp_leader(leader);
    if (threadIdx.x == 0) best[threadIdx.y] = leader;
    __syncthreads(); // every warp's best row is there
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        for (int w = 1; w < WARPS; ++w)
            if (leader.behind(best[w])) leader = best[w];
        leaders[team.part] = leader;
    }
    team.meet(); // every block's best row is there, and its part of R
    leader = {TAKEN, NONE};
    for (unsigned part = threadIdx.x; part < team.parts; part += WARP)
        if (leader.behind(leaders[part])) leader = leaders[part];
    return warp_leader(leader);
}

struct Outcome {
    Index reached;
    double remaining;
};

// The steps of one group, from `given` pivots at `jpvt` on.
__device__ __forceinline__ Outcome factor(const Group &group, Team &team, Leader *leaders, const Limits &limits,
                                          unsigned phase, Index given, unsigned *jpvt) {
    for (Index j = 0;;) {
        Leader leader = elect(group, team, leaders);
        double most = leader.square > 0.0 ? sqrt(leader.square) : 0.0;
        bool end = j >= given && (phase == FORCED || j >= limits.rank);
        if (leader.square == TAKEN || most <= limits.tolerance || end) return {j, most};
        Index p = j < given ? jpvt[j] : leader.row;
        project(group, p, j);
        team.meet(); // the products of every tile are there
        double norm = second_norm(group, j);
        if (j < given ? norm <= limits.rounding : norm <= limits.tolerance) {
            if (j < given) return {j, most}; // dependent on those before it
            // The downdated norm was rounding; another row may lead. (Below the tolerance even after squaring.)
            double below = limits.tolerance * (1.0 - 0x1p-50);
            double square = norm < below ? norm * norm : below * below;
            if (group.owns(p) && threadIdx.x == 0) group.residuals[p] = {square, square};
            continue;
        }
        normalise(group, j, norm);
        team.meet(); // q is whole
        pass(group, p, j, norm, limits.rounding);
        if (j >= given && team.part == 0 && threadIdx.x == 0 && threadIdx.y == 0) jpvt[j] = (unsigned)p;
        ++j;
    }
}

// The next group that is not DONE, for the whole team; `groups` or more where none is left.
__device__ __forceinline__ Index next_group(Team &team, unsigned *next, unsigned *place, const unsigned *phase,
                                            Index groups) {
    if (team.part == 0 && threadIdx.x == 0 && threadIdx.y == 0) {
        unsigned group = atomicAdd(next, 1u);
        while (group < groups && phase[group] == DONE) group = atomicAdd(next, 1u);
        *place = group;
    }
    team.meet(); // the number is there
    return *place;
}

// Two blocks a multiprocessor: with registers for three it would spill. What hides the latency of rows is four vectors in
// flight a lane.
extern "C" __global__ void __launch_bounds__(WARP *WARPS, 2)
qr_exact(const Stored *const *__restrict__ rows, const double *__restrict__ squares, const unsigned *__restrict__ indptr,
         const Limits *__restrict__ limits, unsigned *phase, unsigned *reached, unsigned *jpvt, double *r,
         double *remaining, Residual *residuals, double *basis, double *partial, double *coeffs, Leader *leaders,
         unsigned *counters, Shape shape) {
    __shared__ double shared[SHARED];
    Index teams = gridDim.x / shape.parts;
    Team team(counters, counters + 2, (unsigned)shape.parts);
    Index tiles = (shape.cols + TILE - 1) / TILE;
    Group group;
    group.basis = basis + team.number * shape.rank * shape.cols;
    group.partial = partial + team.number * shape.rank * tiles;
    group.coeffs = coeffs + ((Index)team.number * team.parts + team.part) * shape.rank;
    group.shared = shared;
    group.cols = shape.cols;
    group.count = shape.count;
    group.tiles = tiles;
    group.part = team.part;
    group.parts = team.parts;
    leaders += (Index)team.number * team.parts;
    for (;;) {
        Index g = next_group(team, counters + 1, counters + 2 + teams + team.number, phase, shape.groups);
        if (g >= shape.groups) return;
        Index begin = indptr[g];
        group.rows = rows + begin;
        group.residuals = residuals + begin;
        group.r = r + begin;
        group.size = indptr[g + 1] - begin;
        for (Index turn = threadIdx.x, i; (i = group.row(turn)) < group.size; turn += WARP)
            group.residuals[i] = {squares[begin + i], squares[begin + i]};
        Outcome outcome = factor(group, team, leaders, limits[g], phase[g], reached[g], jpvt + g * shape.rank);
        if (team.part == 0 && threadIdx.x == 0 && threadIdx.y == 0) {
            reached[g] = (unsigned)outcome.reached;
            remaining[g] = outcome.remaining;
            phase[g] = DONE;
        }
    }
}
