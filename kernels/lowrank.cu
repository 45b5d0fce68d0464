// The adapter's forward: gather, gate, premix and expand, in place or not.
//
// Math
//   X = Y0[:, S] - b[S]                         [t, k, r]   rounded to ELEMENT; b only where Y0 includes it
//   a = gate(X) or gate(H)                      [t, k]      see src/lowrank/mod.rs for the five gates
//   z = sum_i a_i d_i X_i                       [t, r]      d: dropout factors, ones without
//   Y = Y0 + (kappa B) z + b                    [t, m]      B [m/s, r/s] on each of the s parts of z; b only where Y0 lacks it
//   A sub-row is one of the s parts of a token's row: row token*s + part of [t*s, m/s], of z [t*s, r/s].
// Operands
//   y0        [t, m] of ELEMENT; not read where in_place, when y holds it
//   h         [t, n] of ELEMENT; linear gates
//   skeleton  [k*r] of 32 bits, distinct and below m
//   b         [m/s, r/s] of float
//   gate      [1, r], [k, n] or [1, k] of float
//   bias      [m] of ELEMENT; read as bias_kind says
//   y         [t, m] of ELEMENT
//   x, a      [t, k*r] of ELEMENT, [t, k] of float: saved for the backward, by lowrank_forward_saving only
//   Each starts `name` elements into its buffer; rows are ld_name apart. What lies between rows is neither read nor written.
// Tile
//   WARPS     warps of a block
//   A block owns block_tokens tokens and all their columns. A warp takes a token at a time up to z, and a window of 32
//   columns of all sub-rows at a time after it. Where `holds`, the block's Y0 lies in shared memory from the first to the
//   last; else the gather reads it from device memory, and the windows once more.
// Launch
//   lowrank_forward, lowrank_forward_saving    ceil(t / block_tokens) blocks of [32, WARPS] threads, with the dynamic shared
//   memory that src/gpu/lowrank/forward.rs lays out
// Requires
//   t >= 1; m < 2^32 and n < 2^32; s divides m and r; k*r <= m. Any ld, any alignment of elements: 16 bytes at a time where
//   the start, ld and m/s are multiples of 16 bytes, else one element at a time.
//   The block's shared memory, which grows with k*r and r/s, within the device's (checked by the host): on an H100 that is k*r up
//   to 6144 at k = 4, s = 2 and 16 bits.
// Traffic
//   Least: Y0 read once, Y written once, X and a written once, H read once. That is what moves where `holds` and k <= 4 (a
//   linear gate reads H once per 4 components). Else Y0's sectors of the chosen columns come on top. Per block also B once, and
//   W_g once per 8 tokens, from the second cache. At m = 4096, s = 2, k = 4, a block of 16 tokens of bf16 takes an H100's
//   memory 11 us (256 KiB at 1/132 of 3 TB/s). Tensor work at 1/132 of 495 TFLOP/s, half of the dense rate: 1536 mma of
//   16x8x16 at r = 32, 1.7 us; 6144 at r = 128, 6.7 us, where B, 512 KiB a block, is more than Y0 and Y.
// Numerics
//   U = 2^-24, the rounding of float. X: one subtraction in float, rounded to ELEMENT; a copy without a bias. Gates: float,
//   from the rounded X; an element of a dot product passes r/32 + 6 roundings, one of a logit n/256 + 13; squares of the rms
//   and softmax in double. z: k products of three factors and k sums, in float.
//   kappa*B is rounded to float. It and z enter as bfloat16 terms (common/terms.cuh): two for f16 and bf16, off by
//   3.03 * 2^-16 of sum |B||z|; three for f32, off by 2.02 U. What lies below 2^-134 is lost. Products are exact. Sums are
//   float, on tensor cores, which may cut where float rounds: 2U an addition. Two terms: three products for each of r/s
//   in one sum. Three: the leading ones in one, the five others, at most 2^-7 as large, in another.
//   The largest z is as good as any, an infinite one gives infinity or NaN. A kappa*B beyond 3.39e38 counts as infinite and
//   gives NaN. b, then the update are added to Y0 in float, rounded once; a zero update leaves Y0 + b with its bits.
//   Order: fixed by r, k, n and s. A token's results do not depend on the others, nor on block_tokens or `holds`.

#include "common/shrink.cuh"

// A window is 64 bytes of every sub-row; in shared memory by itself, [16*ROW_TILES, STAGE_PITCH].
enum { WINDOW = 64 / (int)sizeof(Stored), COLUMN_TILES = WINDOW / 8, STAGE_PITCH = sizeof(Stored) == 4 ? 24 : 40 };

// Whether sub-rows start on 16 bytes.
__device__ __forceinline__ bool aligned(const Stored *start, Index ld, unsigned part) {
    return reinterpret_cast<Index>(start) % 16 == 0 && ld % VECTOR == 0 && part % VECTOR == 0;
}

// Starts to read the block's Y0 into the tile [sub_rows, tile_pitch].
__device__ __forceinline__ void load_tile(const Stored *y0, Stored *tile, const Block &block, const Shape &shape) {
    bool vectors = aligned(y0, shape.ld_y0, block.part);
    for (unsigned row = block.warp; row < block.sub_rows; row += WARPS) {
        const Stored *from = y0 + (block.first + row / shape.split) * shape.ld_y0 + row % shape.split * block.part;
        Stored *to = tile + row * shape.tile_pitch;
        if (vectors) {
            for (unsigned v = block.lane; v < block.part / VECTOR; v += WARP)
                cp_async_16(to + v * VECTOR, from + v * VECTOR);
        } else {
#pragma unroll 4
            for (unsigned c = block.lane; c < block.part; c += WARP) to[c] = from[c];
            if (block.lane == 0 && block.part % 2 == 1) to[block.part] = Stored(0); // see `add`
        }
    }
}

// Four neighbours in r/s, from d, of row column + 8n + lane/4 of B, for each n; zero outside.
__device__ __forceinline__ void load_b(float4 (&values)[COLUMN_TILES], const float *b, bool whole, unsigned column, unsigned d,
                                       const Block &block, const Shape &shape) {
    unsigned c = column + block.lane / 4;
    d += block.lane % 4 * 4;
    const float *at = b + c * shape.ld_b + d;
    if (whole) { // one block of code, so that all loads are on their way before the first is waited for
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; ++n) values[n] = *reinterpret_cast<const float4 *>(at + 8 * n * shape.ld_b);
        return;
    }
#pragma unroll
    for (int n = 0; n < COLUMN_TILES; ++n, at += 8 * shape.ld_b) {
#pragma unroll
        for (unsigned e = 0; e < 4; ++e)
            (&values[n].x)[e] = c + 8 * n < block.part && d + e < block.depth ? at[e] : 0.0f;
    }
}

// The update of a window [16*ROW_TILES sub-rows, WINDOW] whose first column is `column`.
template <int ROW_TILES>
__device__ __forceinline__ void multiply(Tile<TERMS> (&update)[ROW_TILES][COLUMN_TILES], const float *b, unsigned group,
                                         unsigned column, const Block &block, const Shape &shape) {
    bool whole = reinterpret_cast<Index>(b) % 16 == 0 && shape.ld_b % 4 == 0 && block.depth % 16 == 0 &&
                 column + WINDOW <= block.part;
    const unsigned short *z = shared_at<unsigned short>(shape.terms) + group / 16 * block.steps * STEP + block.lane * FRAGMENT;
    float4 values[COLUMN_TILES];
    load_b(values, b, whole, column, 0, block, shape);
    for (unsigned step = 0; step < block.steps; ++step, z += STEP) {
        unsigned terms[COLUMN_TILES][TERMS][2];
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; ++n) {
            unsigned first[TERMS], second[TERMS];
            split_pair(shape.scale * values[n].x, shape.scale * values[n].y, first);
            split_pair(shape.scale * values[n].z, shape.scale * values[n].w, second);
#pragma unroll
            for (int i = 0; i < TERMS; ++i) {
                terms[n][i][0] = first[i];
                terms[n][i][1] = second[i];
            }
        }
        if (step + 1 < block.steps) load_b(values, b, whole, column, 16 * (step + 1), block, shape);
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m) {
            uint4 of_z[TERMS];
#pragma unroll
            for (int i = 0; i < TERMS; ++i)
                of_z[i] = *reinterpret_cast<const uint4 *>(z + i * shape.term_stride + m * block.steps * STEP);
#pragma unroll
            for (int n = 0; n < COLUMN_TILES; ++n) update[m][n].add(of_z, terms[n]);
        }
    }
}

// y0 + update; with no update y0's bits, the sign of its zero too.
__device__ __forceinline__ float plus(float y0, float update) { return update == 0.0f ? y0 : y0 + update; }

// Adds the update, and the bias where it is separate, to a window [rows, count] in shared memory, where a row has an even
// number of columns.
template <int ROW_TILES>
__device__ __forceinline__ void add(Stored *window, unsigned pitch, const Tile<TERMS> (&update)[ROW_TILES][COLUMN_TILES],
                                    const Stored *bias, unsigned group, unsigned rows, unsigned count, const Block &block,
                                    const Shape &shape) {
    unsigned g = block.lane / 4, q = block.lane % 4;
    window += g * pitch + 2 * q;
    float2 y[2 * ROW_TILES][COLUMN_TILES];
#pragma unroll
    for (int half = 0; half < 2 * ROW_TILES; ++half) {
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; ++n) {
            Elem::Pair pair = {};
            if (8 * half + g < rows && 8 * n + 2 * q < count)
                pair = *reinterpret_cast<const Elem::Pair *>(window + 8 * half * pitch + 8 * n);
            y[half][n] = Elem::widen_pair(pair);
        }
    }
    if (shape.bias_kind == SEPARATE) {
#pragma unroll
        for (int half = 0; half < 2 * ROW_TILES; ++half) {
            const Stored *of_row = bias + (group + 8 * half + g) % shape.split * block.part;
#pragma unroll
            for (int n = 0; n < COLUMN_TILES; ++n) {
                unsigned c = 8 * n + 2 * q;
                if (c < count) y[half][n].x += Elem::widen(of_row[c]);
                if (c + 1 < count) y[half][n].y += Elem::widen(of_row[c + 1]);
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2 * ROW_TILES; ++half) {
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; ++n) {
            float2 sum = make_float2(plus(y[half][n].x, update[half / 2][n].at(half % 2 * 2)),
                                     plus(y[half][n].y, update[half / 2][n].at(half % 2 * 2 + 1)));
            if (8 * half + g < rows && 8 * n + 2 * q < count)
                *reinterpret_cast<Elem::Pair *>(window + 8 * half * pitch + 8 * n) = Elem::narrow_pair(sum);
        }
    }
}

// Which vector of a window a lane copies, 8 rows at a time: the 8 lanes that shared memory serves together have 8 different
// groups of 4 banks, for pitches that are odd multiples of 16 bytes, of 32 for float.
__device__ __forceinline__ unsigned window_row(unsigned lane) {
    return VECTOR == 8 ? lane % 8 : lane % 8 / 2 + lane / 16 * 4;
}
__device__ __forceinline__ unsigned window_vector(unsigned lane) {
    return VECTOR == 8 ? lane / 8 : lane / 8 % 2 * 2 + lane % 2;
}

// Copies a window between shared and device memory: sub-row i is `count` elements at memory + starts[i].
template <bool TO_SHARED, typename Memory>
__device__ __forceinline__ void copy_window(Stored *window, unsigned pitch, Memory *memory, const Index *starts, bool vectors,
                                            unsigned rows, unsigned count, unsigned lane) {
    if (vectors) {
        unsigned c = window_vector(lane) * VECTOR;
        if (c >= count) return;
        for (unsigned row = window_row(lane); row < rows; row += 8) {
            if constexpr (TO_SHARED) cp_async_16(window + row * pitch + c, memory + starts[row] + c);
            else
                *reinterpret_cast<uint4 *>(memory + starts[row] + c) =
                    *reinterpret_cast<const uint4 *>(window + row * pitch + c);
        }
    } else if (lane < (TO_SHARED ? count + count % 2 : count)) { // see `add`
        for (unsigned row = 0; row < rows; ++row) {
            if constexpr (TO_SHARED) window[row * pitch + lane] = lane < count ? memory[starts[row] + lane] : Stored(0);
            else memory[starts[row] + lane] = window[row * pitch + lane];
        }
    }
}

// The update of all columns, 16*ROW_TILES sub-rows at a time.
template <int ROW_TILES>
__device__ __forceinline__ void expand(const Stored *y0, const float *b, const Stored *bias, Stored *y, const Block &block,
                                       const Shape &shape) {
    bool vectors_in = aligned(y0, shape.ld_y0, block.part), vectors_out = aligned(y, shape.ld_y, block.part);
    unsigned pitch = shape.holds ? shape.tile_pitch : STAGE_PITCH;
    for (unsigned group = 0; group < block.sub_rows; group += 16 * ROW_TILES) {
        unsigned rows = block.sub_rows - group < 16 * ROW_TILES ? block.sub_rows - group : 16 * ROW_TILES;
        for (unsigned column = block.warp * WINDOW; column < block.part; column += WARPS * WINDOW) {
            unsigned count = block.part - column < WINDOW ? block.part - column : WINDOW;
            Stored *window = shared_at<Stored>(shape.tile);
            if (shape.holds) {
                window += group * pitch + column;
            } else {
                window += block.warp * 16 * ROW_TILES * STAGE_PITCH;
                copy_window<true>(window, pitch, y0 + column, block.from + group, vectors_in, rows, count, block.lane);
            }
            Tile<TERMS> update[ROW_TILES][COLUMN_TILES];
            multiply(update, b, group, column, block, shape);
            cp_async_wait_all();
            __syncwarp(); // the window is there before other lanes read it
            add(window, pitch, update, bias + column, group, rows, count, block, shape);
            __syncwarp(); // all of the window is updated before it is stored
            copy_window<false>(window, pitch, y + column, block.to + group, vectors_out, rows, count, block.lane);
            __syncwarp(); // the window is stored before the next one overwrites it
        }
    }
}

template <bool SAVES>
__device__ __forceinline__ void forward(const Stored *y0, const Stored *h, const unsigned *skeleton, const float *b,
                                        const float *gate, const Stored *bias, Stored *y, Stored *x, float *a,
                                        const Shape &shape) {
    Block block(shape);
    y += shape.y;
    y0 = shape.in_place ? y : y0 + shape.y0;
    gate += shape.gate;
    bias += shape.bias;
    if (shape.holds) load_tile(y0, shared_at<Stored>(shape.tile), block, shape);
    prepare(skeleton + shape.skeleton, block, shape);
    if (shape.gate_kind == LINEAR || shape.gate_kind == LINEAR_SOFTMAX) project(h + shape.h, gate, block, shape);
    cp_async_wait_all();
    __syncthreads(); // tile, tables, zeroed terms and partial logits are there before any warp reads those of others
    shrink<SAVES>(y0, skeleton + shape.skeleton, gate, bias, x + shape.x, a + shape.a, block, shape);
    __syncthreads(); // every chosen column is read, and every z written, before any column is updated
    if (shape.term_rows <= 16) expand<1>(y0, b + shape.b, bias, y, block, shape);
    else expand<2>(y0, b + shape.b, bias, y, block, shape);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
lowrank_forward(const Stored *y0, const Stored *__restrict__ h, const unsigned *__restrict__ skeleton,
                const float *__restrict__ b, const float *__restrict__ gate, const Stored *__restrict__ bias, Stored *y,
                Shape shape) {
    forward<false>(y0, h, skeleton, b, gate, bias, y, nullptr, nullptr, shape);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
lowrank_forward_saving(const Stored *y0, const Stored *__restrict__ h, const unsigned *__restrict__ skeleton,
                       const float *__restrict__ b, const float *__restrict__ gate, const Stored *__restrict__ bias,
                       Stored *y, Stored *x, float *a, Shape shape) {
    forward<true>(y0, h, skeleton, b, gate, bias, y, x, a, shape);
}
