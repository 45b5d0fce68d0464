// The adapter's forward up to z, which the block keeps in shared memory as bfloat16 terms: the modules of a group, tables, X
// gathered or given, gate, premix. The operands are those of lowrank.cu.
#pragma once
#include "common/module.cuh"

enum Bias { NO_BIAS, INCLUDED, SEPARATE };

// One module of a group. In place, y0 is y. Where `given` is there, X is read from it, as it is, instead of being gathered.
// x, a and z are saved where they have a place.
struct Module : Adapter {
    const Stored *y0, *bias, *given;
    Stored *y, *x;
    float *a, *z;
    Index ld_y0, ld_given, ld_y, ld_x, ld_a, ld_z;
};
static_assert(sizeof(Module) == 192, "as in src/gpu/lowrank/group.rs");

// What the modules of a group have in common.
struct Shape {
    Index tokens;
    unsigned rows, cols, rank, components, split;
    unsigned gate_kind, bias_kind;
    unsigned blocks; // of a module
    unsigned block_tokens, holds, tile_pitch, term_rows, term_stride;
    unsigned places, gates, partials, stash, mask, terms, tile; // where the parts of shared memory start, in bytes
};
static_assert(sizeof(Shape) == 88, "as in src/gpu/lowrank/group.rs");

struct Group {
    Shape shape;
    Module modules[MODULES];
};

enum { THREADS = WARP * WARPS, TERMS = sizeof(Stored) == 4 ? 3 : 2 };
enum { TOKEN_GROUP = 8, COMPONENT_GROUP = 4 }; // of the logits
enum { FRAGMENT = 8, STEP = 32 * FRAGMENT + 32 };  // bfloat16 of z: a lane's, and one step's (see `place_of`)

extern __shared__ uint4 shared_memory[];

template <typename T> __device__ __forceinline__ T *shared_at(unsigned byte) {
    return reinterpret_cast<T *>(reinterpret_cast<char *>(shared_memory) + byte);
}

// What a block works on.
struct Block {
    Index first;             // token
    unsigned count;          // tokens
    unsigned part, depth;    // m/s and r/s
    unsigned steps;          // of 16 in r/s
    unsigned width;          // k*r
    unsigned sub_rows;       // count * s
    unsigned lane, warp;
    Index *from, *to;        // [term_rows] where sub-rows start in y0 and in y

    __device__ __forceinline__ explicit Block(const Shape &shape) {
        first = (Index)(blockIdx.x % shape.blocks) * shape.block_tokens;
        count = shape.tokens - first < shape.block_tokens ? (unsigned)(shape.tokens - first) : shape.block_tokens;
        part = shape.rows / shape.split;
        depth = shape.rank / shape.split;
        steps = (depth + 15) / 16;
        width = shape.components * shape.rank;
        sub_rows = count * shape.split;
        lane = threadIdx.x;
        warp = threadIdx.y;
        from = shared_at<Index>(0);
        to = from + shape.term_rows;
    }
};

// Tables, and zeros where terms are padded: rows of the last block that have no token, columns beyond r/s.
__device__ __forceinline__ void prepare(const Module &module, Block &block, const Shape &shape) {
    unsigned thread = block.warp * WARP + block.lane;
    unsigned *places = shared_at<unsigned>(shape.places);
    for (unsigned row = thread; row < block.sub_rows; row += THREADS) {
        Index token = block.first + row / shape.split;
        unsigned column = row % shape.split * block.part;
        block.from[row] = token * module.ld_y0 + column;
        block.to[row] = token * module.ld_y + column;
    }
    for (unsigned c = thread; c < block.width; c += THREADS) {
        unsigned column = __ldg(module.skeleton + c);
        places[c] = shape.holds ? column / block.part * shape.tile_pitch + column % block.part : column;
    }
    unsigned *terms = shared_at<unsigned>(shape.terms);
    for (unsigned i = thread; i < TERMS * shape.term_stride / 2; i += THREADS) terms[i] = 0;
}

// H W_g^T: each warp's share of the sums into partials [WARPS, block_tokens, k].
__device__ __forceinline__ void project(const Module &module, const Block &block, const Shape &shape) {
    const Stored *h = module.h + block.first * module.ld_h;
    const float *gate = module.gate;
    Index ld_h = module.ld_h, ld_gate = module.ld_gate;
    float *partials = shared_at<float>(shape.partials) + block.warp * shape.block_tokens * shape.components;
    for (unsigned t = 0; t < block.count; t += TOKEN_GROUP) {
        for (unsigned i = 0; i < shape.components; i += COMPONENT_GROUP) {
            float sums[TOKEN_GROUP][COMPONENT_GROUP] = {};
            for (unsigned j = block.warp * WARP + block.lane; j < shape.cols; j += THREADS) {
                float w[COMPONENT_GROUP];
#pragma unroll
                for (int e = 0; e < COMPONENT_GROUP; ++e)
                    w[e] = i + e < shape.components ? __ldg(gate + (i + e) * ld_gate + j) : 0.0f;
#pragma unroll
                for (int u = 0; u < TOKEN_GROUP; ++u) {
                    float x = t + u < block.count ? Elem::widen(__ldg(h + (t + u) * ld_h + j)) : 0.0f;
#pragma unroll
                    for (int e = 0; e < COMPONENT_GROUP; ++e) sums[u][e] = fmaf(x, w[e], sums[u][e]);
                }
            }
#pragma unroll
            for (int u = 0; u < TOKEN_GROUP; ++u) {
#pragma unroll
                for (int e = 0; e < COMPONENT_GROUP; ++e) {
                    float sum = warp_sum(sums[u][e]);
                    if (block.lane == 0 && t + u < block.count && i + e < shape.components)
                        partials[(t + u) * shape.components + i + e] = sum;
                }
            }
        }
    }
}

// Gate values of a token, whose X is x, into a [k]. All lanes of the warp see them.
__device__ __forceinline__ void weigh(const Stored *x, const float *gate, float *a, unsigned t, const Block &block,
                                      const Shape &shape) {
    if (shape.gate_kind == INNER || shape.gate_kind == RMS_INNER) {
        for (unsigned i = 0; i < shape.components; ++i, x += shape.rank) {
            float sum = 0.0f;
            double squares = 0.0; // those of every float fit
            for (unsigned j = block.lane; j < shape.rank; j += WARP) {
                float value = Elem::widen(x[j]);
                sum = fmaf(__ldg(gate + j), value, sum);
                if (shape.gate_kind == RMS_INNER) squares = fma((double)value, (double)value, squares);
            }
            sum = warp_sum(sum);
            if (shape.gate_kind == RMS_INNER) sum /= (float)sqrt(warp_sum(squares) / shape.rank + 1e-6);
            if (block.lane == 0) a[i] = sum;
        }
    } else {
        const float *partials = shared_at<float>(shape.partials) + t * shape.components;
        float top = -__int_as_float(0x7f800000);
        for (unsigned i = block.lane; i < shape.components; i += WARP) {
            float logit = 0.0f;
            if (shape.gate_kind == STATIC) logit = __ldg(gate + i);
            else
                for (unsigned w = 0; w < WARPS; ++w)
                    logit += partials[w * shape.block_tokens * shape.components + i];
            a[i] = logit;
            top = fmaxf(top, logit);
        }
        if (shape.gate_kind == LINEAR_SOFTMAX) {
            for (int mask = WARP / 2; mask > 0; mask /= 2) top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, mask));
            double total = 0.0;
            for (unsigned i = block.lane; i < shape.components; i += WARP) total += exp((double)a[i] - (double)top);
            total = warp_sum(total);
            for (unsigned i = block.lane; i < shape.components; i += WARP)
                a[i] = (float)(exp((double)a[i] - (double)top) / total);
        }
    }
    __syncwarp(); // the values are written before any lane reads them
}

// Where a term of z[row, d] lies. A term is [term_rows / 16, steps] fragments of tensor-core operands, each what the lanes of a
// warp read as 16 bytes. Within a step of 16 the order of d is free, as long as B has the same: lane%4 takes four neighbours,
// which are 16 bytes of B. Steps are 64 bytes further apart than they are long, for writes along d to spread over all banks.
__device__ __forceinline__ unsigned place_of(unsigned row, unsigned d, const Block &block) {
    unsigned lane = row % 8 * 4 + d % 16 / 4;
    return (row / 16 * block.steps + d / 16) * STEP + lane * FRAGMENT + d % 4 / 2 * 4 + row % 16 / 8 * 2 + d % 2;
}

// z of a token, as terms; saved where there is a place for it.
__device__ __forceinline__ void premix(const Stored *x, const float *a, const unsigned char *mask, unsigned t,
                                       const Module &module, const Block &block, const Shape &shape) {
    unsigned short *terms = shared_at<unsigned short>(shape.terms);
    float *saved = module.z ? module.z + (block.first + t) * module.ld_z : nullptr;
    for (unsigned j = block.lane; j < shape.rank; j += WARP) {
        float z = 0.0f;
        for (unsigned i = 0; i < shape.components; ++i) {
            unsigned c = i * shape.rank + j;
            float value = Elem::widen(x[c]);
            if (module.drops) value *= factor(mask, c, module);
            z = fmaf(a[i], value, z);
        }
        if (saved) saved[j] = z;
        unsigned short of_z[TERMS];
        split(z, of_z);
        unsigned at = place_of(t * shape.split + j / block.depth, j % block.depth, block);
#pragma unroll
        for (int i = 0; i < TERMS; ++i) terms[i * shape.term_stride + at] = of_z[i];
    }
}

// X of a token into x: from the tile, from its row of Y0, or as it is given. Saved where there is a place for it.
__device__ __forceinline__ void fetch(Stored *x, unsigned t, const Module &module, const Block &block, const Shape &shape) {
    Index token = block.first + t;
    Stored *saved = module.x ? module.x + token * module.ld_x : nullptr;
    if (module.given) {
        const Stored *given = module.given + token * module.ld_given;
#pragma unroll 4
        for (unsigned c = block.lane; c < block.width; c += WARP) {
            x[c] = __ldg(given + c);
            if (saved) saved[c] = x[c];
        }
        return;
    }
    const Stored *tile = shared_at<Stored>(shape.tile) + t * shape.split * shape.tile_pitch;
    const Stored *row = module.y0 + token * module.ld_y0;
    const unsigned *places = shared_at<unsigned>(shape.places);
#pragma unroll 4
    for (unsigned c = block.lane; c < block.width; c += WARP) {
        Stored value = shape.holds ? tile[places[c]] : row[places[c]];
        if (shape.bias_kind == INCLUDED)
            value = Elem::narrow(Elem::widen(value) - Elem::widen(__ldg(module.bias + __ldg(module.skeleton + c))));
        x[c] = value;
        if (saved) saved[c] = value;
    }
}

// X, gate and z of the warp's tokens, saved where there is a place for them.
__device__ __forceinline__ void shrink(const Module &module, const Block &block, const Shape &shape) {
    Stored *x = shared_at<Stored>(shape.stash) + block.warp * block.width;
    float *a = shared_at<float>(shape.gates) + block.warp * shape.components;
    unsigned char *mask = shared_at<unsigned char>(shape.mask) + block.warp * ((block.width + 3) / 4);
    for (unsigned t = block.warp; t < block.count; t += WARPS) {
        Index token = block.first + t;
        fetch(x, t, module, block, shape);
        if (module.drops) draw_mask(mask, token, block.width, module);
        __syncwarp(); // X and the mask are written before other lanes read them
        weigh(x, module.gate, a, t, block, shape);
        if (module.a)
            for (unsigned i = block.lane; i < shape.components; i += WARP) module.a[token * module.ld_a + i] = a[i];
        premix(x, a, mask, t, module, block, shape);
        __syncwarp(); // X, gate and mask are read before the next token's overwrite them
    }
}
