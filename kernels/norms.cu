// Row and column norms.
//
// Math
//   Rows:     norms[i] = sqrt(sum_j w[i,j]^2)
//   Columns:  norms[j] = sqrt(sum_i w[i,j]^2), in two stages: the norm of each chunk of CHUNK_ROWS rows, then the norm
//             of those norms.
//   Squares:  squares[i] = sum_j rows[i][j]^2, in double
// Operands
//   w         [rows, cols] of ELEMENT, row i at w + i*ld; what lies between cols and ld is never read
//   rows      [rows] addresses of rows of ELEMENT, of any matrices, in any order
//   squares   [rows] of double
//   partial   [ceil(rows / CHUNK_ROWS), cols] of float: norms of the chunks
//   norms     [rows] or [cols] of float
//   offender  one 64-bit integer, all ones before the launch: the least i*cols + j with w[i,j] NaN or infinite,
//             or rows[i][j]
// Tile
//   ROW_WARPS      rows of a block of norm_rows and norm_row_squares, a warp each
//   COLUMN_WARPS   warps of a block of norm_columns; each takes every COLUMN_WARPS-th row of the chunk
//   CHUNK_ROWS     rows of a chunk
//   A block of norm_columns takes 32*VECTOR columns (16 bytes of a row a lane), one of norm_columns_finish 256.
// Launch (grids have one dimension)
//   norm_rows, norm_row_squares    ceil(rows / ROW_WARPS) blocks of [32, ROW_WARPS] threads
//   norm_columns           ceil(cols / (32*VECTOR)) * ceil(rows / CHUNK_ROWS) blocks of [32, COLUMN_WARPS] threads
//   norm_columns_finish    ceil(cols / 256) blocks of 256 threads
// Requires
//   rows, cols >= 1 and (rows-1)*ld + cols elements in w; any ld >= cols, any alignment of rows.
//   Fewer than 2^47 rows and columns.
//   offender initialised to all ones.
// Traffic
//   Least: each element of w once, each norm once. Rows: that, plus what unaligned rows share of a sector. Columns: also
//   partial, written and read once: 8 bytes per CHUNK_ROWS elements. A launch that finds NaN or infinity reads the row,
//   or the chunk's column, once more. Squares read rows that do not start at a multiple of 16 bytes element by element, the
//   sectors again from L1.
// Numerics
//   float accumulation in three ranges (common/reduce.cuh), so that nothing vanishes or overflows before the norm does.
//   u = 2^-24. An element of a row passes at most cols/32 + VECTOR + 2 additions of its lane, 5 of the warp and 1 of the
//   ranges. One of a column passes CHUNK_ROWS/COLUMN_WARPS + COLUMN_WARPS + 1 within its chunk, then one addition per
//   chunk and 1 of the ranges. Each rounds by u, the root halves that and rounds once more. Where a chunk's norm
//   or the norm is subnormal, its rounding is 2^-150 instead.
//   Squares are exact in double and none over- or underflows: with u = 2^-53, cols/32 + VECTOR + 7 roundings of the sum.
//   Order: fixed by rows, cols, the tile and, but for squares, the alignment of rows; the same input gives the same bits, and
//   equal rows have equal squares.

#include "common/reduce.cuh"

struct Shape {
    Index rows, cols, ld;
};
static_assert(sizeof(Shape) == 24, "as in src/gpu/norms.rs");
static_assert(CHUNK_ROWS % COLUMN_WARPS == 0, "every warp takes as many rows");

typedef Squares<Elem::RANGE> Sum;

enum { TILE_COLUMNS = WARP * VECTOR, FINISH_THREADS = 256 };

// Whether all elements are in the middle range, as those of most weights are: then one range of three is summed.
__device__ __forceinline__ bool all_mid(const uint4 &bytes) {
    bool all = true;
#pragma unroll
    for (int e = 0; e < VECTOR; ++e) all &= Sum::is_mid(Elem::of(bytes, e));
    return all;
}

extern "C" __global__ void __launch_bounds__(WARP *ROW_WARPS)
norm_rows(const Stored *__restrict__ w, float *__restrict__ norms, Index *__restrict__ offender, Shape shape) {
    Index i = (Index)blockIdx.x * ROW_WARPS + threadIdx.y;
    if (i >= shape.rows) return;
    const Stored *row = w + i * shape.ld;
    unsigned lane = threadIdx.x;

    Sum sum;
    // Head, up to the first whole vector; body; tail.
    Index head = to_vector(row) < shape.cols ? to_vector(row) : shape.cols;
    Index vectors = (shape.cols - head) / VECTOR;
    if (lane < head) sum.add(Elem::widen(row[lane]));
    const Stored *body = row + head;
#pragma unroll 4
    for (Index v = lane; v < vectors; v += WARP) {
        uint4 bytes = load_vector(body + v * VECTOR);
        if (all_mid(bytes)) {
#pragma unroll
            for (int e = 0; e < VECTOR; ++e) sum.add_mid(Elem::of(bytes, e));
        } else {
#pragma unroll
            for (int e = 0; e < VECTOR; ++e) sum.add(Elem::of(bytes, e));
        }
    }
    Index tail = head + vectors * VECTOR + lane;
    if (tail < shape.cols) sum.add(Elem::widen(row[tail]));

    sum = warp_sum(sum);
    if (!sum.finite()) { // the same in every lane
        Index first = ~0ull;
        for (Index j = lane; j < shape.cols && first == ~0ull; j += WARP)
            if (!is_finite(Elem::widen(row[j]))) first = j;
        first = warp_min(first);
        if (lane == 0) atomicMin(offender, i * shape.cols + first);
    }
    if (lane == 0) norms[i] = sum.norm();
}

// Adds the squares of a lane's next VECTOR columns.
template <bool WHOLE>
__device__ __forceinline__ void add_squares(const Stored *row, Index first, Index cols, double &sum) {
    float x[VECTOR];
    load_elements<WHOLE>(row, first, cols, x);
#pragma unroll
    for (int e = 0; e < VECTOR; ++e) sum = fma((double)x[e], (double)x[e], sum);
}

extern "C" __global__ void __launch_bounds__(WARP *ROW_WARPS)
norm_row_squares(const Stored *const *__restrict__ rows, double *__restrict__ squares, Index *__restrict__ offender,
                 Shape shape) {
    Index i = (Index)blockIdx.x * ROW_WARPS + threadIdx.y;
    if (i >= shape.rows) return;
    const Stored *row = rows[i];
    unsigned lane = threadIdx.x;

    // A lane's columns are the same on both ways, so that equal rows have equal squares.
    double sum = 0.0;
    Index first = lane * VECTOR;
    if (reinterpret_cast<Index>(row) % 16 == 0) {
#pragma unroll 4
        for (; first + VECTOR <= shape.cols; first += WARP * VECTOR) add_squares<true>(row, first, shape.cols, sum);
    }
    for (; first < shape.cols; first += WARP * VECTOR) add_squares<false>(row, first, shape.cols, sum);
    sum = warp_sum(sum);
    if (!(sum <= 0x1.fffffffffffffp1023)) { // NaN or infinity, the same in every lane
        first = ~0ull;
        for (Index j = lane; j < shape.cols && first == ~0ull; j += WARP)
            if (!is_finite(Elem::widen(row[j]))) first = j;
        first = warp_min(first);
        if (lane == 0) atomicMin(offender, i * shape.cols + first);
    }
    if (lane == 0) squares[i] = sum;
}

// Where a lane's columns lie in the block's tile: VECTOR neighbours where rows are aligned, else every 32nd, so that a
// warp's scalar loads are neighbours.
struct Columns {
    unsigned lane_stride, stride;

    __device__ __forceinline__ explicit Columns(bool aligned)
        : lane_stride(aligned ? VECTOR : 1), stride(aligned ? 1 : WARP) {}

    __device__ __forceinline__ unsigned of(unsigned lane, unsigned e) const { return lane * lane_stride + e * stride; }
    __device__ __forceinline__ unsigned lane(unsigned column) const { return column / lane_stride % WARP; }
    __device__ __forceinline__ unsigned element(unsigned column) const { return column / stride % VECTOR; }
};

// Four blocks a multiprocessor: left to itself, the assembler aims at five and spills.
extern "C" __global__ void __launch_bounds__(WARP *COLUMN_WARPS, 4)
norm_columns(const Stored *__restrict__ w, float *__restrict__ partial, Index *__restrict__ offender, Shape shape) {
    // [COLUMN_WARPS, VECTOR, lanes] of each range; the pitch keeps writes by lane and reads by column free of conflicts.
    enum { PITCH = WARP + WARP / VECTOR };
    __shared__ float low[COLUMN_WARPS][VECTOR * PITCH];
    __shared__ float mid[COLUMN_WARPS][VECTOR * PITCH];
    __shared__ float high[COLUMN_WARPS][VECTOR * PITCH];

    Index tiles = (shape.cols + TILE_COLUMNS - 1) / TILE_COLUMNS;
    Index chunk = blockIdx.x / tiles;
    Index tile = blockIdx.x % tiles * TILE_COLUMNS;
    Index begin = chunk * CHUNK_ROWS;
    Index end = begin + CHUNK_ROWS < shape.rows ? begin + CHUNK_ROWS : shape.rows;
    bool aligned = reinterpret_cast<Index>(w) % 16 == 0 && shape.ld % VECTOR == 0;
    Columns columns(aligned);
    unsigned lane = threadIdx.x, warp = threadIdx.y;

    Sum sums[VECTOR];
    const Stored *first = w + tile + columns.of(lane, 0);
    if (aligned && tile + columns.of(lane, VECTOR - 1) < shape.cols) {
#pragma unroll 4
        for (Index i = begin + warp; i < end; i += COLUMN_WARPS) {
            uint4 bytes = load_vector(first + i * shape.ld);
            if (all_mid(bytes)) {
#pragma unroll
                for (int e = 0; e < VECTOR; ++e) sums[e].add_mid(Elem::of(bytes, e));
            } else {
#pragma unroll
                for (int e = 0; e < VECTOR; ++e) sums[e].add(Elem::of(bytes, e));
            }
        }
    } else {
        for (Index i = begin + warp; i < end; i += COLUMN_WARPS) {
#pragma unroll
            for (int e = 0; e < VECTOR; ++e)
                if (tile + columns.of(lane, e) < shape.cols)
                    sums[e].add(Elem::widen(first[i * shape.ld + e * columns.stride]));
        }
    }
#pragma unroll
    for (int e = 0; e < VECTOR; ++e) {
        low[warp][e * PITCH + lane] = sums[e].low;
        mid[warp][e * PITCH + lane] = sums[e].mid;
        high[warp][e * PITCH + lane] = sums[e].high;
    }
    __syncthreads(); // the sums of every warp are written before any thread adds them

    for (unsigned c = warp * WARP + lane; c < TILE_COLUMNS && tile + c < shape.cols; c += WARP * COLUMN_WARPS) {
        unsigned slot = columns.element(c) * PITCH + columns.lane(c);
        Sum sum;
        for (int other = 0; other < COLUMN_WARPS; ++other) {
            sum.low += low[other][slot];
            sum.mid += mid[other][slot];
            sum.high += high[other][slot];
        }
        Index j = tile + c;
        if (!sum.finite()) {
            Index i = begin;
            while (i + 1 < end && is_finite(Elem::widen(w[i * shape.ld + j]))) ++i;
            atomicMin(offender, i * shape.cols + j);
        }
        partial[chunk * shape.cols + j] = sum.norm();
    }
}

extern "C" __global__ void __launch_bounds__(FINISH_THREADS)
norm_columns_finish(const float *__restrict__ partial, float *__restrict__ norms, Shape shape) {
    Index j = (Index)blockIdx.x * FINISH_THREADS + threadIdx.x;
    if (j >= shape.cols) return;
    Index chunks = (shape.rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
    Squares<element::BEYOND_FLOAT> sum;
#pragma unroll 4
    for (Index chunk = 0; chunk < chunks; ++chunk) sum.add(partial[chunk * shape.cols + j]);
    norms[j] = sum.norm();
}
