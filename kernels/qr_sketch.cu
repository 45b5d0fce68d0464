// Truncated pivoted QR of groups of rows, sketch tier: the sketch, and what becomes of its pivots, which the exact tier takes.
//
// Math
//   Sketch:  y_i = s c_i Omega for every row, with s the group's power of two
//   Pivots:  those of the sketch, as far as its rounding to float could not decide them: the leading steps with
//            R[j,p] > 2^-16 |y_p|. Groups with all their pivots are FORCED to them, others GREEDY from there on.
// Operands
//   rows       [count] addresses of rows of ELEMENT, the groups one after another
//   tiles      [ceil(blocks / column_tiles)] of Tile: rows of one group, where its Omega starts, its s
//   omega      [cols, width] of double for every Omega, one after another; columns that a group does not want are zero
//   y          [count, width] of float
//   squares    [count] of double: squared norms of y
//   indptr     [groups + 1]: group g is rows indptr[g] to indptr[g+1]
//   limits     [groups] of Limits, of the rows
//   found, found_jpvt, found_r    what the exact tier makes of y: [groups] pivots taken, [groups, rank] their positions,
//              [rank, count] of double
//   phase, reached, jpvt    of the rows: [groups], [groups], [groups, rank]
// Tile
//   WARPS    warps of a block
//   A block of sketch_narrow takes 2*WARP rows and WARPS*NARROW columns, one of sketch_wide WARP rows and WARPS*WIDE columns; a
//   lane takes rows, a warp columns. NARROW_CHUNK, WIDE_CHUNK: elements of a row in shared memory at a time.
// Launch (grids have one dimension, blocks are [32, WARPS] threads)
//   sketch_narrow, sketch_wide    a block per Tile and column tile, the column tiles of a Tile side by side; dynamic shared
//                                 memory for a chunk of the rows, [chunk, rows + 1], and of Omega, [chunk, columns], in double
//   sketch_pivots                 ceil(groups / WARPS) blocks, a warp per group
// Requires
//   cols >= 1; any alignment of rows; width a multiple of NARROW or WIDE, and column_tiles times a block's columns to hold it
//   1 <= rows of a Tile <= rows of a block
//   |s c_i| < 2 and Omega finite: y is far from the ends of float
// Traffic
//   Least: the rows once, y once. Omega is read whole by every Tile, and y is written in halves of sectors. Where a row is
//   not aligned to 32 bytes, a chunk of it shares a sector with the next one. More than WARPS*WIDE columns: the rows once
//   per column tile. No bank conflicts.
// Numerics
//   An element of y is summed in double in the order of the row by fused multiply-adds, n roundings, scaled exactly, and
//   rounded once to float: 2^-24 of itself, which is what counts. So y_i is off by 2^-24 |y_i|, and a residual of y_i outside
//   pivots p, where y_i ~ sum_p t_p y_p, by 2^-24 (|y_i| + sum |t_p||y_p|): less than 2^-16 |y_i| but for coefficients that no
//   greedy choice has in practice. Past that the rows decide. Equal rows have equal sketches, to the bit.

#include "common/qr.cuh"

struct Tile {
    Index omega; // in elements
    double scale;
    unsigned first, rows;
};
static_assert(sizeof(Tile) == 24, "as in src/gpu/qr/sketch.rs");

struct Shape {
    Index cols;
    unsigned width, column_tiles;
};
static_assert(sizeof(Shape) == 16, "as in src/gpu/qr/sketch.rs");
static_assert(NARROW % 4 == 0 && WIDE % 4 == 0, "a warp's columns of y are whole vectors");

// A warp's columns of a row of y.
template <int COLUMNS>
__device__ __forceinline__ void write(const double (&sum)[COLUMNS], double scale, float *out) {
#pragma unroll
    for (int c = 0; c < COLUMNS; c += 4)
        *reinterpret_cast<float4 *>(out + c) = make_float4((float)(sum[c] * scale), (float)(sum[c + 1] * scale),
                                                           (float)(sum[c + 2] * scale), (float)(sum[c + 3] * scale));
}

// Y for a tile of ROWS*WARP rows and WARPS*COLUMNS columns, CHUNK elements of the rows at a time.
template <int ROWS, int COLUMNS, int CHUNK>
__device__ __forceinline__ void sketch(const Stored *const *rows, const Tile *tiles, const double *omega, float *y,
                                       const Shape &shape) {
    enum { PITCH = ROWS * WARP + 1, EACH = ROWS * WARP / WARPS }; // odd: a warp writes along a row without conflicts
    extern __shared__ __align__(16) double shared[];
    unsigned lane = threadIdx.x, warp = threadIdx.y;
    Tile tile = tiles[blockIdx.x / shape.column_tiles];
    unsigned first_column = blockIdx.x % shape.column_tiles * (WARPS * COLUMNS);
    unsigned columns = shape.width - first_column < WARPS * COLUMNS ? shape.width - first_column : WARPS * COLUMNS;
    double *factors = shared;                // [CHUNK, columns]
    double *wide = shared + CHUNK * columns; // [CHUNK, PITCH]
    bool computes = warp * COLUMNS < columns;

    const Stored *staged[EACH]; // the rows that this warp brings to shared memory
#pragma unroll
    for (unsigned i = 0; i < EACH; ++i)
        staged[i] = warp + i * WARPS < tile.rows ? rows[tile.first + warp + i * WARPS] : nullptr;
    unsigned at[ROWS]; // the rows that this lane computes; past the last, the first again
#pragma unroll
    for (unsigned r = 0; r < ROWS; ++r) at[r] = lane + r * WARP < tile.rows ? lane + r * WARP : 0;

    double sum[ROWS][COLUMNS] = {};
    const double *source = omega + tile.omega + first_column;
    for (Index begin = 0; begin < shape.cols; begin += CHUNK) {
        unsigned size = shape.cols - begin < CHUNK ? shape.cols - begin : CHUNK;
        __syncthreads(); // every thread is done with the chunk before
        for (unsigned k = warp; k < size; k += WARPS)
            for (unsigned c = 2 * lane; c < columns; c += 2 * WARP)
                *reinterpret_cast<double2 *>(factors + k * columns + c) =
                    *reinterpret_cast<const double2 *>(source + (begin + k) * shape.width + c);
#pragma unroll
        for (unsigned i = 0; i < EACH; ++i)
            for (unsigned k = lane; k < size && staged[i]; k += WARP)
                wide[k * PITCH + warp + i * WARPS] = Elem::widen(staged[i][begin + k]);
        __syncthreads(); // the chunk is whole before it is used
        if (!computes) continue;
#pragma unroll 2
        for (unsigned k = 0; k < size; ++k) {
            double w[ROWS];
#pragma unroll
            for (int r = 0; r < ROWS; ++r) w[r] = wide[k * PITCH + at[r]];
            const double2 *pairs = reinterpret_cast<const double2 *>(factors + k * columns + warp * COLUMNS);
#pragma unroll
            for (int c = 0; c < COLUMNS; c += 2) {
                double2 pair = pairs[c / 2]; // the same in every lane
#pragma unroll
                for (int r = 0; r < ROWS; ++r) {
                    sum[r][c] = fma(w[r], pair.x, sum[r][c]);
                    sum[r][c + 1] = fma(w[r], pair.y, sum[r][c + 1]);
                }
            }
        }
    }
    if (!computes) return;
#pragma unroll
    for (unsigned r = 0; r < ROWS; ++r)
        if (lane + r * WARP < tile.rows)
            write(sum[r], tile.scale, y + (Index)(tile.first + at[r]) * shape.width + first_column + warp * COLUMNS);
}

extern "C" __global__ void __launch_bounds__(WARP *WARPS)
sketch_narrow(const Stored *const *__restrict__ rows, const Tile *__restrict__ tiles, const double *__restrict__ omega,
              float *__restrict__ y, Shape shape) {
    sketch<2, NARROW, NARROW_CHUNK>(rows, tiles, omega, y, shape);
}

extern "C" __global__ void __launch_bounds__(WARP *WARPS)
sketch_wide(const Stored *const *__restrict__ rows, const Tile *__restrict__ tiles, const double *__restrict__ omega,
            float *__restrict__ y, Shape shape) {
    sketch<1, WIDE, WIDE_CHUNK>(rows, tiles, omega, y, shape);
}

struct Batch {
    Index count;
    unsigned groups, rank;
};
static_assert(sizeof(Batch) == 16, "as in src/gpu/qr/sketch.rs");

extern "C" __global__ void __launch_bounds__(WARP *WARPS)
sketch_pivots(const double *__restrict__ squares, const unsigned *__restrict__ indptr, const Limits *__restrict__ limits,
              const unsigned *__restrict__ found, const unsigned *__restrict__ found_jpvt,
              const double *__restrict__ found_r, unsigned *__restrict__ phase, unsigned *__restrict__ reached,
              unsigned *__restrict__ jpvt, Batch batch) {
    unsigned g = blockIdx.x * WARPS + threadIdx.y, lane = threadIdx.x;
    if (g >= batch.groups) return;
    Index begin = indptr[g], from = (Index)g * batch.rank;
    Index decided = found[g]; // the first step that is not
    for (Index j = lane; j < decided; j += WARP) {
        Index row = begin + found_jpvt[from + j];
        if (!(found_r[j * batch.count + row] > 0x1p-16 * sqrt(squares[row]))) decided = j;
    }
    decided = warp_min(decided);
    for (Index j = lane; j < decided; j += WARP) jpvt[from + j] = found_jpvt[from + j];
    if (lane != 0) return;
    reached[g] = decided;
    phase[g] = decided > 0 && decided == limits[g].rank ? FORCED : GREEDY;
}
