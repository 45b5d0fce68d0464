// The adapter's forward where a token's columns are cut over blocks: which columns a block leaves alone, the ticket that finds
// the last block, and the update of chosen columns. The operands are those of lowrank.cu.
#pragma once
#include "common/expand.cuh"

struct Decode {
    Group group;                        // whose shape.blocks are the token groups of a module
    unsigned *tickets;                  // one per module and token group, zero before and after a launch
    unsigned modules, slices, windows;  // `windows` of a slice
    unsigned chosen;                    // where the slice's chosen columns start in shared memory, in bytes
};
static_assert(sizeof(Decode) == 1648, "as in src/gpu/lowrank/decode.rs");

// The slice of a block: windows of columns of every part, the same ones. Where it `defers`, chosen columns are left alone, and
// chosen [windows, s] has a bit for each column of a window that is one.
struct Slice {
    unsigned begin, end; // columns of m/s
    unsigned *chosen;
    bool defers;
};

// What `project` does, to the bit, where a block has one token: with more loads on their way at a time.
__device__ __forceinline__ void project_one(const Module &module, const Block &block, const Shape &shape) {
    float *partials = shared_at<float>(shape.partials) + block.warp * shape.components;
    const Stored *h = module.h + block.first * module.ld_h;
    for (unsigned i = 0; i < shape.components; i += COMPONENT_GROUP) {
        float sums[COMPONENT_GROUP] = {};
#pragma unroll 4
        for (unsigned j = block.warp * WARP + block.lane; j < shape.cols; j += THREADS) {
            float x = Elem::widen(__ldg(h + j));
#pragma unroll
            for (int e = 0; e < COMPONENT_GROUP; ++e) {
                float w = i + e < shape.components ? __ldg(module.gate + (i + e) * module.ld_gate + j) : 0.0f;
                sums[e] = fmaf(x, w, sums[e]);
            }
        }
#pragma unroll
        for (int e = 0; e < COMPONENT_GROUP; ++e) {
            float sum = warp_sum(sums[e]);
            if (block.lane == 0 && i + e < shape.components) partials[i + e] = sum;
        }
    }
}

// Marks the chosen columns of the slice, where its words are zero and `places` are there.
__device__ __forceinline__ void mark_chosen(const Slice &slice, const Block &block, const Shape &shape) {
    const unsigned *places = shared_at<unsigned>(shape.places);
    for (unsigned c = block.warp * WARP + block.lane; c < block.width; c += THREADS) {
        unsigned owner = places[c] / block.part, column = places[c] % block.part;
        if (column < slice.begin || column >= slice.end) continue;
        unsigned window = (column - slice.begin) / WINDOW;
        atomicOr(slice.chosen + window * shape.split + owner, 1u << (column - slice.begin) % WINDOW);
    }
}

// Stores those elements of a vector whose bits are zero: halves and pairs whole where all of theirs are, for each store moves a
// sector.
__device__ __forceinline__ void store_rest(Stored *to, const uint4 &vector, unsigned bits) {
    enum { HALF = VECTOR / 2 };
    const unsigned words[4] = {vector.x, vector.y, vector.z, vector.w};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        if (!(bits >> half * HALF & ((1u << HALF) - 1))) {
            reinterpret_cast<uint2 *>(to)[half] = make_uint2(words[2 * half], words[2 * half + 1]);
            continue;
        }
#pragma unroll
        for (int word = 2 * half; word < 2 * half + 2; ++word) {
            if constexpr (sizeof(Stored) == 4) {
                if (!(bits >> word & 1)) to[word] = __uint_as_float(words[word]);
            } else if (!(bits >> 2 * word & 3)) {
                reinterpret_cast<unsigned *>(to)[word] = words[word];
            } else {
                if (!(bits >> 2 * word & 1)) to[2 * word] = (Stored)words[word];
                if (!(bits >> 2 * word & 2)) to[2 * word + 1] = (Stored)(words[word] >> 16);
            }
        }
    }
}

// Stores a window from shared memory but for its chosen columns, whose bits are chosen [s].
__device__ __forceinline__ void store_others(const Stored *window, Stored *memory, const Index *starts, const unsigned *chosen,
                                             bool vectors, unsigned group, unsigned rows, unsigned count,
                                             const Block &block, const Shape &shape) {
    if (vectors) {
        unsigned c = window_vector(block.lane) * VECTOR;
        if (c >= count) return;
        for (unsigned row = window_row(block.lane); row < rows; row += 8) {
            unsigned bits = chosen[(group + row) % shape.split] >> c & ((1u << VECTOR) - 1);
            const uint4 *vector = reinterpret_cast<const uint4 *>(window + row * STAGE_PITCH + c);
            Stored *to = memory + starts[row] + c;
            if (bits == 0) *reinterpret_cast<uint4 *>(to) = *vector; // a copy, which stays one store of 16 bytes
            else store_rest(to, *vector, bits);
        }
    } else if (block.lane < count) {
        for (unsigned row = 0; row < rows; ++row)
            if (!(chosen[(group + row) % shape.split] >> block.lane & 1))
                memory[starts[row] + block.lane] = window[row * STAGE_PITCH + block.lane];
    }
}

// Whether the block is the last of `count` that take a ticket: what all of them read and wrote before has then happened.
// Nobody waits. Leaves the ticket at zero.
__device__ __forceinline__ bool is_last(unsigned *ticket, unsigned count, const Block &block) {
    __shared__ bool last;
    __syncthreads(); // the whole block has gathered before its ticket says so
    if (block.warp == 0 && block.lane == 0) last = atom_inc_acq_rel(ticket, count - 1) == count - 1; // wraps to zero
    __syncthreads(); // the answer is there, and what the other blocks did is before what any thread does now
    return last;
}

// The update of a window whose column i has the row `row_of(i)` of B, null for none. To the bit what `multiply` makes of those
// rows; 16 bytes at a time where r/s is a multiple of 4, too.
template <int ROW_TILES, class RowOf>
__device__ __forceinline__ void multiply_rows(Tile<TERMS> (&update)[ROW_TILES][COLUMN_TILES], RowOf row_of, const Module &module,
                                              unsigned group, const Block &block, const Shape &shape) {
    bool vectors = reinterpret_cast<Index>(module.b) % 16 == 0 && module.ld_b % 4 == 0 && block.depth % 4 == 0;
    const float *rows[COLUMN_TILES];
#pragma unroll
    for (int n = 0; n < COLUMN_TILES; ++n) rows[n] = row_of(8 * n + block.lane / 4);
    auto load = [&](float4(&values)[COLUMN_TILES], unsigned d) {
        d += block.lane % 4 * 4;
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; ++n) values[n] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (vectors) { // one block of code, so that all loads are on their way before the first is waited for
#pragma unroll
            for (int n = 0; n < COLUMN_TILES; ++n)
                if (rows[n] && d < block.depth) values[n] = __ldg(reinterpret_cast<const float4 *>(rows[n] + d));
            return;
        }
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; ++n) {
#pragma unroll
            for (unsigned e = 0; e < 4; ++e)
                if (rows[n] && d + e < block.depth) (&values[n].x)[e] = __ldg(rows[n] + d + e);
        }
    };
    multiply_by(update, load, module.scale, group, block, shape);
}

// Adds the update of chosen columns first .. first + WINDOW to Y0 in device memory, each to the sub-rows of its part.
template <int ROW_TILES>
__device__ __forceinline__ void add_chosen(const Tile<TERMS> (&update)[ROW_TILES][COLUMN_TILES], const Module &module,
                                           unsigned group, unsigned first, const Block &block, const Shape &shape) {
    const unsigned *places = shared_at<unsigned>(shape.places);
    unsigned g = block.lane / 4, q = block.lane % 4;
#pragma unroll
    for (int n = 0; n < COLUMN_TILES; ++n) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
            unsigned c = first + 8 * n + 2 * q + e;
            if (c >= block.width) continue;
            unsigned owner = places[c] / block.part, column = places[c] % block.part;
            float bias = shape.bias_kind == SEPARATE ? Elem::widen(__ldg(module.bias + places[c])) : 0.0f;
            float y[2 * ROW_TILES];
#pragma unroll
            for (int half = 0; half < 2 * ROW_TILES; ++half) {
                unsigned row = group + 8 * half + g;
                bool own = row < block.sub_rows && row % shape.split == owner;
                y[half] = own ? Elem::widen(module.y0[block.from[row] + column]) : 0.0f;
            }
#pragma unroll
            for (int half = 0; half < 2 * ROW_TILES; ++half) {
                unsigned row = group + 8 * half + g;
                float y0 = shape.bias_kind == SEPARATE ? y[half] + bias : y[half];
                if (row < block.sub_rows && row % shape.split == owner)
                    module.y[block.to[row] + column] =
                        Elem::narrow(plus(y0, update[half / 2][n].at(half % 2 * 2 + e)));
            }
        }
    }
}

// The update of the token group's chosen columns: windows whose columns come from the skeleton.
template <int ROW_TILES>
__device__ __forceinline__ void expand_chosen(const Module &module, const Block &block, const Shape &shape) {
    const unsigned *places = shared_at<unsigned>(shape.places);
    for (unsigned group = 0; group < block.sub_rows; group += 16 * ROW_TILES) {
        for (unsigned first = block.warp * WINDOW; first < block.width; first += WARPS * WINDOW) {
            auto row_of = [&](unsigned i) {
                return first + i < block.width ? module.b + places[first + i] % block.part * module.ld_b : nullptr;
            };
            Tile<TERMS> update[ROW_TILES][COLUMN_TILES];
            multiply_rows(update, row_of, module, group, block, shape);
            add_chosen(update, module, group, first, block, shape);
        }
    }
}
