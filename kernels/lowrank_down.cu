// The adapter's explicit down-projection, where X cannot be gathered from Y0.
//
// Math
//   X = H W[S]^T      [t, k*r]   rounded once to ELEMENT
// Operands (of each module of the group, by address)
//   h         [t, n] of ELEMENT
//   w         [m, n] of ELEMENT; the rows that S names are read where they lie, the others never
//   skeleton  [k*r] of 32 bits, below m
//   x         [t, k*r] of ELEMENT, written
//   Rows are ld_name apart. What lies between them is neither read nor written.
// Tile
//   WARPS     warps of a block
//   A block takes TOKENS x COLUMNS of X. Stages of 128 bytes of its rows of H and W[S] pass through a ring in shared memory:
//       small    16 x 16     3 rounds of 8 stages, of which each warp takes one
//       medium   64 x 64     4 stages, a warp takes 32 x 16
//       large    128 x 64    4 stages, a warp takes 32 x 32
// Launch
//   lowrank_down_{small,medium,large}    modules * ceil(t/TOKENS) * ceil(k*r/COLUMNS) blocks of [32, WARPS] threads, with the
//   dynamic shared memory of src/gpu/variants/lowrank_down.rs, whose host code chooses between them
// Requires
//   t, n, k*r >= 1; k*r < 2^32; at most 8 modules, of one shape. Any ld, any alignment of elements: 16 bytes at a time for
//   rows of H, W and X that start at a multiple of 16 bytes, else one element at a time.
// Traffic
//   Least: H, W[S] and X once. H is read ceil(k*r/COLUMNS) times and W[S] ceil(t/TOKENS) times, X is written once. Blocks beside
//   each other share their rows of H, and all of W[S], k*r*n elements, fits the second cache: memory sees little more than the
//   least. The cache's bandwidth, about 40 bytes a nanosecond and multiprocessor, decides: at n = 4096 and 16 bits a small block
//   takes 256 KiB, 7 us, a medium one 1 MiB, 26 us, a large one 1.5 MiB, 39 us. So the host takes the tile with the least bytes
//   for the busiest of 132 multiprocessors. For up to 16 tokens that is the small one, and k*r/16 blocks share out W[S].
//   Tensor work of a block: TOKENS/16 * COLUMNS/8 * ceil(n/16) mma of 16x8x16, six times that for f32.
// Numerics
//   U = 2^-24. Products of f16 and bf16 are exact. f32 enters as three bfloat16 terms (common/terms.cuh) and takes six
//   products: what is left out is at most 2.02 U of |h||w|, and what lies below 2^-134 of either operand is lost. An entry
//   beyond 3.39e38 counts as infinite, and an infinite one gives NaN in f32. Products and sums below the range of float lose
//   2^-149 at most, each.
//   Sums are float, on tensor cores, which may cut where float rounds: 2U an addition, of the 16 products of an mma and what
//   they are added to. A stage, 64 columns of 16 bits or 32 of f32, is summed from zero; its sum is rounded when it is added
//   to those before. With c = min(n, 64) an entry is off by at most ((c + ceil(c/16)) 2U + ceil(n/64) U) sum |h||w|, before
//   it is rounded to ELEMENT. For f32, c = min(n, 32): ((c + ceil(c/16)) (1 + 13 * 2^-8) 2U + 3.02 U + ceil(n/32) U), where the
//   leading products have a sum, the five others, in all 2.02 * 2^-8 as large, another, and the two are added.
//   Order: fixed by n. Stages are added from the first to the last, whatever the tile: a token's X has the same bits in every
//   batch, for every tile and every group.

#include "common/smem.cuh"
#include "common/terms.cuh"

// One module of a group.
struct Module {
    const Stored *h, *w;
    const unsigned *skeleton;
    Stored *x;
    Index ld_h, ld_w, ld_x;
};
static_assert(sizeof(Module) == 56, "as in src/gpu/lowrank/down.rs");

// What the modules of a group have in common.
struct Shape {
    Index tokens, cols;
    unsigned width;  // k*r
    unsigned blocks; // of a module
    unsigned across; // tiles that lie beside each other
    unsigned unused;
};
static_assert(sizeof(Shape) == 32, "as in src/gpu/lowrank/down.rs");

enum { MODULES = 8 }; // at most, in a group

struct Group {
    Shape shape;
    Module modules[MODULES];
};

enum { THREADS = WARP * WARPS, TERMS = sizeof(Stored) == 4 ? 3 : 1 };

// A block's tile: warps lie DOWN x ACROSS over it, each with TILES times 16 rows and PAIRS times 16 columns; SLICES such
// arrangements take a stage each.
template <int TILES_, int PAIRS_, int DOWN_, int ACROSS_, int SLICES_, int ROUNDS_> struct Tiling {
    enum { TILES = TILES_, PAIRS = PAIRS_, DOWN = DOWN_, ACROSS = ACROSS_, SLICES = SLICES_, ROUNDS = ROUNDS_ };
    enum { TOKENS = 16 * TILES * DOWN, COLUMNS = 16 * PAIRS * ACROSS, ROWS = TOKENS + COLUMNS };
    enum { STAGE = ROWS * ROW_VECTORS, ROUND = SLICES * STAGE }; // in vectors
    enum { SHARED = ROUNDS * ROUND * 16 };                       // bytes
    enum { PITCH = COLUMNS + 8 };                                // of the finished tile: rows start in different banks
    static_assert(DOWN * ACROSS * SLICES == WARPS, "a part for every warp");
    static_assert(ROUND % THREADS == 0, "every thread copies as many vectors");
    static_assert(TOKENS * PITCH * 4 <= SHARED, "the finished tile takes the ring's place");
    static_assert(SLICES == 1 || (SLICES == WARPS && TILES == 1 && PAIRS == 1), "slices are of one warp and one tile");

    Tile<TERMS> products[TILES][2 * PAIRS]; // of a stage
};
typedef Tiling<1, 1, 1, 1, 8, 3> Small;
typedef Tiling<2, 1, 2, 4, 1, 4> Medium;
typedef Tiling<2, 2, 4, 2, 1, 4> Large;
static_assert(Small::SHARED == 98304 && Medium::SHARED == 65536 && Large::SHARED == 98304, "as in variants/lowrank_down.rs");

// A vector of a row; what is beyond the row is zero and not read.
__device__ __forceinline__ void copy_vector(uint4 *to, const Stored *row, Index at, Index cols) {
    if (row == nullptr || at >= cols) {
        *to = make_uint4(0, 0, 0, 0);
    } else if (reinterpret_cast<Index>(row) % 16 == 0) {
        Index there = (cols - at) * sizeof(Stored);
        cp_async_16(to, row + at, there < 16 ? (unsigned)there : 16u);
    } else {
        unsigned words[4] = {};
#pragma unroll
        for (int e = 0; e < VECTOR; ++e) {
            if (at + e >= cols) continue;
            Stored x = __ldg(row + at + e);
            if constexpr (sizeof(Stored) == 4) words[e] = __float_as_uint(x);
            else words[e / 2] |= (unsigned)x << (16 * (e % 2));
        }
        *to = make_uint4(words[0], words[1], words[2], words[3]);
    }
}

// The stages of a round. Eight lanes copy a stage's part of a row, the next eight that of the next stage.
template <typename T>
__device__ __forceinline__ void copy_round(uint4 *round, const Stored *const *sources, Index start, Index cols) {
    unsigned thread = threadIdx.y * WARP + threadIdx.x;
#pragma unroll
    for (unsigned i = thread; i < T::ROUND; i += THREADS) {
        unsigned v = i % ROW_VECTORS, slice = i / ROW_VECTORS % T::SLICES, row = i / (ROW_VECTORS * T::SLICES);
        Index at = start + slice * ROW_ELEMENTS + v * VECTOR;
        copy_vector(swizzled(round + slice * T::STAGE, row, v), sources[row], at, cols);
    }
}

// Columns 16 * step .. + 16 of rows `row` .. + 16 of H, as the first operand. For float the order of the columns is that in
// which ldmatrix, which moves a row's 16 bytes to four lanes, hands them out: the same for both operands.
__device__ __forceinline__ void load_tokens(uint4 (&a)[TERMS], uint4 *stage, unsigned row, unsigned step) {
    unsigned lane = threadIdx.x;
    if constexpr (TERMS == 1) {
        a[0] = ldmatrix_x4(swizzled(stage, row + lane % 16, 2 * step + lane / 16));
    } else {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            uint4 x = ldmatrix_x4(swizzled(stage, row + 8 * half + lane % 8, 4 * step + lane / 8));
            unsigned first[TERMS], second[TERMS];
            split_pair(__uint_as_float(x.x), __uint_as_float(x.y), first);
            split_pair(__uint_as_float(x.z), __uint_as_float(x.w), second);
#pragma unroll
            for (int i = 0; i < TERMS; ++i) (half ? a[i].y : a[i].x) = first[i], (half ? a[i].w : a[i].z) = second[i];
        }
    }
}

// The same of 16 rows of W[S], as the second operand of two products.
__device__ __forceinline__ void load_columns(unsigned (&b)[2][TERMS][2], uint4 *stage, unsigned row, unsigned step) {
    unsigned lane = threadIdx.x;
    if constexpr (TERMS == 1) {
        uint4 x = ldmatrix_x4(swizzled(stage, row + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
        b[0][0][0] = x.x, b[0][0][1] = x.y, b[1][0][0] = x.z, b[1][0][1] = x.w;
    } else {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            uint4 x = ldmatrix_x4(swizzled(stage, row + 8 * half + lane % 8, 4 * step + lane / 8));
            unsigned first[TERMS], second[TERMS];
            split_pair(__uint_as_float(x.x), __uint_as_float(x.y), first);
            split_pair(__uint_as_float(x.z), __uint_as_float(x.w), second);
#pragma unroll
            for (int i = 0; i < TERMS; ++i) b[half][i][0] = first[i], b[half][i][1] = second[i];
        }
    }
}

template <typename E>
__device__ __forceinline__ void add(Tile<TERMS> &products, const uint4 (&a)[TERMS], const unsigned (&b)[TERMS][2]) {
    if constexpr (TERMS == 1) E::mma(products.sums[0], a[0], b[0][0], b[0][1]);
    else products.add(a, b);
}

// The warp's products of a stage, `steps` times 16 columns.
template <typename T>
__device__ __forceinline__ void multiply(T &part, uint4 *stage, unsigned row, unsigned column, unsigned steps) {
#pragma unroll
    for (unsigned step = 0; step < ROW_ELEMENTS / 16; ++step) {
        if (step >= steps) break;
        uint4 a[T::TILES][TERMS];
#pragma unroll
        for (int m = 0; m < T::TILES; ++m) load_tokens(a[m], stage, row + 16 * m, step);
#pragma unroll
        for (int n = 0; n < T::PAIRS; ++n) {
            unsigned b[2][TERMS][2];
            load_columns(b, stage, T::TOKENS + column + 16 * n, step);
#pragma unroll
            for (int m = 0; m < T::TILES; ++m)
#pragma unroll
                for (int half = 0; half < 2; ++half) add<Elem>(part.products[m][2 * n + half], a[m], b[half]);
        }
    }
}

// The block's finished tile, from shared memory. Even rows come first: of a small tile, eight lanes that are served together
// read two or four rows, and those that are two apart lie in different banks.
template <typename T>
__device__ __forceinline__ void store(const Stored *tile, const Module &module, Index token, unsigned column,
                                      const Shape &shape) {
    enum { VECTORS = T::COLUMNS / VECTOR };
    for (unsigned i = threadIdx.y * WARP + threadIdx.x; i < T::TOKENS * VECTORS; i += THREADS) {
        unsigned row = i / VECTORS % (T::TOKENS / 2) * 2 + i / VECTORS / (T::TOKENS / 2);
        unsigned first = i % VECTORS * VECTOR, rest = shape.width - column;
        if (token + row >= shape.tokens || first >= rest) continue;
        const Stored *from = tile + row * T::PITCH + first;
        Stored *to = module.x + (token + row) * module.ld_x + column + first;
        if (reinterpret_cast<Index>(to) % 16 == 0 && first + VECTOR <= rest) {
            *reinterpret_cast<uint4 *>(to) = *reinterpret_cast<const uint4 *>(from);
        } else {
#pragma unroll
            for (int e = 0; e < VECTOR; ++e)
                if (first + e < rest) to[e] = from[e];
        }
    }
}

template <typename T> __device__ __forceinline__ void project(const Group &group) {
    extern __shared__ uint4 ring[]; // [ROUNDS, SLICES, ROWS, ROW_VECTORS], swizzled
    __shared__ const Stored *sources[T::ROWS];
    const Shape &shape = group.shape;
    const Module &module = group.modules[blockIdx.x / shape.blocks];
    unsigned place = blockIdx.x % shape.blocks, lane = threadIdx.x, warp = threadIdx.y;
    Index token = (Index)(place / shape.across) * T::TOKENS;
    unsigned column = place % shape.across * T::COLUMNS;
    for (unsigned row = warp * WARP + lane; row < T::ROWS; row += THREADS) {
        const Stored *source = nullptr;
        if (row < T::TOKENS) {
            if (row < shape.tokens - token) source = module.h + (token + row) * module.ld_h;
        } else if (row - T::TOKENS < shape.width - column) {
            source = module.w + __ldg(module.skeleton + column + row - T::TOKENS) * module.ld_w;
        }
        sources[row] = source;
    }
    __syncthreads(); // where all rows start is there

    Index stages = (shape.cols + ROW_ELEMENTS - 1) / ROW_ELEMENTS, rounds = (stages + T::SLICES - 1) / T::SLICES;
    auto copy = [&](Index round) {
        if (round < rounds)
            copy_round<T>(ring + round % T::ROUNDS * T::ROUND, sources, round * (T::SLICES * ROW_ELEMENTS), shape.cols);
        cp_async_commit(); // perhaps of nothing, so that rounds and groups of copies are in step
    };
    unsigned slice = warp / (T::DOWN * T::ACROSS);
    unsigned down = warp / T::ACROSS % T::DOWN * (16 * T::TILES), across = warp % T::ACROSS * (16 * T::PAIRS);
    float sums[T::TILES][2 * T::PAIRS][4] = {};
    for (unsigned round = 0; round + 1 < T::ROUNDS; ++round) copy(round);
    for (Index round = 0; round < rounds; ++round) {
        cp_async_wait<T::ROUNDS - 2>();
        __syncthreads(); // this round is there for all threads, and all are done with the one before, which is filled next
        copy(round + T::ROUNDS - 1);
        uint4 *first = ring + round % T::ROUNDS * T::ROUND, *stage = first + slice * T::STAGE;
        Index begin = (round * T::SLICES + slice) * ROW_ELEMENTS;
        if (T::SLICES == 1 || begin < shape.cols) {
            Index rest = shape.cols - begin;
            T part;
            multiply(part, stage, down, across, rest < ROW_ELEMENTS ? ((unsigned)rest + 15) / 16 : ROW_ELEMENTS / 16);
            if constexpr (T::SLICES == 1) {
#pragma unroll
                for (int m = 0; m < T::TILES; ++m)
#pragma unroll
                    for (int n = 0; n < 2 * T::PAIRS; ++n)
#pragma unroll
                        for (int e = 0; e < 4; ++e) sums[m][n][e] += part.products[m][n].at(e);
            } else {
                __syncwarp(); // all lanes have read the warp's stage, which its products overwrite
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const Tile<TERMS> &products = part.products[0][i / 2];
                    reinterpret_cast<float2 *>(stage)[i * WARP + lane] =
                        make_float2(products.at(i % 2 * 2), products.at(i % 2 * 2 + 1));
                }
            }
        }
        if constexpr (T::SLICES > 1) {
            __syncthreads(); // the products of all stages of this round are there
            for (unsigned s = 0; warp < 4 && s < T::SLICES; ++s) {
                if (round * T::SLICES + s >= stages) break;
                float2 products = reinterpret_cast<const float2 *>(first + s * T::STAGE)[warp * WARP + lane];
                sums[0][0][0] += products.x;
                sums[0][0][1] += products.y;
            }
        }
    }
    __syncthreads(); // all have read the ring, whose place the tile takes
    Stored *tile = reinterpret_cast<Stored *>(ring);
    if constexpr (T::SLICES == 1) {
#pragma unroll
        for (int m = 0; m < T::TILES; ++m)
#pragma unroll
            for (int i = 0; i < 4 * T::PAIRS; ++i) {
                unsigned row = down + 16 * m + i % 2 * 8 + lane / 4, c = across + i / 2 * 8 + lane % 4 * 2;
                *reinterpret_cast<Elem::Pair *>(tile + row * T::PITCH + c) =
                    Elem::narrow_pair(make_float2(sums[m][i / 2][i % 2 * 2], sums[m][i / 2][i % 2 * 2 + 1]));
            }
    } else if (warp < 4) {
        unsigned row = warp % 2 * 8 + lane / 4, c = warp / 2 * 8 + lane % 4 * 2;
        *reinterpret_cast<Elem::Pair *>(tile + row * T::PITCH + c) =
            Elem::narrow_pair(make_float2(sums[0][0][0], sums[0][0][1]));
    }
    __syncthreads(); // the tile is there before others read it
    store<T>(tile, module, token, column, shape);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) lowrank_down_small(const __grid_constant__ Group group) {
    project<Small>(group);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) lowrank_down_medium(const __grid_constant__ Group group) {
    project<Medium>(group);
}

// One block a multiprocessor: the accumulators of f32 take more than half of the registers.
extern "C" __global__ void __launch_bounds__(THREADS, 1) lowrank_down_large(const __grid_constant__ Group group) {
    project<Large>(group);
}
