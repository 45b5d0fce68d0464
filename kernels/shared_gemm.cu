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
//   head      scratch of 32 + 2*ceil(t / BLOCK) words, zero before and after: the next ticket, blocks that are done; from 32 on,
//             leading tiles that are done and whether z is there, for each block of tokens
// Tile
//   BLOCK     tokens and columns of a tile
//   WARPS     warps of a block
//   STAGES    of the ring, 64 columns of n each
//   A block takes tiles by tickets until there are none. The first are the leading tiles, the k*r chosen rows of W for every
//   block of tokens; the block that finishes the last of them for its tokens computes the gate and z. Every other tile needs z
//   only after its own products along n: two or three more steps into the same sums. Whoever waits, waits for a leading tile,
//   whose ticket came before: a running block has it, and does not wait. So any number of resident blocks will do.
// Launch
//   shared_gemm    any number of blocks of [32, WARPS] threads, with STAGES * 2 * BLOCK * 128 bytes of dynamic shared memory
// Requires
//   t >= 1; n >= 1; s divides m and r; k <= 768 (the gate values of 32 tokens fit the ring); fewer than 2^31 tiles; m and n below
//   2^32. Any ld, any alignment of elements: rows of H, W and Y that start on 16 bytes move 16 bytes at a time, others one
//   element at a time. A float as ELEMENT is not compiled: tensor cores have no exact products of it.
// Traffic
//   Least: H, W, b and B read once, Y, X and a written once. A tile reads BLOCK rows of H and of W: H ceil(m / BLOCK) +
//   ceil(k*r / BLOCK) times, W ceil(t / BLOCK) times, from the second cache, where 8 blocks of tokens share columns at a time.
//   A linear gate reads H once more per 4 components, and W_g once per 4 tokens. z goes to the second cache and comes back once
//   per tile, in 4 bytes. Y is written once, in whole sectors.
//   Tensor operations: 1 + k*r/m of the plain product where BLOCK divides k*r, m and t, and three products of terms for each of
//   r/s: 3*r/(s*n) where 16 divides r/s and BLOCK divides m/s (a tile that reaches into several parts takes the steps of each).
// Numerics
//   U = 2^-24, the rounding of float. Products are exact; sums are float, on tensor cores, which may cut where float rounds: 2U
//   an addition, n of them in X, n + 3*r/s in Y (times the parts that a tile reaches into; the others add zeros), then the bias.
//   X and Y are rounded once. Gates: float, from the rounded X; an element of a dot product passes r/32 + 6 roundings, one of a
//   logit n/32 + 6; squares of the rms and softmax in double. z: k products of three factors and k sums, in float.
//   kappa*B is rounded to float. It and z enter as two bfloat16 terms (common/terms.cuh), for f16 too, whose range z would
//   leave: off by 3.03 * 2^-16 of sum |B||z|; what lies below 2^-134 is lost. A z that is not finite makes NaN or infinity of
//   its token, in the other parts of z too where a tile reaches into several. A kappa*B beyond 3.39e38 gives NaN.
//   Order: fixed by n, m, r, k and s. A token's results do not depend on the others, nor on the number of blocks.

#include "common/philox.cuh"
#include "common/ring.cuh"

enum Gate { INNER, RMS_INNER, LINEAR, LINEAR_SOFTMAX, STATIC };

struct Problem {
    const Stored *h, *w, *bias;
    const unsigned *skeleton;
    const float *b, *gate;
    Stored *y, *x;
    float *a, *z;
    unsigned *head;
    unsigned short *terms;
    Index ld_h, ld_w, ld_b, ld_gate, ld_y, ld_x, ld_a, ld_z;
    Index tokens, seed, offset;
    unsigned rows, cols, rank, components, split, gate_kind;
    unsigned drops, threshold; // an entry of X is dropped where its word is below the threshold,
    float kept, scale;         // and multiplied by `kept` elsewhere
};
static_assert(sizeof(Problem) == 224, "as in src/gpu/shared_gemm/mod.rs");

enum { TICKET, DONE, COUNTERS = 32 };                                 // of the head
enum { RASTER = 8 };                                                  // blocks of tokens that share columns at a time
enum { TOKENS_AT_A_TIME = 4, COMPONENTS_AT_A_TIME = 4 };              // of the logits
enum { CHUNK = 32, TERMS = 2, CHUNK_STEPS = CHUNK / 16 };             // of r/s; a row of terms is 128 bytes
static_assert(TERMS * CHUNK * 2 == ROW_VECTORS * 16, "a row of terms is a row of a tile");

// What all tiles have in common.
struct Shape {
    unsigned token_blocks, column_blocks, leading; // tiles: of tokens, of columns, of chosen rows
    unsigned width, part, depth, chunks;           // k*r, m/s, r/s, and its chunks
    unsigned *arrived, *ready;

    __device__ __forceinline__ explicit Shape(const Problem &problem) {
        token_blocks = (unsigned)((problem.tokens + BLOCK - 1) / BLOCK);
        column_blocks = (unsigned)(((Index)problem.rows + BLOCK - 1) / BLOCK);
        width = problem.components * problem.rank;
        leading = (width + BLOCK - 1) / BLOCK;
        part = problem.rows / problem.split;
        depth = problem.rank / problem.split;
        chunks = (depth + CHUNK - 1) / CHUNK;
        arrived = problem.head + COUNTERS;
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
            unsigned group = (ticket - all) / (RASTER * shape.column_blocks) * RASTER;
            unsigned place = (ticket - all) % (RASTER * shape.column_blocks);
            unsigned size = shape.token_blocks - group < RASTER ? shape.token_blocks - group : RASTER;
            token_block = group + place % size;
            column = place / size;
        }
        first_token = (Index)token_block * BLOCK;
        tokens = problem.tokens - first_token < BLOCK ? (unsigned)(problem.tokens - first_token) : BLOCK;
        first = column * BLOCK;
        unsigned rest = (leading ? shape.width : problem.rows) - first;
        columns = rest < BLOCK ? rest : BLOCK;
    }
};

// Where this thread's row of the tile's two operands starts.
__device__ __forceinline__ const Stored *source_of(const Work &work, const Problem &problem) {
    unsigned thread = thread_of_block(), column = thread - BLOCK;
    if (thread < BLOCK) return thread < work.tokens ? problem.h + (work.first_token + thread) * problem.ld_h : nullptr;
    if (column >= work.columns) return nullptr;
    column += work.first;
    return problem.w + (Index)(work.leading ? __ldg(problem.skeleton + column) : column) * problem.ld_w;
}

// Logits H W_g^T of `count` tokens from `token` on, into a [TOKENS_AT_A_TIME, k].
__device__ __forceinline__ void project(float *a, Index token, unsigned count, const Problem &problem) {
    for (unsigned i = 0; i < problem.components; i += COMPONENTS_AT_A_TIME) {
        float sums[TOKENS_AT_A_TIME][COMPONENTS_AT_A_TIME] = {};
#pragma unroll 2
        for (Index j = threadIdx.x; j < problem.cols; j += WARP) {
            float w[COMPONENTS_AT_A_TIME];
#pragma unroll
            for (int e = 0; e < COMPONENTS_AT_A_TIME; ++e)
                w[e] = i + e < problem.components ? __ldg(problem.gate + (i + e) * problem.ld_gate + j) : 0.0f;
#pragma unroll
            for (int u = 0; u < TOKENS_AT_A_TIME; ++u) {
                float x = u < count ? Elem::widen(__ldg(problem.h + (token + u) * problem.ld_h + j)) : 0.0f;
#pragma unroll
                for (int e = 0; e < COMPONENTS_AT_A_TIME; ++e) sums[u][e] = fmaf(x, w[e], sums[u][e]);
            }
        }
#pragma unroll
        for (int u = 0; u < TOKENS_AT_A_TIME; ++u)
#pragma unroll
            for (int e = 0; e < COMPONENTS_AT_A_TIME; ++e) {
                float sum = warp_sum(sums[u][e]);
                if (threadIdx.x == 0 && i + e < problem.components) a[u * problem.components + i + e] = sum;
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

// After a leading tile: whoever stores the last one of its tokens computes their gate and z, and says that z is there.
__device__ __forceinline__ void finish(float *gates, const Work &work, const Problem &problem, const Shape &shape) {
    __shared__ bool last;
    __syncthreads(); // all of the tile is stored before it counts
    if (thread_of_block() == 0) {
        __threadfence(); // of this block's X, before the count
        last = atomicInc(shape.arrived + work.token_block, shape.leading - 1) == shape.leading - 1; // wraps to zero
        __threadfence(); // of the count, before the X of others
    }
    __syncthreads(); // whether it is the last is known to all
    if (!last) return;
    float *a = gates + threadIdx.y * TOKENS_AT_A_TIME * problem.components;
    for (unsigned t = threadIdx.y * TOKENS_AT_A_TIME; t < work.tokens; t += WARPS * TOKENS_AT_A_TIME) {
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
    unsigned pair = threadIdx.x % 16, d = chunk * CHUNK + 2 * pair;
#pragma unroll 4 // more of them would spill
    for (unsigned i = 0; i < BLOCK / WARPS / 2; ++i) {
        unsigned row = threadIdx.y * (BLOCK / WARPS) + i % 4 + i / 4 * 8 + threadIdx.x / 16 * 4;
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

// Adds the update: z times kappa B, chunk by chunk of the parts that the tile reaches into.
__device__ __forceinline__ void add_update(Sums &sums, uint4 *ring, const Work &work, const Problem &problem,
                                           const Shape &shape, const Part &part) {
    unsigned last = (work.first + work.columns - 1) / shape.part;
    uint4 *a = ring, *b = ring + OPERAND;
    bool waited = false;
    for (unsigned p = work.first / shape.part; p <= last; ++p) {
        for (unsigned chunk = 0; chunk < shape.chunks; ++chunk) {
            __syncthreads(); // what is in the ring has been read by all
            load_b(b, p, chunk, work, problem, shape);
            if (!waited) {
                if (thread_of_block() == 0)
                    while (ld_acquire(shape.ready + work.token_block) == 0) {
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
            if (!part.active) continue;
            uint4 *own_a = a + part.down * ROW_VECTORS, *own_b = b + part.across * ROW_VECTORS;
            for (unsigned step = 0; step < CHUNK_STEPS && chunk * CHUNK + 16 * step < shape.depth; ++step) {
                uint4 rows[TILES_DOWN], columns[TILES_ACROSS / 2];
                load_rows(rows, own_a, step + CHUNK_STEPS); // the least products first
                load_columns(columns, own_b, step);
                multiply<element::bf16>(sums, rows, columns);
                load_rows(rows, own_a, step);
                multiply<element::bf16>(sums, rows, columns);
                load_columns(columns, own_b, step + CHUNK_STEPS);
                multiply<element::bf16>(sums, rows, columns);
            }
        }
    }
}

// The last block leaves the head as it was before.
__device__ __forceinline__ void leave(const Problem &problem, const Shape &shape) {
    __shared__ bool last;
    if (thread_of_block() == 0) {
        __threadfence(); // of what this block took and read of the head
        last = atomicInc(problem.head + DONE, gridDim.x - 1) == gridDim.x - 1; // wraps to zero
        __threadfence(); // of what the others did, before it is undone
    }
    __syncthreads(); // whether it is the last is known to all
    if (!last) return;
    if (thread_of_block() == 0) problem.head[TICKET] = 0;
    for (unsigned i = thread_of_block(); i < shape.token_blocks; i += THREADS) shape.ready[i] = 0;
}

// Two blocks of 128 registers a thread share a multiprocessor: one multiplies while the other stores or waits.
extern "C" __global__ void __launch_bounds__(THREADS, 2) shared_gemm(const __grid_constant__ Problem problem) {
    extern __shared__ uint4 ring[]; // [STAGES, 2, BLOCK, ROW_VECTORS], swizzled
    __shared__ const Stored *sources[2 * BLOCK];
    __shared__ unsigned ticket;
    Shape shape(problem);
    for (;;) {
        if (thread_of_block() == 0) ticket = atomicAdd(problem.head + TICKET, 1u);
        __syncthreads(); // the ticket is there, and ring and addresses of the tile before have been read by all
        if (ticket >= shape.tiles()) break;
        Work work(ticket, problem, shape);
        Part part(work.tokens, work.columns);
        sources[thread_of_block()] = source_of(work, problem);
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
    leave(problem, shape);
}
