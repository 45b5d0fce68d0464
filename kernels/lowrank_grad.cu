// The adapter's backward: premix again, the two products of G, then token by token, and sums over segments at the end.
//
// Math (src/lowrank/mod.rs; Gs = G as [t*s, m/s], one sub-row for each of the s parts of a token's row)
//   z  = sum_i a_i d_i X_i                              [t, r]      premix; d: dropout factors, ones without
//   dz = Gs (kappa B)                                   [t*s, r/s]  products, in one part for each slice of columns
//   dB = kappa sum over segments of Gs^T z              [m/s, r/s]  products, then reduce
//   da_i = <dz, d_i X_i>;  dX_i = a_i d_i dz + what the gate sends on   [t, k*r]    tokens
//   dT or d(static) = sum over chunks of the tokens' shares             [r] or [k]  tokens, then reduce
//   dW_g = sum over chunks of dl^T H [k, n];  dH's share = dl W_g [t, n]            linear, then reduce
// Operands
//   g         [t, m] of ELEMENT; tokens adds dX to its columns S where `scatters`, when no one reads it any more
//   b         [m/s, r/s] of float                 gate      [1, r], [k, n] or [1, k] of float
//   x, a      [t, k*r] of ELEMENT, [t, k] of float, as the forward saved them
//   skeleton  [k*r] of 32 bits, distinct, below m     h         [t, n] of ELEMENT; linear gates
//   target    G where `scatters`, else dX [t, k*r] of ELEMENT      h_gate    [t, n] of ELEMENT, where `shares`
//   z, dz     [t, r], [slices, t, r] of float       dl        [t, k] of float, linear gates
//   sums      [segments, m/s, r/s] and [chunks, gate's] of float: written whole before they are read, as z, dz and dl are
//   Operands start `name` elements into their buffers, rows are ld_name apart; what lies between rows is not touched.
// Tile
//   WARPS                           warps of a block
//   NARROW_COLUMNS, NARROW_DEPTH    of B, what a block of products_narrow holds; WIDE_ the same for r/s above NARROW_DEPTH
// Launch, blocks of [32, WARPS] threads; dynamic shared memory by src/gpu/lowrank/backward.rs
//   premix ceil(t/WARPS); products segments * slices of columns * slices of r/s, a segment being segment_rows sub-rows, a
//   multiple of 16; tokens ceil(t/chunk); linear ceil(t/linear_chunk) * ceil(n/THREADS); reduce ceil(entries/THREADS)
// Requires
//   t >= 1 but for reduce; m, n < 2^32; s divides m and r. Any ld and alignment: 16 bytes of G at a time where its start, ld
//   and m/s are multiples of 16 bytes. The shared memory of premix and tokens, which grows with k*r and r, within the device's.
// Traffic
//   Least: G, X and dX once. Moved: G once for each WIDE_DEPTH of r/s (once up to r/s = 64); with `scatters` the sectors of S
//   once more, read and written; dX once; X twice (premix and tokens): what z needs is known before G, what X needs of dz after
//   it, and a block that kept X between would have to keep dB for whole rows. B once a segment; sums written and read once:
//   segments hold at least 128 and 8 r/s sub-rows, so for 16 bits at most half of G, and there are at most 64. dz written and
//   read once a slice: 8 bytes of r/s for each COLUMNS elements of G, for 16 bits 1/8 of G at r/s = 16, all of G at r/s = 64; it
//   stays in the second cache up to a few thousand tokens. H once for 8 components.
//   At t = 4096, m = 4096, s = 2, k = 4, bf16, G takes an H100's memory 11 us (32 MiB at 3 TB/s). Tensor work at half of the
//   dense rate, 495 TFLOP/s: 4 products of t*m*r/s, 4.3 us at r = 32, 17 us at r = 128; f16 half as much again, f32 three times.
//   All instructions, counted, at 128 a cycle: 27 an element of G at r = 32, 16 us, of which products has 19; 69 at r = 128.
// Numerics
//   U = 2^-24. Products: kappa*B is rounded to float; it, z and G enter as bfloat16 terms (common/terms.cuh). G's are exact (1 of
//   bf16, 2 of f16, 3 of f32); of B and z two for f16 and bf16, three for f32. Taken are the products of terms i, j with
//   i + j < TERMS: off by 3.03 * 2^-16 of sum |G||v| with two, 2.02 U with three. Products are exact; sums are float on tensor
//   cores, which may cut: 2U for each of 2, 3 or 6 additions a summand. dz: then WARPS and the slices in order, U each. dB: the
//   segments in order, U each, and kappa. What lies below 2^-134 is lost; beyond 3.39e38, G and kappa*B count as infinite; an
//   infinite one gives infinity or NaN.
//   Tokens: float, elements of a dot product pass r/32 + 6 roundings; squares of the rms in double. Gate gradients: float, tokens of
//   a warp in order, then warps, then chunks. What accumulates is rounded before it is added, and once after.
//   Order: fixed by t and the problem alone.

#include "common/philox.cuh"
#include "common/products.cuh"

// What `reduce` adds up: [segments, rows, cols].
struct Sum {
    Index out, ld, rows, cols;
    unsigned segments, accumulates;
    float scale;
    unsigned unused;
};
static_assert(sizeof(Sum) == 48, "as in src/gpu/lowrank/backward.rs");

enum { COMPONENT_GROUP = 8, TOKEN_GROUP = 8 }; // of the linear gates

// Bits of four entries of a token's row of X in a byte: set where the entry is kept. As the forward draws them.
__device__ __forceinline__ void draw_mask(Index token, unsigned char *mask, const Shape &shape) {
    token += shape.offset;
    unsigned width = shape.components * shape.rank;
    for (unsigned i = threadIdx.x; i < (width + 3) / 4; i += WARP)
        mask[i] = kept_columns(token, i, shape.seed, shape.threshold);
}

__device__ __forceinline__ float factor(const unsigned char *mask, unsigned c, const Shape &shape) {
    return !shape.drops ? 1.0f : mask[c / 4] >> c % 4 & 1 ? shape.kept : 0.0f;
}

extern "C" __global__ void __launch_bounds__(THREADS)
lowrank_grad_premix(const Stored *__restrict__ x, const float *__restrict__ a, float *z, Shape shape) {
    Index token = (Index)blockIdx.x * WARPS + threadIdx.y;
    if (token >= shape.tokens) return;
    unsigned width = shape.components * shape.rank;
    unsigned char *mask = reinterpret_cast<unsigned char *>(shared_memory) + threadIdx.y * ((width + 3) / 4);
    x += shape.x + token * shape.ld_x;
    a += shape.a + token * shape.ld_a;
    if (shape.drops) draw_mask(token, mask, shape);
    __syncwarp(); // the mask is written before other lanes read it
    for (unsigned j = threadIdx.x; j < shape.rank; j += WARP) {
        float sum = 0.0f;
        for (unsigned i = 0; i < shape.components; ++i) {
            unsigned c = i * shape.rank + j;
            sum = fmaf(a[i], factor(mask, c, shape) * Elem::widen(x[c]), sum);
        }
        z[token * shape.rank + j] = sum;
    }
}

// Two blocks of a multiprocessor: 128 registers, of which dB takes 32, and no spills.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
lowrank_grad_products_narrow(const Stored *__restrict__ g, const float *__restrict__ b, const float *__restrict__ z,
                             float *dz, float *sums, Shape shape) {
    products<NARROW_COLUMNS, NARROW_DEPTH>(g + shape.g, b + shape.b, z, dz, sums, shape);
}

// dB takes 64 registers and dz 32: a second block would make it spill.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
lowrank_grad_products_wide(const Stored *__restrict__ g, const float *__restrict__ b, const float *__restrict__ z,
                           float *dz, float *sums, Shape shape) {
    products<WIDE_COLUMNS, WIDE_DEPTH>(g + shape.g, b + shape.b, z, dz, sums, shape);
}

// Shared memory of a warp of `tokens`: dz [r], one component of X [r], the gate's gradient, da [k].
struct Rows {
    float *dz, *x, *gradient, *da;
    unsigned char *mask;
};

// Component i of a token: dX, and what it adds to the gate's gradient. The derivative by its gate value, in every lane.
__device__ __forceinline__ float component(const Stored *x, const float *gate, const unsigned *skeleton, Stored *to, float a,
                                           unsigned i, const Rows &rows, const Shape &shape) {
    float da = 0.0f, along = 0.0f, rho = 1.0f;
    double squares = 0.0; // those of every float fit
    bool inner = shape.gate_kind == INNER, rms = shape.gate_kind == RMS_INNER;
    for (unsigned j = threadIdx.x; j < shape.rank; j += WARP) {
        float value = Elem::widen(x[j]);
        rows.x[j] = value;
        da = fmaf(rows.dz[j], factor(rows.mask, i * shape.rank + j, shape) * value, da);
        if (rms) {
            along = fmaf(gate[j], value, along);
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
        float dx = a * (rows.dz[j] * factor(rows.mask, c, shape));
        if (inner) dx = fmaf(slope, gate[j], dx);
        if (rms) dx = fmaf(slope, gate[j] - value / rho * along, dx);
        if (inner || rms) rows.gradient[j] = fmaf(slope, value, rows.gradient[j]);
        if (shape.scatters) {
            Stored &at = to[skeleton[c]];
            at = Elem::narrow(Elem::widen(at) + dx);
        } else {
            to[c] = Elem::narrow(dx);
        }
    }
    return da;
}

extern "C" __global__ void __launch_bounds__(THREADS)
lowrank_grad_tokens(const float *__restrict__ dz, const Stored *__restrict__ x, const float *__restrict__ a,
                    const unsigned *__restrict__ skeleton, const float *__restrict__ gate, Stored *target, float *sums,
                    float *dl, Shape shape) {
    unsigned lane = threadIdx.x, warp = threadIdx.y;
    unsigned floats = 2 * shape.rank + shape.gradient + shape.components;
    float *memory = reinterpret_cast<float *>(shared_memory);
    float *here = memory + warp * floats;
    Rows rows = {here, here + shape.rank, here + 2 * shape.rank, here + 2 * shape.rank + shape.gradient,
                 reinterpret_cast<unsigned char *>(memory + WARPS * floats) +
                     warp * ((shape.components * shape.rank + 3) / 4)};
    Index first = (Index)blockIdx.x * shape.chunk;
    Index end = shape.tokens - first < shape.chunk ? shape.tokens : first + shape.chunk;
    for (unsigned j = lane; j < shape.gradient; j += WARP) rows.gradient[j] = 0.0f;
    for (Index token = first + warp; token < end; token += WARPS) {
        for (unsigned j = lane; j < shape.rank; j += WARP) {
            float sum = 0.0f;
            for (unsigned s = 0; s < shape.slices; ++s) sum += dz[(s * shape.tokens + token) * shape.rank + j];
            rows.dz[j] = sum;
        }
        if (shape.drops) draw_mask(token, rows.mask, shape);
        __syncwarp(); // the mask is written, and the gradient's zeros, before other lanes read them
        const float *of_token = a + shape.a + token * shape.ld_a;
        float mean = 0.0f;
        for (unsigned i = 0; i < shape.components; ++i) {
            float da = component(x + shape.x + token * shape.ld_x + i * shape.rank, gate + shape.gate,
                                 skeleton + shape.skeleton,
                                 target + (shape.scatters ? shape.g + token * shape.ld_g : shape.dx + token * shape.ld_dx),
                                 of_token[i], i, rows, shape);
            if (lane != i % WARP) continue;
            if (shape.gate_kind == STATIC) rows.gradient[i] += da;
            rows.da[i] = da;
            mean = fmaf(of_token[i], da, mean);
        }
        if (shape.gate_kind == LINEAR || shape.gate_kind == LINEAR_SOFTMAX) {
            mean = warp_sum(mean);
            for (unsigned i = lane; i < shape.components; i += WARP)
                dl[token * shape.components + i] =
                    shape.gate_kind == LINEAR ? rows.da[i] : of_token[i] * (rows.da[i] - mean);
        }
        __syncwarp(); // the mask is read before the next token's overwrites it
    }
    __syncthreads(); // all warps' gradients are there
    for (unsigned j = warp * WARP + lane; j < shape.gradient; j += THREADS) {
        float sum = 0.0f;
        for (unsigned w = 0; w < WARPS; ++w) sum += memory[w * floats + 2 * shape.rank + j];
        sums[(Index)blockIdx.x * shape.gradient + j] = sum;
    }
}

// A thread takes a column of H and the tokens of a chunk.
extern "C" __global__ void __launch_bounds__(THREADS)
lowrank_grad_linear(const float *__restrict__ dl, const Stored *__restrict__ h, const float *__restrict__ gate,
                    Stored *h_gate, float *sums, Shape shape) {
    unsigned column_blocks = (shape.cols - 1) / THREADS + 1;
    Index c = (Index)(blockIdx.x % column_blocks) * THREADS + threadIdx.y * WARP + threadIdx.x;
    Index chunk = blockIdx.x / column_blocks, first = chunk * shape.linear_chunk;
    Index end = shape.tokens - first < shape.linear_chunk ? shape.tokens : first + shape.linear_chunk;
    if (c >= shape.cols) return;
    h += shape.h + c;
    gate += shape.gate + c;
    h_gate += shape.h_gate + c;
    for (unsigned i = 0; i < shape.components; i += COMPONENT_GROUP) {
        float sum[COMPONENT_GROUP] = {};
#pragma unroll 2
        for (Index token = first; token < end; ++token) {
            float value = Elem::widen(h[token * shape.ld_h]);
#pragma unroll
            for (unsigned e = 0; e < COMPONENT_GROUP; ++e)
                if (i + e < shape.components) sum[e] = fmaf(dl[token * shape.components + i + e], value, sum[e]);
        }
#pragma unroll
        for (unsigned e = 0; e < COMPONENT_GROUP; ++e)
            if (i + e < shape.components) sums[(chunk * shape.components + i + e) * shape.cols + c] = sum[e];
    }
    if (!shape.shares) return;
    for (Index token = first; token < end; token += TOKEN_GROUP) {
        float share[TOKEN_GROUP] = {};
        for (unsigned i = 0; i < shape.components; ++i) {
            float w = gate[i * shape.ld_gate];
#pragma unroll
            for (unsigned u = 0; u < TOKEN_GROUP; ++u)
                if (token + u < end) share[u] = fmaf(dl[(token + u) * shape.components + i], w, share[u]);
        }
#pragma unroll
        for (unsigned u = 0; u < TOKEN_GROUP; ++u)
            if (token + u < end) h_gate[(token + u) * shape.ld_h_gate] = Elem::narrow(share[u]);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
lowrank_grad_reduce(const float *__restrict__ sums, float *out, Sum sum) {
    Index i = (Index)blockIdx.x * THREADS + threadIdx.y * WARP + threadIdx.x, entries = sum.rows * sum.cols;
    if (i >= entries) return;
    float total = 0.0f;
#pragma unroll 4
    for (unsigned s = 0; s < sum.segments; ++s) total += sums[s * entries + i];
    float *to = out + sum.out + i / sum.cols * sum.ld + i % sum.cols;
    float value = __fmul_rn(sum.scale, total); // rounded by itself, also where it is added
    *to = sum.accumulates ? *to + value : value;
}
