// The adapter's backward: the modules of a group, and the products dz = Gs (kappa B) and dB = Gs^T z on tensor cores. The
// operands are those of lowrank_grad.cu.
#pragma once
#include "common/module.cuh"

// One module of a group: its operands, and its part of the scratch. The target is G where it `scatters`.
struct Module : Adapter {
    const Stored *g, *x;
    const float *a;
    Stored *target, *h_gate;
    float *grad_b, *grad_gate;
    float *z, *dz, *b_sums, *gate_sums, *dl; // z is the forward's where all modules of the group have it
    Index ld_g, ld_x, ld_a, ld_target, ld_h_gate, ld_grad_b, ld_grad_gate, ld_z;
    unsigned scatters, accumulates;
};
static_assert(sizeof(Module) == 256, "as in src/gpu/lowrank/backward/group.rs");

// What the modules of a group have in common.
struct Shape {
    Index tokens;
    unsigned rows, cols, rank, components, split;
    unsigned gate_kind;
    unsigned blocks;                                       // of a module, in this launch
    unsigned segment_rows, segments, slices, depth_slices; // of products
    unsigned chunk, linear_chunk;                          // tokens of a block
    unsigned gradient;                                     // entries of the gate's gradient in `tokens`
    unsigned gate_rows, gate_cols, gate_segments, b_blocks; // of reduce
};
static_assert(sizeof(Shape) == 80, "as in src/gpu/lowrank/backward/group.rs");

struct Group {
    Shape shape;
    Module modules[MODULES];
};

enum { THREADS = WARP * WARPS, TERMS = sizeof(Stored) == 4 ? 3 : 2, G_TERMS = Elem::BF16_TERMS };
enum { TILE_ROWS = 16 }; // sub-rows of G at a time: one step of dB

extern __shared__ uint4 shared_memory[];

// The module that a block works on, and which of its blocks this one is.
__device__ __forceinline__ const Module &module_of(const Group &group) {
    return group.modules[blockIdx.x / group.shape.blocks];
}
__device__ __forceinline__ unsigned block_of(const Shape &shape) { return blockIdx.x % shape.blocks; }

// What a block of products works on.
struct Share {
    Index segment, row, end;       // sub-rows
    Index token;                   // of the first sub-row,
    unsigned of_token;             // which is this one of it
    unsigned slice, column, count; // columns of m/s
    unsigned d, depths;            // columns of r/s
    unsigned part, depth;          // m/s and r/s
    unsigned lane, warp;

    __device__ __forceinline__ Share(const Shape &shape, unsigned columns, unsigned width) {
        unsigned block = block_of(shape);
        slice = block % shape.slices;
        block /= shape.slices;
        d = block % shape.depth_slices * width;
        segment = block / shape.depth_slices;
        part = shape.rows / shape.split;
        depth = shape.rank / shape.split;
        column = slice * columns;
        count = part - column < columns ? part - column : columns;
        depths = depth - d < width ? depth - d : width;
        row = segment * shape.segment_rows;
        Index rows = shape.tokens * shape.split;
        end = rows - row < shape.segment_rows ? rows : row + shape.segment_rows;
        token = row / shape.split;
        of_token = (unsigned)(row % shape.split);
        lane = threadIdx.x;
        warp = threadIdx.y;
    }
};

// Starts to read a tile of G [TILE_ROWS, count]; zeros where there is no sub-row.
__device__ __forceinline__ void load_tile(const Module &module, Stored *tile, unsigned pitch, Index row, const Share &share,
                                          const Shape &shape) {
    bool vectors =
        reinterpret_cast<Index>(module.g) % 16 == 0 && module.ld_g % VECTOR == 0 && share.part % VECTOR == 0;
    for (unsigned i = share.warp; i < TILE_ROWS; i += WARPS) {
        Stored *to = tile + i * pitch;
        if (row + i >= share.end) {
            for (unsigned c = share.lane; c < share.count; c += WARP) to[c] = Stored(0);
            continue;
        }
        unsigned at = share.of_token + (unsigned)(row - share.row) + i;
        const Stored *from =
            module.g + (share.token + at / shape.split) * module.ld_g + at % shape.split * share.part + share.column;
        if (vectors) {
            for (unsigned v = share.lane; v < share.count / VECTOR; v += WARP)
                cp_async_16(to + v * VECTOR, from + v * VECTOR);
        } else {
#pragma unroll 4
            for (unsigned c = share.lane; c < share.count; c += WARP) to[c] = __ldg(from + c);
        }
    }
}

// Terms of two elements of G that are neighbours in a fragment.
__device__ __forceinline__ void split_stored(unsigned pair, unsigned (&terms)[G_TERMS]) {
    if constexpr (G_TERMS == 1) {
        terms[0] = pair;
    } else {
        split_pair(Elem::widen((unsigned short)pair), Elem::widen((unsigned short)(pair >> 16)), terms);
    }
}

// The fragment of 16 sub-rows and 16 columns: as they are, for dz, or transposed, for dB. There the order of sub-rows in a
// step is free, as long as z has the same: for float, lane%4 takes q, q+4, q+8, q+12, so that lanes read different banks.
template <bool TRANSPOSED>
__device__ __forceinline__ void load_fragment(uint4 (&a)[G_TERMS], const Stored *tile, unsigned pitch, unsigned lane) {
    if constexpr (sizeof(Stored) == 2) {
        unsigned row = TRANSPOSED ? lane % 8 + lane / 16 * 8 : lane % 16, column = TRANSPOSED ? lane / 8 % 2 * 8 : lane / 16 * 8;
        const Stored *at = tile + row * pitch + column;
        uint4 pairs = TRANSPOSED ? ldmatrix_x4_trans(at) : ldmatrix_x4(at);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            unsigned terms[G_TERMS];
            split_stored((&pairs.x)[i], terms);
#pragma unroll
            for (int t = 0; t < G_TERMS; ++t) (&a[t].x)[i] = terms[t];
        }
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            unsigned row = TRANSPOSED ? lane % 4 + i / 2 * 8 : lane / 4 + i % 2 * 8;
            unsigned column = TRANSPOSED ? lane / 4 + i % 2 * 8 : lane % 4 * 2 + i / 2 * 8;
            const Stored *at = tile + row * pitch + column;
            unsigned terms[G_TERMS];
            if (TRANSPOSED) {
                split_pair(at[0], at[4 * pitch], terms);
            } else {
                float2 pair = *reinterpret_cast<const float2 *>(at);
                split_pair(pair.x, pair.y, terms);
            }
#pragma unroll
            for (int t = 0; t < G_TERMS; ++t) (&a[t].x)[i] = terms[t];
        }
    }
}

// sum += a b, the least products first; terms of b lie a warp apart.
__device__ __forceinline__ void multiply(float (&sum)[4], const uint4 (&a)[G_TERMS], const uint2 *b) {
    unsigned terms[TERMS][2];
#pragma unroll
    for (int i = 0; i < TERMS; ++i) {
        uint2 pair = b[i * WARP];
        terms[i][0] = pair.x;
        terms[i][1] = pair.y;
    }
#pragma unroll
    for (int order = TERMS - 1; order >= 0; --order)
#pragma unroll
        for (int i = 0; i <= order && i < G_TERMS; ++i) mma_bf16(sum, a[i], terms[order - i][0], terms[order - i][1]);
}

// Terms of four values of z in a fragment's column, as `multiply` reads them. Any float is as good as another.
__device__ __forceinline__ void store_terms(uint2 *to, const float (&values)[4]) {
    unsigned short terms[4][TERMS];
#pragma unroll
    for (int e = 0; e < 4; ++e) split(values[e], terms[e]);
#pragma unroll
    for (int i = 0; i < TERMS; ++i)
        to[i * WARP] = make_uint2(terms[0][i] | (unsigned)terms[1][i] << 16, terms[2][i] | (unsigned)terms[3][i] << 16);
}

// Stores two neighbours, or one where only one is `left`; at once where rows are even, which leaves two or none.
__device__ __forceinline__ void store_pair(float *to, float x, float y, int left, bool even) {
    if (even) {
        if (left > 0) st_global_v2_f32(to, x, y);
    } else {
        if (left > 0) to[0] = x;
        if (left > 1) to[1] = y;
    }
}

// kappa*B of a warp's columns as fragments [OWN/16, DEPTH/8, TERMS, WARP].
template <int OWN, int DEPTH>
__device__ __forceinline__ void load_b(uint2 *fragments, const Module &module, const Share &share) {
    for (unsigned step = 0; step < OWN / 16; ++step) {
        for (unsigned n = 0; n < DEPTH / 8; ++n) {
            unsigned c = share.warp * OWN + step * 16 + share.lane % 4 * 2, d = n * 8 + share.lane / 4;
            float values[4];
#pragma unroll
            for (unsigned e = 0; e < 4; ++e) {
                unsigned at = c + e % 2 + e / 2 * 8;
                bool inside = at < share.count && d < share.depths;
                const float *from = module.b + (share.column + at) * module.ld_b + share.d + d;
                values[e] = inside ? module.scale * __ldg(from) : 0.0f;
            }
            unsigned low[TERMS], high[TERMS];
            split_pair(values[0], values[1], low);
            split_pair(values[2], values[3], high);
            uint2 *to = fragments + (step * (DEPTH / 8) + n) * TERMS * WARP + share.lane;
#pragma unroll
            for (int i = 0; i < TERMS; ++i) to[i * WARP] = make_uint2(low[i], high[i]);
        }
    }
}

// z of a tile, of a lane's place in the warp's fragment: 8 columns of r/s.
__device__ __forceinline__ void load_z(float (&values)[4], const Module &module, Index row, const Share &share,
                                       const Shape &shape) {
    unsigned d = share.warp * 8 + share.lane / 4;
#pragma unroll
    for (unsigned e = 0; e < 4; ++e) {
        // As `load_fragment` has them.
        unsigned i = sizeof(Stored) == 2 ? share.lane % 4 * 2 + e % 2 + e / 2 * 8 : share.lane % 4 + 4 * e;
        Index at = (row + i) * share.depth;
        if (module.ld_z != shape.rank) { // what lies between the tokens before it
            Index token = share.token + (share.of_token + (unsigned)(row - share.row) + i) / shape.split;
            at += token * (module.ld_z - shape.rank);
        }
        values[e] = row + i < share.end && d < share.depths ? __ldg(module.z + at + share.d + d) : 0.0f;
    }
}

template <int COLUMNS, int DEPTH>
__device__ __forceinline__ void products(const Module &module, const Shape &shape) {
    enum { PITCH = COLUMNS + 8, OWN = COLUMNS / WARPS, STEPS = OWN / 16, TILES = DEPTH / 8 };
    static_assert(TILES <= WARPS && OWN % 16 == 0, "a warp makes a fragment of z, and owns whole steps");
    Share share(shape, COLUMNS, DEPTH);
    Stored *tiles = reinterpret_cast<Stored *>(shared_memory);
    uint2 *of_b = reinterpret_cast<uint2 *>(tiles + 2 * TILE_ROWS * PITCH);
    uint2 *of_z = of_b + WARPS * STEPS * TILES * TERMS * WARP;
    float4 *parts = reinterpret_cast<float4 *>(of_z + TILES * TERMS * WARP);
    unsigned own = share.warp * OWN, lane = share.lane;
    of_b += share.warp * STEPS * TILES * TERMS * WARP;
    of_z += lane;

    // Columns that no load writes.
    for (unsigned row = share.warp; row < 2 * TILE_ROWS; row += WARPS)
        for (unsigned c = share.count + lane; c < COLUMNS; c += WARP) tiles[row * PITCH + c] = Stored(0);
    load_tile(module, tiles, PITCH, share.row, share, shape);
    load_b<OWN, DEPTH>(of_b, module, share);
    of_b += lane;
    float next[4];
    if (share.warp < TILES) load_z(next, module, share.row, share, shape);
    float db[STEPS][TILES][4] = {};
    for (Index row = share.row; row < share.end; row += TILE_ROWS) {
        const Stored *tile = tiles + (row - share.row) / TILE_ROWS % 2 * (TILE_ROWS * PITCH);
        if (share.warp < TILES) store_terms(of_z + share.warp * TERMS * WARP, next);
        cp_async_wait_all();
        __syncthreads(); // G and z of this tile are there; all have left the tile before, whose place the next one takes
        if (row + TILE_ROWS < share.end) {
            Stored *other = tiles + ((row - share.row) / TILE_ROWS + 1) % 2 * (TILE_ROWS * PITCH);
            load_tile(module, other, PITCH, row + TILE_ROWS, share, shape);
            if (share.warp < TILES) load_z(next, module, row + TILE_ROWS, share, shape);
        }
        float out[TILES][4] = {};
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            if (own + 16 * step >= share.count) break;
            uint4 fragment[G_TERMS];
            load_fragment<false>(fragment, tile + own + 16 * step, PITCH, lane);
#pragma unroll
            for (int n = 0; n < TILES; ++n)
                if (8 * n < share.depths) multiply(out[n], fragment, of_b + (step * TILES + n) * TERMS * WARP);
            load_fragment<true>(fragment, tile + own + 16 * step, PITCH, lane);
#pragma unroll
            for (int n = 0; n < TILES; ++n)
                if (8 * n < share.depths) multiply(db[step][n], fragment, of_z + n * TERMS * WARP);
        }
#pragma unroll
        for (int n = 0; n < TILES; ++n)
            parts[(share.warp * TILES + n) * WARP + lane] = make_float4(out[n][0], out[n][1], out[n][2], out[n][3]);
        __syncthreads(); // all warps' parts of dz are there, and z is read
        if (share.warp < TILES) {
            float4 sum = parts[share.warp * WARP + lane];
            for (unsigned w = 1; w < WARPS; ++w) {
                float4 part = parts[(w * TILES + share.warp) * WARP + lane];
                sum = make_float4(sum.x + part.x, sum.y + part.y, sum.z + part.z, sum.w + part.w);
            }
            unsigned d = share.warp * 8 + lane % 4 * 2;
            Index at = row + lane / 4;
            float *to = module.dz + (share.slice * shape.tokens * shape.split + at) * share.depth + share.d + d;
            if (at < share.end) store_pair(to, sum.x, sum.y, (int)share.depths - (int)d, share.depth % 2 == 0);
            if (at + 8 < share.end)
                store_pair(to + 8 * share.depth, sum.z, sum.w, (int)share.depths - (int)d, share.depth % 2 == 0);
        }
    }
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
#pragma unroll
        for (int n = 0; n < TILES; ++n) {
            unsigned c = own + 16 * step + lane / 4, d = n * 8 + lane % 4 * 2;
            float *to = module.b_sums + (share.segment * share.part + share.column + c) * share.depth + share.d + d;
            const float(&sum)[4] = db[step][n];
            int left = (int)share.depths - (int)d;
            if (c < share.count) store_pair(to, sum[0], sum[1], left, share.depth % 2 == 0);
            if (c + 8 < share.count) store_pair(to + 8 * share.depth, sum[2], sum[3], left, share.depth % 2 == 0);
        }
    }
}
