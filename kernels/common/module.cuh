// What modules of the adapter's forward and of its backward have in common: what both directions read, and dropout.
#pragma once
#include "common/philox.cuh"
#include "common/terms.cuh"

enum Gate { INNER, RMS_INNER, LINEAR, LINEAR_SOFTMAX, STATIC };

enum { MODULES = 8 }; // at most, in a group

// Parameters and H by address, with rows ld_name apart, the scale and dropout. The direction's own operands follow.
struct Adapter {
    const unsigned *skeleton;
    const float *b, *gate;
    const Stored *h;
    Index ld_b, ld_gate, ld_h;
    Index seed, offset;
    unsigned drops, threshold; // an entry of X is dropped where its word is below the threshold,
    float kept, scale;         // and multiplied by `kept` elsewhere
};
static_assert(sizeof(Adapter) == 88, "as in src/gpu/lowrank/group.rs");

// Four bits for every four entries of a token's row of X [width], by the lanes of a warp: set where the entry is kept.
__device__ __forceinline__ void draw_mask(unsigned char *mask, Index token, unsigned width, const Adapter &module) {
    token += module.offset;
    for (unsigned i = threadIdx.x; i < (width + 3) / 4; i += WARP)
        mask[i] = kept_columns(token, i, module.seed, module.threshold);
}

// What entry c of a row is multiplied by.
__device__ __forceinline__ float factor(const unsigned char *mask, unsigned c, const Adapter &module) {
    return !module.drops ? 1.0f : mask[c / 4] >> c % 4 & 1 ? module.kept : 0.0f;
}
