// R of a pivoted QR whose pivots are known, from the products of pivots and rows.
//
// Math
//   For a group's rows C [c, n] and pivots J, with u = 2^-53:
//   qr_products   P[j, i] = <c_{J_j}, c_i>
//   qr_solve      the Cholesky factor of P[:, J] = R_J^T R_J, and R = R_J^-T P: all rows of R at once, in place.
//                 The squared residual of row i is d_i = |c_i|^2 - sum_a R[a,i]^2, the largest one's root `remaining`.
//                 With t the interpolation coefficients R_J^-1 R[:, i], the rounding of P and of the recurrence changes d_i by
//                 at most margin_i = (n + r + 4) 2u s_i^2, s_i = |c_i| + sum_a |t_a| |c_{J_a}| (derived in src/cpu/qr/gram.rs).
//                 A group whose residuals are good to their bound becomes DONE; another one stays FORCED.
// Operands
//   rows          [count] addresses of rows of ELEMENT, the groups' one after another
//   squares       [count] of double: squared norms
//   indptr        [groups + 1]: group g is rows indptr[g] .. indptr[g+1]
//   limits        [groups] of Limits
//   phase         [groups] of Phase; groups that are not FORCED are left alone
//   reached       [groups]: pivots of a group
//   jpvt          [groups, rank]: pivots, as positions in the group
//   tiles         [tiles] of RowTile: rows of every group, by TILE
//   r             [rank, count] of double: P from qr_products, R from qr_solve; written up to `reached` only
//   order         [count]: workspace; the step at which a row was taken
//   coeffs        [groups, warps, rank] of double: workspace
//   remaining     [groups] of double
// Tile
//   TILE          rows, and pivots, of a block of qr_products
//   DEPTH         columns staged at a time, an eighth of a pair of rows a thread
//   PANEL         rows of R that qr_solve computes together
//   THREADS       of a block, in both kernels
// Launch (grids have one dimension)
//   qr_products   tiles * pivot_tiles blocks; static shared memory
//   qr_solve      groups blocks
// Requires
//   cols, rank, count >= 1; any ld, any alignment of rows (vectors where a row is aligned to 16 bytes). Pivots of a group differ.
//   pivot_tiles = ceil(rank / TILE).
// Traffic
//   Rows: ceil(reached / TILE) times, and pivots c / TILE times; least: once. R: written once as P, then read once and
//   written once, and read once for the residuals; a panel reads the rows before it, reached / (2 PANEL) times what there is.
// Numerics
//   double. An entry of P is off by at most (n/4 + 4) u |c_i||c_J|: four chains of n/4, added in a fixed order. An entry of R
//   passes one rounding per row before it, and two for the reciprocal of the diagonal. Ties to the lowest row. The order of
//   all sums is fixed by the shape: the same bits for every schedule.

#include "common/qr.cuh"

struct ProductShape {
    Index cols, count;
    unsigned rank, pivot_tiles;
};
static_assert(sizeof(ProductShape) == 24, "as in src/gpu/qr/solve.rs");

struct SolveShape {
    Index cols, count;
    // Pivots of the Gram tier have stood a stricter check, and norms are to be good to 2^-11 of themselves. Other pivots are
    // checked here, and norms are to be as good as the exact tier's.
    unsigned rank, from_gram;
};
static_assert(sizeof(SolveShape) == 24, "as in src/gpu/qr/solve.rs");

enum { SLICES = 4, SLICE = DEPTH / SLICES, WARPS = THREADS / WARP, PIECE = 8, PIECES = DEPTH / PIECE };
static_assert(TILE == 32 && THREADS == 64 * SLICES, "a slice of DEPTH has 8 by 8 threads of 4 by 4 entries");
static_assert(2 * TILE * DEPTH == THREADS * PIECE && TILE / 16 * PIECES == 8, "a thread stages a piece of one row");
static_assert(PANEL == 8, "the panel's factor is one warp's");

// Eight neighbours of a row.
struct Piece {
    uint4 part[PIECE / VECTOR];

    __device__ __forceinline__ float of(int e) const { return Elem::of(part[e / VECTOR], e % VECTOR); }

    __device__ __forceinline__ void put(int e, Stored x) {
        unsigned *words = &part[e / VECTOR].x;
        if constexpr (sizeof(Stored) == 2)
            words[e % VECTOR / 2] |= (unsigned)x << (16 * (e % 2));
        else
            words[e % VECTOR] = __float_as_uint(x);
    }

    // What is beyond the row is zero and not read.
    __device__ __forceinline__ void load(const Stored *row, bool aligned, Index at, Index cols) {
#pragma unroll
        for (int v = 0; v < PIECE / VECTOR; ++v) part[v] = make_uint4(0, 0, 0, 0);
        if (row == nullptr || at >= cols) return;
        if (aligned && at + PIECE <= cols) {
#pragma unroll
            for (int v = 0; v < PIECE / VECTOR; ++v)
                part[v] = *reinterpret_cast<const uint4 *>(row + at + v * VECTOR);
        } else {
#pragma unroll
            for (int e = 0; e < PIECE; ++e)
                if (at + e < cols) put(e, row[at + e]);
        }
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 2)
qr_products(const Stored *const *__restrict__ rows, const unsigned *__restrict__ indptr,
            const unsigned *__restrict__ phase, const unsigned *__restrict__ reached,
            const unsigned *__restrict__ jpvt, const RowTile *__restrict__ tiles, double *__restrict__ r,
            ProductShape shape) {
    enum { ROWS = 0, PIVOTS = 1 };
    __shared__ double staged[2][2][DEPTH][TILE]; // [stage, operand, column, row]
    RowTile tile = tiles[blockIdx.x / shape.pivot_tiles];
    unsigned first_pivot = blockIdx.x % shape.pivot_tiles * TILE;
    unsigned begin = indptr[tile.group], size = indptr[tile.group + 1] - begin, pivots = reached[tile.group];
    if (phase[tile.group] != FORCED || first_pivot >= pivots) return; // the whole block

    // The piece that this thread stages: 16 rows of half a warp lie side by side, so that stores meet no bank twice.
    unsigned thread = threadIdx.x, lane = thread % WARP, part = thread / WARP % (WARPS / 2);
    unsigned operand = thread / (THREADS / 2), row = lane % 16 + 16 * (part / 2);
    unsigned column = PIECE * (lane / 16 + 2 * (part % 2));
    const Stored *source = nullptr;
    if (operand == ROWS && tile.first + row < size) source = rows[begin + tile.first + row];
    if (operand == PIVOTS && first_pivot + row < pivots)
        source = rows[begin + jpvt[(Index)tile.group * shape.rank + first_pivot + row]];
    bool aligned = reinterpret_cast<Index>(source) % 16 == 0;

    // Rows 2x, 2x+1, 16+2x, 16+2x+1 against pivots of the same pattern, in one slice of every DEPTH columns.
    unsigned slice = thread / 64, x = thread % 8, y = thread / 8 % 8;
    double sums[4][4] = {};
    Piece piece;
    piece.load(source, aligned, column, shape.cols);
    unsigned stage = 0;
    for (Index start = 0; start < shape.cols; start += DEPTH, stage ^= 1) {
#pragma unroll
        for (int e = 0; e < PIECE; ++e) staged[stage][operand][column + e][row] = piece.of(e);
        __syncthreads(); // this stage is written; the other one, which is written next, is read
        piece.load(source, aligned, start + DEPTH + column, shape.cols);
#pragma unroll
        for (int k = 0; k < SLICE; ++k) {
            double left[4], right[4];
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const double *a = &staged[stage][ROWS][slice * SLICE + k][16 * h + 2 * x];
                const double *b = &staged[stage][PIVOTS][slice * SLICE + k][16 * h + 2 * y];
                double2 both = *reinterpret_cast<const double2 *>(a);
                left[2 * h] = both.x, left[2 * h + 1] = both.y;
                both = *reinterpret_cast<const double2 *>(b);
                right[2 * h] = both.x, right[2 * h + 1] = both.y;
            }
#pragma unroll
            for (int p = 0; p < 4; ++p)
#pragma unroll
                for (int q = 0; q < 4; ++q) sums[p][q] = fma(left[q], right[p], sums[p][q]);
        }
    }
    __syncthreads(); // both stages are read: they hold the slices' sums from here on
    double(*slices)[TILE][TILE] = reinterpret_cast<double(*)[TILE][TILE]>(staged); // [slice, pivot, row]
#pragma unroll
    for (int p = 0; p < 4; ++p)
#pragma unroll
        for (int h = 0; h < 2; ++h)
            *reinterpret_cast<double2 *>(&slices[slice][p / 2 * 16 + 2 * y + p % 2][16 * h + 2 * x]) =
                make_double2(sums[p][2 * h], sums[p][2 * h + 1]);
    __syncthreads(); // the sums of all slices are there
    for (unsigned p = thread / WARP; p < TILE && first_pivot + p < pivots; p += WARPS)
        if (tile.first + lane < size)
            r[(first_pivot + p) * shape.count + begin + tile.first + lane] =
                slices[0][p][lane] + slices[1][p][lane] + slices[2][p][lane] + slices[3][p][lane];
}

// One group, as qr_solve sees it.
struct Group {
    double *r; // R[a, i] at r[a * pitch + i]
    Index pitch;
    const double *squares;
    const unsigned *jpvt;
    unsigned size, pivots;

    __device__ __forceinline__ double &at(unsigned a, unsigned i) const { return r[a * pitch + i]; }
};

// The upper factor of the panel of pivots from `first` on, [PANEL, PANEL] in shared memory, its diagonal inverted; false if
// it is not positive.
__device__ __forceinline__ bool factor_panel(const Group &group, unsigned first, unsigned width, double *panel) {
    unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (unsigned entry = warp; entry < PANEL * PANEL; entry += WARPS) {
        unsigned q = entry / PANEL, s = entry % PANEL;
        if (q > s || s >= width) continue; // the whole warp
        unsigned left = group.jpvt[first + q], right = group.jpvt[first + s];
        double sum = 0.0;
        for (unsigned a = lane; a < first; a += WARP) sum = fma(group.at(a, left), group.at(a, right), sum);
        sum = warp_sum(sum);
        if (lane == 0) panel[entry] = group.at(first + q, right) - sum;
    }
    __shared__ unsigned positive;
    __syncthreads(); // the panel's products are there
    if (warp == 0) {
        // Lane s holds column s.
        double column[PANEL];
#pragma unroll
        for (unsigned q = 0; q < PANEL; ++q)
            column[q] = lane < width && q <= lane ? panel[q * PANEL + lane] : (q == lane ? 1.0 : 0.0);
        bool good = true;
#pragma unroll
        for (unsigned q = 0; q < PANEL; ++q) {
            double square = __shfl_sync(ALL_LANES, column[q], q);
            good &= square > 0.0;
            double root = sqrt(square);
            column[q] = lane == q ? root : column[q] / root;
#pragma unroll
            for (unsigned below = q + 1; below < PANEL; ++below)
                column[below] -= __shfl_sync(ALL_LANES, column[q], below) * column[q];
        }
#pragma unroll
        for (unsigned q = 0; q < PANEL; ++q)
            if (lane < width && q <= lane) panel[q * PANEL + lane] = q == lane ? 1.0 / column[q] : column[q];
        if (lane == 0) positive = good;
    }
    __syncthreads(); // the panel's factor is there
    return positive;
}

// Rows first .. first + width of R, in all columns.
__device__ __forceinline__ void solve_panel(const Group &group, unsigned first, unsigned width, const double *panel,
                                            const unsigned *order) {
    __shared__ double factor[WARP][PANEL]; // rows of R before the panel, at its pivots
    for (unsigned tile = 0; tile < group.size; tile += THREADS) {
        unsigned i = tile + threadIdx.x;
        bool inside = i < group.size;
        double x[PANEL];
#pragma unroll
        for (unsigned q = 0; q < PANEL; ++q) x[q] = inside && q < width ? group.at(first + q, i) : 0.0;
        for (unsigned start = 0; start < first; start += WARP) {
            unsigned a = start + threadIdx.x / PANEL, q = threadIdx.x % PANEL;
            __syncthreads(); // the rows staged before are read
            factor[threadIdx.x / PANEL][q] = a < first && q < width ? group.at(a, group.jpvt[first + q]) : 0.0;
            __syncthreads(); // these are staged
            for (unsigned k = 0; inside && k < WARP && start + k < first; ++k) {
                double above = group.at(start + k, i);
#pragma unroll
                for (unsigned q = 0; q < PANEL; ++q) x[q] = fma(-factor[k][q], above, x[q]);
            }
        }
        if (!inside) continue;
        unsigned step = order[i];
#pragma unroll
        for (unsigned q = 0; q < PANEL; ++q) {
            if (q >= width) break;
#pragma unroll
            for (unsigned b = 0; b < q; ++b) x[q] = fma(-panel[b * PANEL + q], x[b], x[q]);
            x[q] *= panel[q * PANEL + q];
            if (step < first + q) x[q] = 0.0; // below the diagonal
            group.at(first + q, i) = x[q];
        }
    }
    __syncthreads(); // these rows are there, in all columns; the factor and the panel are read
}

// Whether the residual of row i after `steps` pivots, whose square is `square`, is good to its bound, which is `margin` then.
// A warp's work; `t` is its own workspace.
__device__ __forceinline__ bool is_good(const Group &group, const Limits &limits, const SolveShape &shape, double *t,
                                        unsigned i, unsigned steps, double square, double &margin) {
    unsigned lane = threadIdx.x % WARP;
    for (unsigned a = lane; a < steps; a += WARP) t[a] = group.at(a, i);
    double spread = sqrt(group.squares[i]);
    for (unsigned a = steps; a-- > 0;) {
        __syncwarp(); // the lanes' parts of `t` are there
        unsigned pivot = group.jpvt[a];
        double coeff = t[a] / group.at(a, pivot);
        spread += fabs(coeff) * sqrt(group.squares[pivot]);
        for (unsigned b = lane; b < a; b += WARP) t[b] = fma(-coeff, group.at(b, pivot), t[b]);
    }
    __syncwarp(); // `t` is read: it is the next row's
    margin = (double)(shape.cols + limits.rank + 4) * 0x1p-52 * spread * spread;
    bool good = trusted(square, margin);
    // The norm is off by margin / (2 sqrt(square)): at most 12 sqrt(rank) (n + r + 4) u of the largest.
    if (!shape.from_gram) good &= spread * spread <= 12.0 * sqrt((double)limits.rank * square) * limits.largest;
    return good;
}

extern "C" __global__ void __launch_bounds__(THREADS)
qr_solve(const double *__restrict__ squares, const unsigned *__restrict__ indptr, const Limits *__restrict__ limits,
         const unsigned *__restrict__ reached, const unsigned *__restrict__ jpvt, unsigned *__restrict__ phase, double *r,
         unsigned *order, double *coeffs, double *__restrict__ remaining, SolveShape shape) {
    __shared__ double panel[PANEL * PANEL];
    __shared__ Leader leaders[WARPS];
    __shared__ unsigned doubts;
    unsigned g = blockIdx.x, thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP;
    if (phase[g] != FORCED) return; // the whole block
    unsigned begin = indptr[g];
    Group group = {r + begin, shape.count, squares + begin, jpvt + (Index)g * shape.rank, indptr[g + 1] - begin, reached[g]};
    Limits own = limits[g];
    order += begin;

    if (thread == 0) doubts = 0;
    for (unsigned i = thread; i < group.size; i += THREADS) order[i] = NONE;
    __syncthreads(); // every row is marked as not taken before the taken ones are
    for (unsigned j = thread; j < group.pivots; j += THREADS) order[group.jpvt[j]] = j;
    __syncthreads(); // the marks are there
    for (unsigned first = 0; first < group.pivots; first += PANEL) {
        unsigned width = group.pivots - first < PANEL ? group.pivots - first : PANEL;
        if (!factor_panel(group, first, width, panel)) return; // the whole block: it stays FORCED
        solve_panel(group, first, width, panel, order);
    }

    Leader best = {-1.0, NONE};
    for (unsigned i = thread; i < group.size; i += THREADS) {
        if (order[i] != NONE) continue;
        double square = group.squares[i];
        for (unsigned a = 0; a < group.pivots; ++a) square = fma(-group.at(a, i), group.at(a, i), square);
        Leader other = {square > 0.0 ? square : 0.0, i};
        if (best.behind(other)) best = other;
    }
    best = warp_leader(best);
    if (lane == 0) leaders[warp] = best;
    __syncthreads(); // the warps' leaders are there
    best = leaders[0];
    for (unsigned w = 1; w < WARPS; ++w)
        if (best.behind(leaders[w])) best = leaders[w];

    // Pivots by a warp each, then the leader of the rest, if there is one.
    double *t = coeffs + ((Index)g * WARPS + warp) * shape.rank;
    unsigned last = best.row != NONE && own.largest > 0.0 ? group.pivots + 1 : group.pivots;
    for (unsigned j = (shape.from_gram ? group.pivots : 0) + warp; j < last; j += WARPS) {
        bool pivot = j < group.pivots;
        unsigned i = pivot ? group.jpvt[j] : best.row;
        double square = pivot ? group.at(j, i) * group.at(j, i) : best.square, margin;
        bool good = is_good(group, own, shape, t, i, j, square, margin);
        // The residuals only fall: where the last pivot's is above the tolerance, no step should have stopped.
        if (pivot && j + 1 == group.pivots) good &= square > own.tolerance * own.tolerance + margin;
        if (!good && lane == 0) atomicOr(&doubts, 1u);
    }
    __syncthreads(); // all doubts are known
    if (thread > 0 || doubts) return;
    remaining[g] = best.row == NONE ? 0.0 : sqrt(best.square);
    phase[g] = DONE;
}
