// The adapter's forward: gather, gate, premix and expand, in place or not, of up to 8 modules of one shape in one launch.
//
// Math
//   X = Y0[:, S] - b[S]                         [t, k, r]   rounded to ELEMENT; b only where Y0 includes it. Or X as given
//   a = gate(X) or gate(H)                      [t, k]      see src/lowrank/mod.rs for the five gates
//   z = sum_i a_i d_i X_i                       [t, r]      d: dropout factors, ones without
//   Y = Y0 + (kappa B) z + b                    [t, m]      B [m/s, r/s] on each of the s parts of z; b only where Y0 lacks it
//   A sub-row is one of the s parts of a token's row: row token*s + part of [t*s, m/s], of z [t*s, r/s].
// Operands
//   All by address, one Module (shrink.cuh) for each: the layers that read one H are then one launch. They share the Shape alone.
//   y0        [t, m] of ELEMENT; in place, where y is
//   h         [t, n] of ELEMENT; linear gates
//   skeleton  [k*r] of 32 bits, distinct and below m
//   b         [m/s, r/s] of float
//   gate      [1, r], [k, n] or [1, k] of float
//   bias      [m] of ELEMENT; read as bias_kind says
//   given     [t, k*r] of ELEMENT: X, where it is not gathered; null where it is
//   y         [t, m] of ELEMENT
//   x, a, z   [t, k*r] of ELEMENT, [t, k] and [t, r] of float: saved for the backward, each where it is not null
//   Rows are ld_name elements apart; what lies between them is neither read nor written.
// Tile
//   WARPS     warps of a block
//   A block owns block_tokens tokens and all their columns. A warp takes a token at a time up to z, and a window of 32
//   columns (of 16 for f32) of all sub-rows at a time after it. Where `holds`, the block's Y0 lies in shared memory from the
//   first to the last; else the gather reads it from device memory, and the windows once more.
// Launch
//   lowrank_forward    ceil(t / block_tokens) blocks of [32, WARPS] threads for each module, one module after another, with
//   the dynamic shared memory that src/gpu/lowrank/layout.rs lays out
// Requires
//   1 to 8 modules, none of which writes what another reads or writes; `given` may be where X is to be saved, and `x` is null
//   then. Each address a multiple of its element's size.
//   t >= 1; m < 2^32 and n < 2^32; s divides m and r; k*r <= m. Any ld, any alignment of elements: 16 bytes at a time where
//   the start, ld and m/s are multiples of 16 bytes, else one element at a time.
//   The block's shared memory, which grows with k*r and r/s, within the device's (checked by the host): on an H100 that is k*r up
//   to 6144 at k = 4, s = 2 and 16 bits.
// Traffic
//   Least: Y0 read once, Y written once, X, a and z written once, H and a given X read once. That is what moves where `holds`
//   and k <= 4 (a linear gate reads H once per 4 components). Else Y0's sectors of the columns gathered come on top. Per block
//   also B once, and W_g once per 8 tokens, from the second cache. At m = 4096, s = 2, k = 4, a block of 16 tokens of bf16
//   takes an H100's memory 11 us (256 KiB at 1/132 of 3 TB/s). Tensor work at 1/132 of 495 TFLOP/s, half of the dense rate:
//   1536 mma of 16x8x16 at r = 32, 1.7 us; 6144 at r = 128, 6.7 us, where B, 512 KiB a block, is more than Y0 and Y.
// Numerics
//   U = 2^-24, the rounding of float. X: one subtraction in float, rounded to ELEMENT; a copy without a bias. Gates: float,
//   from X as it is saved or given; an element of a dot product passes r/32 + 6 roundings, one of a logit n/256 + 13; squares
//   of the rms and softmax in double. z: k products of three factors and k sums, in float, and saved so.
//   kappa*B is rounded to float. It and z enter as bfloat16 terms (common/terms.cuh): two for f16 and bf16, off by
//   3.03 * 2^-16 of sum |B||z|; three for f32, off by 2.02 U. What lies below 2^-134 is lost. Products are exact. Sums are
//   float, on tensor cores, which may cut where float rounds: 2U an addition. Two terms: three products for each of r/s
//   in one sum. Three: the leading ones in one, the five others, at most 2^-7 as large, in another.
//   The largest z is as good as any, an infinite one gives infinity or NaN. A kappa*B beyond 3.39e38 counts as infinite and
//   gives NaN. b, then the update are added to Y0 in float, rounded once; a zero update leaves Y0 + b with its bits.
//   Order: fixed by r, k, n and s. A token's results do not depend on other tokens or modules, nor on block_tokens, `holds`
//   or what is saved.

#include "common/expand.cuh"

// Starts to read the block's Y0 into the tile [sub_rows, tile_pitch].
__device__ __forceinline__ void load_tile(const Module &module, const Block &block, const Shape &shape) {
    Stored *tile = shared_at<Stored>(shape.tile);
    bool vectors = aligned(module.y0, module.ld_y0, block.part);
    for (unsigned row = block.warp; row < block.sub_rows; row += WARPS) {
        const Stored *from =
            module.y0 + (block.first + row / shape.split) * module.ld_y0 + row % shape.split * block.part;
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

// The update of all columns, 16*ROW_TILES sub-rows at a time. `from` lies among the launch's parameters, where every reading
// needs the module's place in a register; what a window reads is taken out once, and nothing spills.
template <int ROW_TILES>
__device__ __forceinline__ void expand(const Module &from, const Block &block, const Shape &shape) {
    Module module = from;
    bool vectors_in = aligned(module.y0, module.ld_y0, block.part);
    bool vectors_out = aligned(module.y, module.ld_y, block.part);
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
                copy_window<true>(window, pitch, module.y0 + column, block.from + group, vectors_in, rows, count, block.lane);
            }
            Tile<TERMS> update[ROW_TILES][COLUMN_TILES];
            multiply(update, module, group, column, block, shape);
            cp_async_wait_all();
            __syncwarp(); // the window is there before other lanes read it
            add(window, pitch, update, module.bias + column, group, rows, count, block, shape);
            __syncwarp(); // all of the window is updated before it is stored
            copy_window<false>(window, pitch, module.y + column, block.to + group, vectors_out, rows, count, block.lane);
            __syncwarp(); // the window is stored before the next one overwrites it
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) lowrank_forward(const __grid_constant__ Group group) {
    const Shape &shape = group.shape;
    const Module &module = group.modules[blockIdx.x / shape.blocks];
    Block block(shape);
    if (shape.holds) load_tile(module, block, shape);
    prepare(module, block, shape);
    if (shape.gate_kind == LINEAR || shape.gate_kind == LINEAR_SOFTMAX) project(module, block, shape);
    cp_async_wait_all();
    __syncthreads(); // tile, tables, zeroed terms and partial logits are there before any warp reads those of others
    shrink(module, block, shape);
    __syncthreads(); // every chosen column is read, and every z written, before any column is updated
    if (shape.term_rows <= 16) expand<1>(module, block, shape);
    else expand<2>(module, block, shape);
}
