// The adapter's forward of a few tokens: the columns of a token are cut into slices, a block each.
//
// Math
//   That of lowrank.cu.
// Operands
//   Those of lowrank.cu, of each module, and
//   tickets   [modules, token groups] of 32 bits, zero before the launch and after it
// Tile
//   WARPS     warps of a block, as of lowrank.cu
//   A block owns a slice of `windows` windows of columns (the same of every part) of a token group of block_tokens tokens. It
//   works out X, the gate and z of the whole group, as every other block of the group does, then updates its slice; a warp
//   takes a window at a time, and has none where `windows` < WARPS. The first slice's block saves X, a and z.
//   In place a column must not be updated before every block has gathered it. Where X is gathered and there are several
//   slices, blocks leave the chosen columns alone and take a ticket; the last block of a token group updates them. No block
//   waits for another. Else a block updates all columns of its slice.
// Launch
//   lowrank_decode    slices * modules * ceil(t / block_tokens) blocks of [32, WARPS] threads, block_tokens changing fastest
//   and slices slowest, with the dynamic shared memory that src/gpu/lowrank/decode.rs lays out
// Requires
//   What lowrank.cu does, holds == 0, and in place y0 and y with one start and one ld. The table of slices is the host's:
//   t <= 64, and modules * ceil(t / block_tokens) <= 64, as many as the head of the scratch has tickets.
// Traffic
//   Least: as of lowrank.cu. Y0 and Y once, but for the sectors of k*r chosen columns a token, which every block of the
//   token group reads (slices * t * k*r sectors, from the second cache all but once) and in place the last one reads and
//   writes again. In place the vector of a chosen column is stored without it, in at most 4 parts, a sector each. B once per token
//   group, and its rows of chosen columns once more in place. Of a linear gate H once per slice, and W_g once per block. t = 1 at
//   m = 4096, s = 2, r = 32, k = 4 in bf16: 8 blocks that read 128 sectors and 16 KiB of B each.
// Numerics
//   Those of lowrank.cu, to the bit, for any number of slices and tokens of a block: every sum has the same order. In place
//   and out of place too.

#include "common/decode.cuh"

// The update of the slice, 16*ROW_TILES sub-rows at a time. The warp's first window is already under way.
template <int ROW_TILES>
__device__ __forceinline__ void expand(Stored *window, const Module &module, const Slice &slice, const Block &block,
                                       const Shape &shape) {
    bool vectors_in = aligned(module.y0, module.ld_y0, block.part);
    bool vectors_out = aligned(module.y, module.ld_y, block.part);
    bool under_way = true;
    for (unsigned group = 0; group < block.sub_rows; group += 16 * ROW_TILES) {
        unsigned rows = block.sub_rows - group < 16 * ROW_TILES ? block.sub_rows - group : 16 * ROW_TILES;
        for (unsigned column = slice.begin + block.warp * WINDOW; column < slice.end; column += WARPS * WINDOW) {
            unsigned count = block.part - column < WINDOW ? block.part - column : WINDOW;
            if (!under_way)
                copy_window<true>(window, STAGE_PITCH, module.y0 + column, block.from + group, vectors_in, rows, count,
                                  block.lane);
            under_way = false;
            Tile<TERMS> update[ROW_TILES][COLUMN_TILES];
            auto row_of = [&](unsigned i) { return i < count ? module.b + (column + i) * module.ld_b : nullptr; };
            multiply_rows(update, row_of, module, group, block, shape);
            cp_async_wait_all();
            __syncwarp(); // the window is there before other lanes read it
            add(window, STAGE_PITCH, update, module.bias + column, group, rows, count, block, shape);
            __syncwarp(); // all of the window is updated before it is stored
            if (slice.defers)
                store_others(window, module.y + column, block.to + group,
                             slice.chosen + (column - slice.begin) / WINDOW * shape.split, vectors_out, group, rows, count,
                             block, shape);
            else
                copy_window<false>(window, STAGE_PITCH, module.y + column, block.to + group, vectors_out, rows, count,
                                   block.lane);
            __syncwarp(); // the window is stored before the next one overwrites it
        }
    }
}

// Starts to read the warp's first window, while X is on its way.
__device__ __forceinline__ void start(Stored *window, unsigned most_rows, const Module &module, const Slice &slice,
                                      const Block &block) {
    unsigned column = slice.begin + block.warp * WINDOW, rows = block.sub_rows < most_rows ? block.sub_rows : most_rows;
    if (column >= slice.end) return;
    unsigned count = block.part - column < WINDOW ? block.part - column : WINDOW;
    bool vectors = aligned(module.y0, module.ld_y0, block.part);
    copy_window<true>(window, STAGE_PITCH, module.y0 + column, block.from, vectors, rows, count, block.lane);
}

// A block of a multiprocessor is all that is counted on: with the registers of two, f32 would spill.
extern "C" __global__ void __launch_bounds__(THREADS, 1) lowrank_decode(const __grid_constant__ Decode decode) {
    const Shape &shape = decode.group.shape;
    unsigned pairs = decode.modules * shape.blocks, pair = blockIdx.x % pairs, number = blockIdx.x / pairs;
    Module module = decode.group.modules[pair / shape.blocks];
    if (number > 0) {
        module.x = nullptr;
        module.a = module.z = nullptr;
    }
    Block block(shape);
    Slice slice;
    slice.begin = number * decode.windows * WINDOW;
    slice.end = slice.begin + decode.windows * WINDOW < block.part ? slice.begin + decode.windows * WINDOW : block.part;
    slice.chosen = shared_at<unsigned>(decode.chosen);
    slice.defers = module.y == module.y0 && !module.given && decode.slices > 1;
    unsigned most_rows = shape.term_rows <= 16 ? 16 : 32;
    Stored *window = shared_at<Stored>(shape.tile) + block.warp * most_rows * STAGE_PITCH;

    prepare(module, block, shape);
    for (unsigned i = block.warp * WARP + block.lane; i < decode.windows * shape.split; i += THREADS) slice.chosen[i] = 0;
    if (shape.gate_kind == LINEAR || shape.gate_kind == LINEAR_SOFTMAX) {
        if (shape.block_tokens == 1) project_one(module, block, shape);
        else project(module, block, shape);
    }
    __syncthreads(); // tables, zeroed terms, words and partial logits are there before any warp reads those of others
    start(window, most_rows, module, slice, block);
    if (slice.defers) mark_chosen(slice, block, shape);
    shrink(module, block, shape);
    __syncthreads(); // every z is written and every column marked before any column is updated
    if (most_rows == 16) expand<1>(window, module, slice, block, shape);
    else expand<2>(window, module, slice, block, shape);
    if (!slice.defers || !is_last(decode.tickets + pair, decode.slices, block)) return;
    if (most_rows == 16) expand_chosen<1>(module, block, shape);
    else expand_chosen<2>(module, block, shape);
}
