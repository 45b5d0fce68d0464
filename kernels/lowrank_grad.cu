// The adapter's backward of a group of modules: the two products of G, token by token, then sums over segments; before them
// premix, where the forward has not left z.
//
// Math (src/lowrank/mod.rs; Gs = G as [t*s, m/s], one sub-row for each of the s parts of a token's row)
//   z  = sum_i a_i d_i X_i                              [t, r]      premix; d: dropout factors, ones without
//   dz = Gs (kappa B)                                   [t*s, r/s]  products, in one part for each slice of columns
//   dB = kappa sum over segments of Gs^T z              [m/s, r/s]  products, then reduce
//   da_i = <dz, d_i X_i>;  dX_i = a_i d_i dz + what the gate sends on   [t, k*r]    tokens
//   dT or d(static) = sum over chunks of the tokens' shares             [r] or [k]  tokens, then reduce
//   dW_g = sum over chunks of dl^T H [k, n];  dH's share = dl W_g [t, n]            linear, then reduce
// Operands, by address in Group: up to 8 modules of one shape
//   g         [t, m] of ELEMENT; where a module `scatters`, tokens adds dX to its columns S, when no one reads it any more
//   b         [m/s, r/s] of float                 gate      [1, r], [k, n] or [1, k] of float
//   x, a, z   [t, k*r] of ELEMENT, [t, k] and [t, r] of float, as the forward saved them; z written by premix where it did not
//   skeleton  [k*r] of 32 bits, distinct, below m     h         [t, n] of ELEMENT; linear gates
//   target    G where `scatters`, else dX [t, k*r] of ELEMENT      h_gate    [t, n] of ELEMENT, or null: not wanted
//   grad_b, grad_gate    as b and gate: written, or added to where `accumulates`
//   dz        [slices, t, r] of float             dl        [t, k] of float, linear gates
//   b_sums, gate_sums    [segments, m/s, r/s] and [chunks, gate's] of float: like dz and dl a module's own part of the scratch,
//   written whole before it is read
//   Rows are ld_name apart; what lies between them is not touched.
// Tile
//   WARPS                           warps of a block
//   NARROW_COLUMNS, NARROW_DEPTH    of B, what a block of products_narrow holds; WIDE_ the same for r/s above NARROW_DEPTH
// Launch, blocks of [32, WARPS] threads; dynamic shared memory by src/gpu/lowrank/backward/cut.rs
//   Of each module, one after the other: premix ceil(t/WARPS); products segments * slices of columns * slices of r/s, a segment
//   being segment_rows sub-rows, a multiple of 16; tokens ceil(t/chunk); linear ceil(t/linear_chunk) * ceil(n/THREADS); reduce
//   ceil(entries of dB/THREADS) + ceil(entries of the gate's gradient/THREADS). Three launches a group, four with a linear
//   gate, and one more for premix.
// Requires
//   t >= 1 but for reduce; m, n < 2^32; s divides m and r. Any ld and alignment: 16 bytes of G at a time where its start, ld
//   and m/s are multiples of 16 bytes. The shared memory of premix and tokens, which grows with k*r and r, within the device's.
// Traffic
//   Least: G, X and dX once. Moved: G once for each WIDE_DEPTH of r/s (once up to r/s = 64); with `scatters` the sectors of S
//   once more, read and written; dX once; X once where z is there, twice where premix makes it. z once for each slice of
//   COLUMNS columns: 4 bytes of r/s for each COLUMNS elements of G, for 16 bits 1/16 of G at r/s = 16, half of G at r/s = 64.
//   dz written and read once a slice, twice as much as z. Both stay in the second cache up to a few thousand tokens. B once a
//   segment; sums written and read once: segments hold at least 128 and 8 r/s sub-rows, so for 16 bits at most half of G, and
//   there are at most 64. H once for 8 components.
//   At t = 4096, m = 4096, s = 2, k = 4, bf16, G takes an H100's memory 11 us (32 MiB at 3 TB/s). Tensor work at half of the
//   dense rate, 495 TFLOP/s: 4 products of t*m*r/s, 4.3 us at r = 32, 17 us at r = 128; f16 half as much again, f32 three times.
//   All instructions, counted, at 128 a cycle: 26 an element of G at r = 32, 16 us; 70 at r = 128; premix adds 1 and 4.
// Numerics
//   U = 2^-24. Products: kappa*B is rounded to float; it, z and G enter as bfloat16 terms (common/terms.cuh). G's are exact (1 of
//   bf16, 2 of f16, 3 of f32); of B and z two for f16 and bf16, three for f32. Taken are the products of terms i, j with
//   i + j < TERMS: off by 3.03 * 2^-16 of sum |G||v| with two, 2.02 U with three. Products are exact; sums are float on tensor
//   cores, which may cut: 2U for each of 2, 3 or 6 additions a summand. dz: then WARPS and the slices in order, U each. dB: the
//   segments in order, U each, and kappa. What lies below 2^-134 is lost; beyond 3.39e38, G and kappa*B count as infinite; an
//   infinite one gives infinity or NaN.
//   Tokens: float, elements of a dot product pass r/32 + 6 roundings; squares of the rms in double. Gate gradients: float, tokens
//   of a warp in order, then warps, then chunks. What accumulates is rounded before it is added, and once after.
//   Order: fixed by t and the problem alone, whichever modules are in the group. premix makes the forward's z to the bit.

#include "common/grad.cuh"

enum { COMPONENT_GROUP = 8, TOKEN_GROUP = 8 }; // of the linear gates

extern "C" __global__ void __launch_bounds__(THREADS) lowrank_grad_premix(const __grid_constant__ Group group) {
    const Shape &shape = group.shape;
    const Module &module = module_of(group);
    Index token = (Index)block_of(shape) * WARPS + threadIdx.y;
    if (token >= shape.tokens) return;
    unsigned width = shape.components * shape.rank;
    unsigned char *mask = reinterpret_cast<unsigned char *>(shared_memory) + threadIdx.y * ((width + 3) / 4);
    const Stored *x = module.x + token * module.ld_x;
    const float *a = module.a + token * module.ld_a;
    if (module.drops) draw_mask(mask, token, width, module);
    __syncwarp(); // the mask is written before other lanes read it
    for (unsigned j = threadIdx.x; j < shape.rank; j += WARP) {
        float sum = 0.0f;
        for (unsigned i = 0; i < shape.components; ++i) {
            unsigned c = i * shape.rank + j;
            sum = fmaf(__ldg(a + i), factor(mask, c, module) * Elem::widen(__ldg(x + c)), sum); // as in the forward
        }
        module.z[token * module.ld_z + j] = sum;
    }
}

// Two blocks of a multiprocessor: 128 registers, of which dB takes 32, and no spills.
extern "C" __global__ void __launch_bounds__(THREADS, 2) lowrank_grad_products_narrow(const __grid_constant__ Group group) {
    products<NARROW_COLUMNS, NARROW_DEPTH>(module_of(group), group.shape);
}

// dB takes 64 registers and dz 32: a second block would make it spill.
extern "C" __global__ void __launch_bounds__(THREADS, 1) lowrank_grad_products_wide(const __grid_constant__ Group group) {
    products<WIDE_COLUMNS, WIDE_DEPTH>(module_of(group), group.shape);
}

// Shared memory of a warp of `tokens`: dz [r], one component of X [r], the gate's gradient, da [k].
struct Rows {
    float *dz, *x, *gradient, *da;
    unsigned char *mask;
};

// Component i of a token: dX, and what it adds to the gate's gradient. The derivative by its gate value, in every lane.
__device__ __forceinline__ float component(const Stored *x, Stored *to, float a, unsigned i, const Rows &rows,
                                           const Module &module, const Shape &shape) {
    float da = 0.0f, along = 0.0f, rho = 1.0f;
    double squares = 0.0; // those of every float fit
    bool inner = shape.gate_kind == INNER, rms = shape.gate_kind == RMS_INNER;
    for (unsigned j = threadIdx.x; j < shape.rank; j += WARP) {
        float value = Elem::widen(__ldg(x + j));
        rows.x[j] = value;
        da = fmaf(rows.dz[j], factor(rows.mask, i * shape.rank + j, module) * value, da);
        if (rms) {
            along = fmaf(__ldg(module.gate + j), value, along);
            squares = fma((double)value, (double)value, squares);
        }
    }
    da = warp_sum(da);
    if (rms) {
        rho = (float)sqrt(warp_sum(squares) / shape.rank + 1e-6);
        along = warp_sum(along) / rho / (float)shape.rank;
    }
    float slope = da / rho;
    for (unsigned j = threadIdx.x; j < shape.rank; j += WARP) {
        unsigned c = i * shape.rank + j;
        float value = rows.x[j];
        float dx = a * (rows.dz[j] * factor(rows.mask, c, module));
        if (inner) dx = fmaf(slope, __ldg(module.gate + j), dx);
        if (rms) dx = fmaf(slope, __ldg(module.gate + j) - value / rho * along, dx);
        if (inner || rms) rows.gradient[j] = fmaf(slope, value, rows.gradient[j]);
        if (module.scatters) {
            Stored &at = to[__ldg(module.skeleton + c)];
            at = Elem::narrow(Elem::widen(at) + dx);
        } else {
            to[c] = Elem::narrow(dx);
        }
    }
    return da;
}

// Four blocks of a multiprocessor: by itself the assembler goes for 48 registers, and spills.
extern "C" __global__ void __launch_bounds__(THREADS, 4) lowrank_grad_tokens(const __grid_constant__ Group group) {
    const Shape &shape = group.shape;
    const Module &module = module_of(group);
    unsigned lane = threadIdx.x, warp = threadIdx.y;
    unsigned floats = 2 * shape.rank + shape.gradient + shape.components;
    float *memory = reinterpret_cast<float *>(shared_memory);
    float *here = memory + warp * floats;
    Rows rows = {here, here + shape.rank, here + 2 * shape.rank, here + 2 * shape.rank + shape.gradient,
                 reinterpret_cast<unsigned char *>(memory + WARPS * floats) +
                     warp * ((shape.components * shape.rank + 3) / 4)};
    Index chunk = block_of(shape), first = chunk * shape.chunk;
    Index end = shape.tokens - first < shape.chunk ? shape.tokens : first + shape.chunk;
    for (unsigned j = lane; j < shape.gradient; j += WARP) rows.gradient[j] = 0.0f;
    for (Index token = first + warp; token < end; token += WARPS) {
        for (unsigned j = lane; j < shape.rank; j += WARP) {
            float sum = 0.0f;
            for (unsigned s = 0; s < shape.slices; ++s)
                sum += __ldg(module.dz + (s * shape.tokens + token) * shape.rank + j);
            rows.dz[j] = sum;
        }
        if (module.drops) draw_mask(rows.mask, token, shape.components * shape.rank, module);
        __syncwarp(); // the mask is written, and the gradient's zeros, before other lanes read them
        const Stored *x = module.x + token * module.ld_x;
        const float *a = module.a + token * module.ld_a;
        Stored *to = module.target + token * module.ld_target;
        float mean = 0.0f;
        for (unsigned i = 0; i < shape.components; ++i) {
            float da = component(x + i * shape.rank, to, __ldg(a + i), i, rows, module, shape);
            if (lane != i % WARP) continue;
            if (shape.gate_kind == STATIC) rows.gradient[i] += da;
            rows.da[i] = da;
            mean = fmaf(__ldg(a + i), da, mean);
        }
        if (shape.gate_kind == LINEAR || shape.gate_kind == LINEAR_SOFTMAX) {
            mean = warp_sum(mean);
            for (unsigned i = lane; i < shape.components; i += WARP)
                module.dl[token * shape.components + i] =
                    shape.gate_kind == LINEAR ? rows.da[i] : __ldg(a + i) * (rows.da[i] - mean);
        }
        __syncwarp(); // the mask is read before the next token's overwrites it
    }
    __syncthreads(); // all warps' gradients are there
    for (unsigned j = warp * WARP + lane; j < shape.gradient; j += THREADS) {
        float sum = 0.0f;
        for (unsigned w = 0; w < WARPS; ++w) sum += memory[w * floats + 2 * shape.rank + j];
        module.gate_sums[chunk * shape.gradient + j] = sum;
    }
}

// A thread takes a column of H and the tokens of a chunk.
extern "C" __global__ void __launch_bounds__(THREADS) lowrank_grad_linear(const __grid_constant__ Group group) {
    const Shape &shape = group.shape;
    const Module &module = module_of(group);
    unsigned column_blocks = (shape.cols - 1) / THREADS + 1, block = block_of(shape);
    Index c = (Index)(block % column_blocks) * THREADS + threadIdx.y * WARP + threadIdx.x;
    Index chunk = block / column_blocks, first = chunk * shape.linear_chunk;
    Index end = shape.tokens - first < shape.linear_chunk ? shape.tokens : first + shape.linear_chunk;
    if (c >= shape.cols) return;
    const Stored *h = module.h + c;
    const float *dl = module.dl;
    for (unsigned i = 0; i < shape.components; i += COMPONENT_GROUP) {
        float sum[COMPONENT_GROUP] = {};
#pragma unroll 2
        for (Index token = first; token < end; ++token) {
            float value = Elem::widen(__ldg(h + token * module.ld_h));
#pragma unroll
            for (unsigned e = 0; e < COMPONENT_GROUP; ++e)
                if (i + e < shape.components) sum[e] = fmaf(__ldg(dl + token * shape.components + i + e), value, sum[e]);
        }
#pragma unroll
        for (unsigned e = 0; e < COMPONENT_GROUP; ++e)
            if (i + e < shape.components) module.gate_sums[(chunk * shape.components + i + e) * shape.cols + c] = sum[e];
    }
    if (!module.h_gate) return;
    for (Index token = first; token < end; token += TOKEN_GROUP) {
        float share[TOKEN_GROUP] = {};
        for (unsigned i = 0; i < shape.components; ++i) {
            float w = __ldg(module.gate + i * module.ld_gate + c);
#pragma unroll
            for (unsigned u = 0; u < TOKEN_GROUP; ++u)
                if (token + u < end) share[u] = fmaf(__ldg(dl + (token + u) * shape.components + i), w, share[u]);
        }
#pragma unroll
        for (unsigned u = 0; u < TOKEN_GROUP; ++u)
            if (token + u < end) module.h_gate[(token + u) * module.ld_h_gate + c] = Elem::narrow(share[u]);
    }
}

// An entry of a gradient: the sum of its partial sums [segments, entries], of which it is entry i.
__device__ __forceinline__ void add_up(const float *sums, unsigned segments, Index entries, Index i, float scale, float *to,
                                       bool accumulates) {
    float total = 0.0f;
#pragma unroll 4
    for (unsigned s = 0; s < segments; ++s) total += __ldg(sums + s * entries + i);
    float value = __fmul_rn(scale, total); // rounded by itself, also where it is added
    *to = accumulates ? *to + value : value;
}

// A thread takes an entry: of dB in the first b_blocks of a module, of the gate's gradient in the others.
extern "C" __global__ void __launch_bounds__(THREADS) lowrank_grad_reduce(const __grid_constant__ Group group) {
    const Shape &shape = group.shape;
    const Module &module = module_of(group);
    unsigned block = block_of(shape), thread = threadIdx.y * WARP + threadIdx.x;
    bool of_b = block < shape.b_blocks;
    Index rows = of_b ? shape.rows / shape.split : shape.gate_rows, cols = of_b ? shape.rank / shape.split : shape.gate_cols;
    Index i = (Index)(of_b ? block : block - shape.b_blocks) * THREADS + thread;
    if (i >= rows * cols) return;
    if (of_b) {
        float *to = module.grad_b + i / cols * module.ld_grad_b + i % cols;
        add_up(module.b_sums, shape.segments, rows * cols, i, module.scale, to, module.accumulates);
    } else {
        float *to = module.grad_gate + i / cols * module.ld_grad_gate + i % cols;
        add_up(module.gate_sums, shape.gate_segments, rows * cols, i, 1.0f, to, module.accumulates);
    }
}
