// The input gradient of a frozen layer with its shared-matrix components: the backward twin of shared_gemm.cu, whose chosen
// rows enter as more of K.
//
// Math
//   dH = G W + dX W[S] + addend                        [t, n]
//   dX is what the adapter's backward leaves beside G. Without components, dH = G W + addend.
// Operands
//   All by address, in Problem; rows are ld_name apart. What lies between rows is neither read nor written.
//   g, w      [t, m] and [m, n] of ELEMENT
//   dx        [t, k*r] of ELEMENT
//   skeleton  [k*r] of 32 bits, below m
//   add       [t, n] of ELEMENT, such as a linear gate's share, or null; may be dh itself
//   dh        [t, n] of ELEMENT
// Tile
//   STAGES    of the ring, 64 of K each
//   The entry points say tokens x columns of dH in their names; a warp has 64 x 32 of them. A tile runs along the rows of W,
//   and then along the chosen ones, into the same sums.
// Launch
//   shared_gemm_grad_128x128   ceil(t / 128) * ceil(n / 128) blocks of [32, 8] threads
//   shared_gemm_grad_64x128    ceil(t / 64) * ceil(n / 128) blocks of [32, 4] threads
//   shared_gemm_grad_64x64     ceil(t / 64) * ceil(n / 64) blocks of [32, 2] threads
//   each with STAGES * (tokens + columns) * 128 bytes of dynamic shared memory. No block waits for another.
// Requires
//   t, m, n >= 1; 1 <= raster <= ceil(t / tokens); fewer than 2^31 tiles; m, n and k*r below 2^32. Any ld, any alignment of
//   elements: vectors of 16 bytes that start on as many move as such, others one element at a time. A float as ELEMENT is not
//   compiled: tensor cores have no exact products of it.
// Traffic
//   Least: G, W, dX and add read once, dH written once. A tile reads its rows of G and dX, and its columns of W: G and dX
//   ceil(n / columns) times, W ceil(t / tokens) times, from the second cache, where `raster` blocks of tokens share columns at
//   a time. add is read once and dH written once, in whole sectors.
//   Tensor operations: 1 + k*r/m of the plain product where 16 divides m and k*r, and tiles divide t and n.
// Numerics
//   Products are exact; sums are float, on tensor cores, which may cut where float rounds: 2U an addition, U = 2^-24, m + k*r
//   of them in the order of rows of W, then of S; add, in float; rounded once.
//   Order: fixed by m and k*r. A token's results do not depend on the others, nor on tile or raster.

#include "common/ring_nn.cuh"

struct Problem {
    const Stored *g, *w, *dx;
    const unsigned *skeleton;
    const Stored *add;
    Stored *dh;
    Index ld_g, ld_w, ld_dx, ld_add, ld_dh;
    Index tokens;
    unsigned rows, cols, width, raster; // m, n, k*r, blocks of tokens that share columns at a time
};
static_assert(sizeof(Problem) == 112, "as in src/gpu/shared_gemm/grad.rs");

// A tile: of which tokens, of which columns.
template <int TOKENS, int COLUMNS> struct Work {
    Index first_token;
    unsigned tokens, first, columns;

    __device__ __forceinline__ Work(unsigned tile, const Problem &problem) {
        unsigned token_blocks = (unsigned)((problem.tokens + TOKENS - 1) / TOKENS);
        unsigned column_blocks = (unsigned)(((Index)problem.cols + COLUMNS - 1) / COLUMNS);
        unsigned group = tile / (problem.raster * column_blocks) * problem.raster;
        unsigned place = tile % (problem.raster * column_blocks);
        unsigned size = token_blocks - group < problem.raster ? token_blocks - group : problem.raster;
        first_token = (Index)(group + place % size) * TOKENS;
        first = place / size * COLUMNS;
        tokens = problem.tokens - first_token < TOKENS ? (unsigned)(problem.tokens - first_token) : TOKENS;
        columns = problem.cols - first < COLUMNS ? problem.cols - first : COLUMNS;
    }
};

// Stages of so much of K.
__device__ __forceinline__ unsigned stages_of(Index depth) { return (unsigned)((depth + STAGE_DEPTH - 1) / STAGE_DEPTH); }

// Whether all rows start on 16 bytes.
__device__ __forceinline__ bool aligned(const Stored *matrix, Index ld) {
    return (reinterpret_cast<Index>(matrix) | ld * sizeof(Stored)) % 16 == 0;
}

template <int TOKENS, int COLUMNS> __device__ __forceinline__ void grad(uint4 *ring, const Problem &problem) {
    typedef Ring<TOKENS, COLUMNS> Tile;
    Work<TOKENS, COLUMNS> work(blockIdx.x, problem);
    Tile tile(ring, work.tokens, work.columns);
    unsigned of_layer = stages_of(problem.rows), stages = of_layer + stages_of(problem.width);
    bool whole = work.tokens == TOKENS && work.columns == COLUMNS && aligned(problem.g, problem.ld_g) &&
                 aligned(problem.w, problem.ld_w);
    const Stored *w = problem.w + work.first;
    const Stored *own_g =
        problem.g + (work.first_token + Tile::first_row()) * problem.ld_g + Tile::first_vector() * VECTOR;
    const Stored *own_w = w + Tile::second_row() * problem.ld_w + Tile::second_vector() * VECTOR;
    auto copy = [&](unsigned stage) {
        if (stage < stages) {
            bool chosen = stage >= of_layer;
            Index start = (Index)(chosen ? stage - of_layer : stage) * STAGE_DEPTH;
            uint4 *to = ring + stage % STAGES * Tile::STAGE;
            if (whole && start + STAGE_DEPTH <= problem.rows && !chosen) {
                tile.copy_whole(to, own_g + start, problem.ld_g, own_w + start * problem.ld_w, problem.ld_w);
            } else {
                unsigned depth = chosen ? problem.width : problem.rows;
                const Stored *left = chosen ? problem.dx : problem.g;
                Index ld = chosen ? problem.ld_dx : problem.ld_g;
                tile.copy_first(to, left + work.first_token * ld, ld, work.tokens, start, depth);
                tile.copy_second(to, w, problem.ld_w, work.columns, start, depth, chosen ? problem.skeleton : nullptr);
            }
        }
        cp_async_commit(); // perhaps of nothing, so that stages and groups of copies are in step
    };
    Sums sums = {};
    for (unsigned stage = 0; stage + 1 < STAGES; ++stage) copy(stage);
    for (unsigned stage = 0; stage < stages; ++stage) {
        cp_async_wait<STAGES - 2>();
        __syncthreads(); // this stage is there for all threads, and all have read the one before, which is filled next
        copy(stage + STAGES - 1);
        if (!tile.active) continue;
        bool chosen = stage >= of_layer;
        unsigned start = (chosen ? stage - of_layer : stage) * STAGE_DEPTH;
        unsigned rest = (chosen ? problem.width : problem.rows) - start;
        tile.multiply(sums, ring + stage % STAGES * Tile::STAGE, rest < STAGE_DEPTH ? (rest + 15) / 16 : STEPS);
    }
    __syncthreads(); // what is in the ring has been read by all before the tile overwrites it
    const Stored *add = problem.add ? problem.add + work.first_token * problem.ld_add + work.first : nullptr;
    Stored *to = problem.dh + work.first_token * problem.ld_dh + work.first;
    tile.store(sums, ring, to, problem.ld_dh, work.tokens, work.columns, add, problem.ld_add);
}

// Blocks that share a multiprocessor: one multiplies while the other stores or waits.
#define ENTRY(NAME, TOKENS, COLUMNS, BLOCKS)                                                                                \
    extern "C" __global__ void __launch_bounds__(Ring<TOKENS, COLUMNS>::THREADS, BLOCKS)                                   \
        NAME(const __grid_constant__ Problem problem) {                                                                     \
        extern __shared__ uint4 ring[]; /* [STAGES, Ring::STAGE], swizzled */                                               \
        grad<TOKENS, COLUMNS>(ring, problem);                                                                               \
    }
ENTRY(shared_gemm_grad_128x128, 128, 128, 2)
ENTRY(shared_gemm_grad_64x128, 64, 128, 3)
ENTRY(shared_gemm_grad_64x64, 64, 64, 4)
