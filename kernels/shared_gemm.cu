// A frozen linear layer and its shared-matrix components in one kernel, by which Y is written once and not read.
//
// Math
//   X = H W[S]^T                                       [t, k, r]   rounded to ELEMENT
//   a = gate(X) or gate(H)                             [t, k]      see src/lowrank/mod.rs for the five gates
//   z = sum_i a_i d_i X_i                              [t, r]      d: dropout factors, ones without
//   Y = H W^T + b + kappa (I_s (x) B) z                [t, m]      B [m/s, r/s] on each of the s parts of z
//   Without components, Y = H W^T + b.
// Operands
//   All by address, in Problem; rows are ld_name apart. What lies between rows is neither read nor written.
//   h, w      [t, n] and [m, n] of ELEMENT
//   bias      [m] of ELEMENT, or null
//   skeleton  [k*r] of 32 bits, below m
//   b         [m/s, r/s] of float
//   gate      [1, r], [k, n] or [1, k] of float
//   y         [t, m] of ELEMENT
//   x         [t, k*r] of ELEMENT: what is left for the backward, or scratch
//   a, z      [t, k] and [t, r] of float, left for the backward, or null
//   terms     scratch [t, s, ceil(r/s / 32), 2, 32] of bfloat16: z, see below
//   head      scratch of 64 words, zero before and after: the next ticket, blocks that are done, whether flags are cleared
//   flags     scratch of 2*ceil(t / BLOCK_TOKENS) words: for each block of tokens, how many of its leading tiles are done, and
//             whether z is there
// Tile
//   BLOCK_TOKENS, BLOCK_COLUMNS   of a tile
//   WARPS                         warps of a block, each with WARP_TOKENS x WARP_COLUMNS of the tile
//   STAGES                        of the ring, 64 columns of n each
//   RESIDENT                      blocks that share a multiprocessor: one multiplies while the other stores or waits
//   A block takes tiles by tickets until there are none. The first are the leading tiles, the k*r chosen rows of W for every
//   block of tokens; the block that finishes the last of them for its tokens computes the gate and z. Every other tile needs z
//   only after its own products along n: two or three more steps into the same sums. Whoever waits, waits for a leading tile,
//   or for the first ticket's block to have cleared the flags, which it does before all else: in either case for a ticket that
//   came before, which a running block has. So any number of resident blocks will do.
// Launch
//   shared_gemm    any number of blocks of [32, WARPS] threads, STAGES * (BLOCK_TOKENS + BLOCK_COLUMNS) * 128 bytes of
//                  dynamic shared memory
// Requires
//   t >= 1; n >= 1; s divides m and r; k <= 768 (gate values of some warps fit the ring); fewer than 2^31 tiles; m and n below
//   2^32 - 256; raster from 1 to 32. Any ld, any alignment of elements: rows of H, W and Y that start on 16 bytes move 16 bytes at a time, others one
//   element at a time. A float as ELEMENT is not compiled: tensor cores have no exact products of it.
// Traffic
//   Least: H, W, b and B read once, Y, X and a written once. A tile reads its rows of H and of W: H ceil(m / BLOCK_COLUMNS) +
//   ceil(k*r / BLOCK_COLUMNS) times, W ceil(t / BLOCK_TOKENS) times, from the second cache, where `raster` blocks of tokens share
//   columns at a time. A linear gate reads H once more per 4 components, and W_g once per 4 tokens. z goes to the second cache
//   and comes back once per tile, in 4 bytes. Y is written once, in whole sectors.
//   Tensor operations: 1 + k*r/m of the plain product where a warp's part divides k*r, m and t, and three products of terms for
//   each of r/s: 3*r/(s*n) where 16 divides r/s and 8 divides m/s (8 columns that reach into several parts take the steps of
//   each).
// Numerics
//   U = 2^-24, the rounding of float. Products are exact; sums are float, on tensor cores, which may cut where float rounds: 2U
//   an addition, n of them in X, n + 3*r/s in Y (times the parts that 8 columns reach into; the others add zeros), then the bias.
//   X and Y are rounded once. Gates: float, from the rounded X; an element of a dot product passes r/32 + 6 roundings, one of a
//   logit 4*ceil(n/128) + 5; squares of the rms and softmax in double. z: k products of three factors and k sums, in float.
//   kappa*B is rounded to float. It and z enter as two bfloat16 terms (common/terms.cuh), for f16 too, whose range z would
//   leave: off by 3.03 * 2^-16 of sum |B||z|; what lies below 2^-134 is lost. A z that is not finite makes NaN or infinity of
//   its token, in the other part too where 8 columns (from a multiple of 8 on) reach into two. A kappa*B beyond 3.39e38 gives NaN.
//   Order: fixed by n, m, r, k and s. A token's results do not depend on the others, nor on the tile, the raster
//   or the number of blocks.

#include "common/philox.cuh"
#include "common/ring.cuh"

enum Gate { INNER, RMS_INNER, LINEAR, LINEAR_SOFTMAX, STATIC };

struct Problem {
    const Stored *h, *w, *bias;
    const unsigned *skeleton;
    const float *b, *gate;
    Stored *y, *x;
    float *a, *z;
    unsigned *head, *flags;
    unsigned short *terms;
    Index ld_h, ld_w, ld_b, ld_gate, ld_y, ld_x, ld_a, ld_z;
    Index tokens, seed, offset;
    unsigned rows, cols, rank, components, split, gate_kind;
    unsigned raster, width; // blocks of tokens that share columns at a time; k*r
    unsigned drops, threshold; // an entry of X is dropped where its word is below the threshold,
    float kept, scale;         // and multiplied by `kept` elsewhere
};
static_assert(sizeof(Problem) == 240, "as in src/gpu/shared_gemm/mod.rs");

enum { TICKET, DONE, CLEARED };                           // of the head
enum { TOKENS_AT_A_TIME = 4, COMPONENTS_AT_A_TIME = 4 };  // of the logits
enum { CHUNK = 32, TERMS = 2, CHUNK_STEPS = CHUNK / 16 }; // of r/s; a row of terms is 128 bytes
static_assert(TERMS * CHUNK * 2 == ROW_VECTORS * 16, "a row of terms is a row of a tile");

// What all tiles have in common.
struct Shape {
    unsigned token_blocks, column_blocks, leading; // tiles: of tokens, of columns, of chosen rows
    unsigned part, depth, chunks;                  // m/s, r/s, and its chunks
    unsigned *arrived, *ready;

    __device__ __forceinline__ explicit Shape(const Problem &problem) {
        token_blocks = (unsigned)((problem.tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS);
        column_blocks = (unsigned)(((Index)problem.rows + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS);
        leading = (problem.width + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS;
        part = problem.rows / problem.split;
        depth = problem.rank / problem.split;
        chunks = (depth + CHUNK - 1) / CHUNK;
        arrived = problem.flags;
        ready = arrived + token_blocks;
    }

    __device__ __forceinline__ unsigned tiles() const { return token_blocks * (leading + column_blocks); }
};

// A tile: of which tokens, of which columns of Y, or of X where it is `leading`.
struct Work {
    Index first_token;
    unsigned token_block, tokens, first, columns;
    bool leading;

    __device__ __forceinline__ Work(unsigned ticket, const Problem &problem, const Shape &shape) {
        unsigned all = shape.leading * shape.token_blocks, column;
        leading = ticket < all;
        if (leading) {
            token_block = ticket / shape.leading;
            column = ticket % shape.leading;
        } else {
            unsigned raster = problem.raster, of_group = raster * shape.column_blocks;
            unsigned group = (ticket - all) / of_group * raster, place = (ticket - all) % of_group;
            unsigned size = shape.token_blocks - group < raster ? shape.token_blocks - group : raster;
            token_block = group + place % size;
            column = place / size;
        }
        first_token = (Index)token_block * BLOCK_TOKENS;
        Index left = problem.tokens - first_token;
        tokens = left < BLOCK_TOKENS ? (unsigned)left : BLOCK_TOKENS;
        first = column * BLOCK_COLUMNS;
        unsigned rest = (leading ? problem.width : problem.rows) - first;
        columns = rest < BLOCK_COLUMNS ? rest : BLOCK_COLUMNS;
    }
};

// Where a row of the tile's two operands starts, tokens first.
__device__ __forceinline__ const Stored *source_of(unsigned row, const Work &work, const Problem &problem) {
    if (row < BLOCK_TOKENS) return row < work.tokens ? problem.h + (work.first_token + row) * problem.ld_h : nullptr;
    unsigned column = row - BLOCK_TOKENS;
    if (column >= work.columns) return nullptr;
    column += work.first;
    return problem.w + (Index)(work.leading ? __ldg(problem.skeleton + column) : column) * problem.ld_w;
}

// Adds the products of four columns from `at` on, of `count` tokens and the components from `first` on. WHOLE: all four are
// there, in rows of H that start on 8 bytes and rows of W_g that start on 16. Either way the same sums in the same order.
template <bool WHOLE>
__device__ __forceinline__ void add_logits(float (&sums)[TOKENS_AT_A_TIME][COMPONENTS_AT_A_TIME], Index token, unsigned count,
                                           unsigned first, Index at, const Problem &problem) {
    float2 x[TOKENS_AT_A_TIME][2];
#pragma unroll
    for (int u = 0; u < TOKENS_AT_A_TIME; ++u) {
        const Stored *row = problem.h + (token + (u < count ? u : 0)) * problem.ld_h + at;
        if constexpr (WHOLE) {
            uint2 pairs = __ldg(reinterpret_cast<const uint2 *>(row));
            x[u][0] = Elem::widen_pair(pairs.x), x[u][1] = Elem::widen_pair(pairs.y);
        } else {
#pragma unroll
            for (int e = 0; e < 4; ++e) (&x[u][e / 2].x)[e % 2] = at + e < problem.cols ? Elem::widen(__ldg(row + e)) : 0.0f;
        }
    }
#pragma unroll
    for (int c = 0; c < COMPONENTS_AT_A_TIME; ++c) {
        if (first + c >= problem.components) break;
        const float *row = problem.gate + (first + c) * problem.ld_gate + at;
        float4 w;
        if constexpr (WHOLE) {
            w = __ldg(reinterpret_cast<const float4 *>(row));
        } else {
#pragma unroll
            for (int e = 0; e < 4; ++e) (&w.x)[e] = at + e < problem.cols ? __ldg(row + e) : 0.0f;
        }
#pragma unroll
        for (int u = 0; u < TOKENS_AT_A_TIME; ++u) {
            float sum = fmaf(x[u][0].y, w.y, fmaf(x[u][0].x, w.x, sums[u][c]));
            sums[u][c] = fmaf(x[u][1].y, w.w, fmaf(x[u][1].x, w.z, sum));
        }
    }
}

// Logits H W_g^T of `count` tokens from `token` on, into a [TOKENS_AT_A_TIME, k].
__device__ __forceinline__ void project(float *a, Index token, unsigned count, const Problem &problem) {
    bool aligned = reinterpret_cast<Index>(problem.h) % 8 == 0 && problem.ld_h % 4 == 0 &&
                   reinterpret_cast<Index>(problem.gate) % 16 == 0 && problem.ld_gate % 4 == 0;
    for (unsigned i = 0; i < problem.components; i += COMPONENTS_AT_A_TIME) {
        float sums[TOKENS_AT_A_TIME][COMPONENTS_AT_A_TIME] = {};
        Index at = 4 * threadIdx.x;
        if (aligned)
            for (; at + 4 <= problem.cols; at += 4 * WARP) add_logits<true>(sums, token, count, i, at, problem);
#pragma unroll 1
        for (; at < problem.cols; at += 4 * WARP) add_logits<false>(sums, token, count, i, at, problem);
#pragma unroll
        for (int u = 0; u < TOKENS_AT_A_TIME; ++u)
#pragma unroll
            for (int c = 0; c < COMPONENTS_AT_A_TIME; ++c) {
                float sum = warp_sum(sums[u][c]);
                if (threadIdx.x == 0 && i + c < problem.components) a[u * problem.components + i + c] = sum;
            }
    }
    __syncwarp(); // the logits are written before any lane reads them
}

// Gate values of a token, whose X is x, into a [k], which has the logits of a linear gate.
__device__ __forceinline__ void weigh(float *a, const Stored *x, const Problem &problem) {
    unsigned lane = threadIdx.x, components = problem.components;
    if (problem.gate_kind == INNER || problem.gate_kind == RMS_INNER) {
        for (unsigned i = 0; i < components; ++i, x += problem.rank) {
            float sum = 0.0f;
            double squares = 0.0; // those of every float fit
            for (unsigned j = lane; j < problem.rank; j += WARP) {
                float value = Elem::widen(x[j]);
                sum = fmaf(__ldg(problem.gate + j), value, sum);
                squares = fma((double)value, (double)value, squares);
            }
            sum = warp_sum(sum);
            if (problem.gate_kind == RMS_INNER) sum /= (float)sqrt(warp_sum(squares) / problem.rank + 1e-6);
            if (lane == 0) a[i] = sum;
        }
    } else if (problem.gate_kind == STATIC) {
        for (unsigned i = lane; i < components; i += WARP) a[i] = __ldg(problem.gate + i);
    } else if (problem.gate_kind == LINEAR_SOFTMAX) {
        float top = -__int_as_float(0x7f800000);
        for (unsigned i = lane; i < components; i += WARP) top = fmaxf(top, a[i]);
        for (int mask = WARP / 2; mask > 0; mask /= 2) top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, mask));
        double total = 0.0;
        for (unsigned i = lane; i < components; i += WARP) total += exp((double)a[i] - (double)top);
        total = warp_sum(total);
        for (unsigned i = lane; i < components; i += WARP) a[i] = (float)(exp((double)a[i] - (double)top) / total);
    }
    __syncwarp(); // the values are written before any lane reads them
}

// z of a token, as terms for the tiles of Y; saved where there is a place for it.
__device__ __forceinline__ void premix(const float *a, const Stored *x, Index token, const Problem &problem, const Shape &shape) {
    unsigned short *terms = problem.terms + token * problem.split * shape.chunks * (TERMS * CHUNK) + threadIdx.x;
    for (unsigned p = 0; p < problem.split; ++p) {
        for (unsigned d = threadIdx.x; d < shape.chunks * CHUNK; d += CHUNK, terms += TERMS * CHUNK) {
            unsigned j = p * shape.depth + d;
            float z = 0.0f;
            if (d < shape.depth) {
                for (unsigned i = 0; i < problem.components; ++i) {
                    unsigned c = i * problem.rank + j;
                    float value = Elem::widen(x[c]);
                    if (problem.drops) {
                        unsigned kept = kept_columns(token + problem.offset, c / 4, problem.seed, problem.threshold);
                        value *= kept >> c % 4 & 1 ? problem.kept : 0.0f;
                    }
                    z = fmaf(a[i], value, z);
                }
                if (problem.z) problem.z[token * problem.ld_z + j] = z;
            }
            unsigned short of_z[TERMS];
            split(z, of_z);
            terms[0] = of_z[0];
            terms[CHUNK] = of_z[1];
        }
    }
}

// The first ticket's block, before all else: no leading tile is done, no z is there.
__device__ __forceinline__ void clear(const Problem &problem, const Shape &shape) {
    for (unsigned i = thread_of_block(); i < 2 * shape.token_blocks; i += THREADS) problem.flags[i] = 0;
    __syncthreads(); // all flags are cleared before they are said to be
    if (thread_of_block() == 0) red_release_add(problem.head + CLEARED, 1u);
}

// After a leading tile: whoever stores the last one of its tokens computes their gate and z, and says that z is there.
__device__ __forceinline__ void finish(float *gates, const Work &work, const Problem &problem, const Shape &shape) {
    __shared__ bool last;
    __syncthreads(); // all of the tile is stored before it counts
    if (thread_of_block() == 0) {
        wait_for(problem.head + CLEARED);
        __threadfence(); // of this block's X, before the count
        last = atomicInc(shape.arrived + work.token_block, shape.leading - 1) == shape.leading - 1; // wraps to zero
        __threadfence(); // of the count, before the X of others
    }
    __syncthreads(); // whether it is the last is known to all
    if (!last) return;
    unsigned fit = STAGES * STAGE * 16 / (4 * TOKENS_AT_A_TIME * problem.components); // so many warps' values fit the ring
    unsigned warps = fit < WARPS ? fit : WARPS, warp = opaque(threadIdx.y);
    float *a = gates + warp * TOKENS_AT_A_TIME * problem.components;
    for (unsigned t = warp < warps ? warp * TOKENS_AT_A_TIME : work.tokens; t < work.tokens; t += warps * TOKENS_AT_A_TIME) {
        Index token = work.first_token + t;
        unsigned count = work.tokens - t < TOKENS_AT_A_TIME ? work.tokens - t : TOKENS_AT_A_TIME;
        if (problem.gate_kind == LINEAR || problem.gate_kind == LINEAR_SOFTMAX) project(a, token, count, problem);
        for (unsigned u = 0; u < count; ++u) {
            const Stored *x = problem.x + (token + u) * problem.ld_x;
            float *own = a + u * problem.components;
            weigh(own, x, problem);
            if (problem.a)
                for (unsigned i = threadIdx.x; i < problem.components; i += WARP)
                    problem.a[(token + u) * problem.ld_a + i] = own[i];
            premix(own, x, token + u, problem, shape);
        }
        __syncwarp(); // the gate values are read before the next tokens' overwrite them
    }
    __syncthreads(); // z of all tokens is stored before it is said to be there
    if (thread_of_block() == 0) red_release_add(shape.ready + work.token_block, 1u);
}

// Terms of kappa B for a chunk of part `p`, one row for every column of the tile: zeros where the column is of another part.
// Lanes 0..15 write a row, the others the fourth after it, whose vectors lie in the other half of the banks.
__device__ __forceinline__ void load_b(uint4 *b, unsigned p, unsigned chunk, const Work &work, const Problem &problem,
                                       const Shape &shape) {
    unsigned lane = opaque(threadIdx.x), pair = lane % 16, d = chunk * CHUNK + 2 * pair;
#pragma unroll 4 // more of them would spill
    for (unsigned i = 0; i < BLOCK_COLUMNS / WARPS / 2; ++i) {
        unsigned row = threadIdx.y * (BLOCK_COLUMNS / WARPS) + i % 4 + i / 4 * 8 + lane / 16 * 4;
        unsigned c = work.first + row - p * shape.part; // wraps around below the part
        bool there = row < work.columns && c < shape.part;
        const float *at = problem.b + c * problem.ld_b + d;
        float first = there && d < shape.depth ? problem.scale * __ldg(at) : 0.0f;
        float second = there && d + 1 < shape.depth ? problem.scale * __ldg(at + 1) : 0.0f;
        unsigned terms[TERMS];
        split_pair(first, second, terms);
#pragma unroll
        for (int term = 0; term < TERMS; ++term)
            reinterpret_cast<unsigned *>(swizzled(b, row, term * (CHUNK / VECTOR) + pair / 4))[pair % 4] = terms[term];
    }
}

// Which 8 columns of the warp's part, a bit for each, reach into part `p`.
__device__ __forceinline__ unsigned columns_of_part(unsigned p, const Work &work, const Shape &shape, const Part &part) {
    Index start = (Index)p * shape.part, first = work.first + part.across;
    unsigned which = 0;
#pragma unroll
    for (int n = 0; n < TILES_ACROSS; ++n)
        if (first + 8 * n < start + shape.part && first + 8 * n + 8 > start) which |= 1u << n;
    return which;
}

// Adds the update: z times kappa B, chunk by chunk of the parts that the tile reaches into.
__device__ __forceinline__ void add_update(Sums &sums, uint4 *ring, const Work &work, const Problem &problem,
                                           const Shape &shape, const Part &part) {
    unsigned last = (work.first + work.columns - 1) / shape.part;
    uint4 *a = ring, *b = ring + OPERAND;
    bool waited = false;
    for (unsigned p = work.first / shape.part; p <= last; ++p) {
        unsigned which = part.active ? columns_of_part(p, work, shape, part) : 0;
        for (unsigned chunk = 0; chunk < shape.chunks; ++chunk) {
            __syncthreads(); // what is in the ring has been read by all
            load_b(b, p, chunk, work, problem, shape);
            if (!waited) {
                if (thread_of_block() == 0) {
                    wait_for(problem.head + CLEARED);
                    wait_for(shape.ready + work.token_block);
                }
                __syncthreads(); // z is there for all threads
                waited = true;
            }
#pragma unroll 1 // addresses of all would spill
            for (int pass = 0; pass < OPERAND / THREADS; ++pass) {
                unsigned i = thread_of_block() + pass * THREADS, row = i / ROW_VECTORS, v = i % ROW_VECTORS;
                Index at = ((work.first_token + row) * problem.split + p) * shape.chunks + chunk;
                if (row < work.tokens) cp_async_16(swizzled(a, row, v), problem.terms + at * (TERMS * CHUNK) + v * VECTOR);
                else *swizzled(a, row, v) = make_uint4(0, 0, 0, 0);
            }
            cp_async_wait_all();
            __syncthreads(); // both operands are there for all threads
            if (which == 0) continue;
            uint4 *own_a = a + part.down * ROW_VECTORS, *own_b = b + part.across * ROW_VECTORS;
#pragma unroll 1
            for (unsigned step = 0; step < CHUNK_STEPS && chunk * CHUNK + 16 * step < shape.depth; ++step) {
                uint4 rows[TILES_DOWN], columns[TILES_ACROSS / 2];
                load_rows(rows, own_a, step + CHUNK_STEPS); // the least products first
                load_columns(columns, own_b, step);
                multiply<element::bf16>(sums, rows, columns, which);
                load_rows(rows, own_a, step);
                multiply<element::bf16>(sums, rows, columns, which);
                load_columns(columns, own_b, step + CHUNK_STEPS);
                multiply<element::bf16>(sums, rows, columns, which);
            }
        }
    }
}

// The last block leaves the head as it was before.
__device__ __forceinline__ void leave(const Problem &problem) {
    __shared__ bool last;
    if (thread_of_block() == 0) {
        __threadfence(); // of what this block took and read of the head
        last = atomicInc(problem.head + DONE, gridDim.x - 1) == gridDim.x - 1; // wraps to zero
        __threadfence(); // of what the others did, before it is undone
    }
    __syncthreads(); // whether it is the last is known to all
    if (!last) return;
    if (thread_of_block() == 0) problem.head[TICKET] = problem.head[CLEARED] = 0;
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) shared_gemm(const __grid_constant__ Problem problem) {
    extern __shared__ uint4 ring[]; // [STAGES, ROWS, ROW_VECTORS], swizzled
    __shared__ const Stored *sources[ROWS];
    __shared__ unsigned ticket;
    Shape shape(problem);
    for (;;) {
        if (thread_of_block() == 0) ticket = atomicAdd(problem.head + TICKET, 1u);
        __syncthreads(); // the ticket is there, and ring and addresses of the tile before have been read by all
        if (ticket >= shape.tiles()) break;
        if (ticket == 0 && shape.leading > 0) clear(problem, shape);
        Work work(ticket, problem, shape);
        Part part(work.tokens, work.columns);
#pragma unroll
        for (unsigned row = thread_of_block(); row < ROWS; row += THREADS) sources[row] = source_of(row, work, problem);
        __syncthreads(); // the addresses of all rows are there
        Sums sums = {};
        multiply_rows(sums, ring, sources, problem.cols, part);
        if (shape.leading > 0 && !work.leading) add_update(sums, ring, work, problem, shape, part);
        __syncthreads(); // what is in the ring has been read by all before the tile overwrites it
        if (work.leading) {
            Stored *to = problem.x + work.first_token * problem.ld_x + work.first;
            store_tile(sums, ring, to, problem.ld_x, work.tokens, work.columns, nullptr, part);
            finish(reinterpret_cast<float *>(ring), work, problem, shape);
        } else {
            const Stored *bias = problem.bias ? problem.bias + work.first : nullptr;
            Stored *to = problem.y + work.first_token * problem.ld_y + work.first;
            store_tile(sums, ring, to, problem.ld_y, work.tokens, work.columns, bias, part);
        }
    }
    leave(problem);
}
