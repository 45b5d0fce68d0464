// Truncated pivoted QR of groups of rows, Gram tier: pivots by Cholesky of the Gram matrix, as far as its rounding decides.
//
// Math
//   qr_gram       G = C C^T of every group's rows C [c, n], in units in which the longest row has a norm near 1
//   qr_cholesky   r steps of pivoted Cholesky on G. Step j takes the row p with the largest squared residual d_p:
//                     l_i = (G[i,p] - sum_a L[a,i] L[a,p]) / sqrt(d_p),  d_i -= l_i^2
//                 and keeps beside L the coefficients of every row, C ~ T C[J,:], by
//                     t_ij = l_i / sqrt(d_p),  t_ia -= t_ij t_pa
//                 Rounding changes d_i by about margin_i = epsilon s_i^2, s_i = |c_i| + sum_a |t_ia| |c_{J_a}| (Numerics). While
//                     d_p - margin_p / (1 - h)^2 > d_i + margin_i for all i,    h = sum over the pivots of margin_b / d_b < 1
//                 and the tolerance's square is not between d_p - margin_p / (1 - h)^2 and d_p + margin_p either, the step is
//                 that of exact arithmetic. At the first step where that fails the group is handed over.
// Operands
//   rows          [count] addresses of rows of ELEMENT, the groups' one after another
//   squares       [count] of double: squared norms
//   indptr        [groups + 1]: group g is rows indptr[g] .. indptr[g+1]
//   limits        [groups] of Limits
//   scales        [groups] of Scale: where G of a group lies, and its unit, a power of two
//   tiles         [tiles] of Tile: the pairs of blocks of rows of the groups of this launch, on and below the diagonal
//   gram          float: G [c, pitch] of the groups of this launch, pitch = c rounded up to 8; what is between c and pitch is
//                 not read
//   jpvt          [groups, rank]: pivots, as positions in the group
//   reached       [groups]: how many
//   phase         [groups] of Phase: FORCED where the pivots are decided to the end, GREEDY where not
//   handover      [groups]: the first step that was not decided; unchanged where all were
//   factor, coeffs [rank, count] of float: L and T
//   left          [count] of double: d, or -1 for a row that was taken
//   norms, spread [count] of float: |c_i|, s_i
// Tile
//   BLOCK         rows of a block of rows: a block of qr_gram takes a BLOCK x BLOCK tile of G, a warp 64 x 32 of it
//   STAGES        of the ring in shared memory, 64 columns (128 bytes of a row) each
//   THREADS       of qr_cholesky
// Launch (grids have one dimension)
//   qr_gram       tiles blocks of 256 threads; dynamic shared memory STAGES * 2 * BLOCK * 128 bytes
//   qr_cholesky   a block for each group of this launch; dynamic shared memory 3 * rank floats
// Requires
//   f16 or bf16. cols, rank, count >= 1; any ld, any alignment of rows (asynchronous copies where a row is aligned to 16
//   bytes). A group's unit and its `load` as src/gpu/qr/gram.rs derives them.
// Traffic
//   qr_gram       rows: each ceil(c / BLOCK) times, least once. G: written once, every entry below the diagonal twice.
//   qr_cholesky   a row of G per step; L and T of the steps before, read, T written too: 12 c r^2 / 2 bytes from cache.
// Numerics
//   Entries of G. Products are exact in float. A tensor core may cut what it adds where it aligns it: per mma of 16 columns
//   at most 17 * 2^-23 of the terms' absolute values, the accumulator among them. Every 64 columns, that is four mma from
//   zero, the accumulators are added to a second level, which rounds by 2^-24. With Cauchy and Schwarz an entry is off by at
//   most (68 * 2^-23 + ceil(n/64) 2^-24) |c_a||c_b|. Where a product may leave the range of float, rows are brought to the
//   unit while they are loaded (bfloat16 only); what underflows all the same is below 2^-94 n in the units of G, which
//   FLOOR, added to every norm, covers for n <= 2^21.
//   Squares on the diagonal are those of the rows in double. L is float: the recurrence is exact for a matrix off by
//   (r + 3) 2^-24 |c_a||c_b| more (Higham, Accuracy and Stability, 10.3); d is updated in double by the rounded l.
//   So L, T and d are those of a matrix G + E, |E_ab| <= epsilon |c_a||c_b| with
//       epsilon = 68 * 2^-23 + (ceil(n/64) + r + 4) 2^-24.
//   With v = e_i - sum_a t_ia e_{J_a}, d_i = v^T (G + E) v, and in exact arithmetic, where the minimum over all v with v_i = 1
//   is another vector's, w's, it is at most v^T G v <= d_i + epsilon s_i^2, and w^T G w >= w^T (G + E) w - epsilon s_w^2 >= d_i -
//   epsilon s_w^2. Of s_w is known: (G+E)_JJ (t_v - t_w) = (E w)_J, and (G+E)_JJ^-1 = sum_b v_b v_b^T / d_b with the v_b of the
//   pivots at their steps, so s_w <= s_i + sum_b s_b epsilon s_b s_w / d_b = s_i + h s_w. No order is neglected; what
//   rounding does to T and s is one of the 4 above.
//   Order: fixed by the shape; ties to the lowest row. All is scaled by powers of two: so are the results, to the bit.

#include "common/qr.cuh"
#include "common/smem.cuh"

// Of a group.
struct Scale {
    Index offset; // of G, in floats
    double unit;  // 1 / its unit: norms times this are near 1
    float load;   // by which rows are multiplied while they are loaded
    float entry;  // by which products are multiplied then
};
static_assert(sizeof(Scale) == 24, "as in src/gpu/qr/gram.rs");

// Rows `top` .. against rows `left` .. of a group.
struct Tile {
    unsigned group, top, left;
};

struct GramShape {
    Index cols;
};
static_assert(sizeof(GramShape) == 8, "as in src/gpu/qr/gram.rs");

struct CholeskyShape {
    Index cols, count;
    unsigned rank, first_group;
};
static_assert(sizeof(CholeskyShape) == 24, "as in src/gpu/qr/gram.rs");

enum { GRAM_THREADS = 256, WARP_ROWS = 64, WARP_COLUMNS = 32, WARPS_ACROSS = BLOCK / WARP_COLUMNS };
enum { TILES_DOWN = WARP_ROWS / 16, TILES_ACROSS = WARP_COLUMNS / 8 };
static_assert(BLOCK / WARP_ROWS * WARPS_ACROSS * WARP == GRAM_THREADS, "a warp for every part of the tile");
static_assert(BLOCK * ROW_VECTORS % GRAM_THREADS == 0, "every thread copies as many vectors");
static_assert(2 * BLOCK == GRAM_THREADS, "a thread finds the address of one row");

#define FLOOR 0x1p-28f

__device__ __forceinline__ Index pitch_of(unsigned size) { return (size + 7u) & ~7u; }

// One vector of a row, in the group's unit; what is beyond the row is zero and not read.
__device__ __forceinline__ void load_scaled(uint4 *to, const Stored *row, Index at, Index cols, float load) {
    unsigned words[4] = {};
#pragma unroll
    for (int e = 0; e < VECTOR; ++e) {
        if (at + e >= cols) continue;
        Stored x = Elem::narrow(Elem::widen(row[at + e]) * load);
        words[e / 2] |= (unsigned)x << (16 * (e % 2));
    }
    *to = make_uint4(words[0], words[1], words[2], words[3]);
}

// Columns start .. start + 64 of the rows of a tile; rows that are not there are zero.
__device__ __forceinline__ void copy_rows(uint4 *tile, const Stored *const *sources, Index start, Index cols, float load) {
#pragma unroll
    for (int pass = 0; pass < BLOCK * ROW_VECTORS / GRAM_THREADS; ++pass) {
        unsigned row = threadIdx.x / ROW_VECTORS + pass * (GRAM_THREADS / ROW_VECTORS), v = threadIdx.x % ROW_VECTORS;
        const Stored *source = sources[row];
        uint4 *to = swizzled(tile, row, v);
        Index at = start + v * VECTOR;
        if (source == nullptr || at >= cols) {
            *to = make_uint4(0, 0, 0, 0);
        } else if (load == 1.0f && reinterpret_cast<Index>(source) % 16 == 0) {
            Index there = (cols - at) * sizeof(Stored);
            cp_async_16(to, source + at, there < 16 ? (unsigned)there : 16u);
        } else {
            load_scaled(to, source, at, cols, load);
        }
    }
}

typedef float Sums[TILES_DOWN][TILES_ACROSS][4];

// The products of one stage, `steps` times 16 columns, on top of the second level.
__device__ __forceinline__ void multiply(Sums &sums, uint4 *a, uint4 *b, unsigned steps) {
    unsigned lane = threadIdx.x % WARP;
    Sums chunk = {};
#pragma unroll
    for (unsigned k = 0; k < ROW_ELEMENTS / 16; ++k) {
        if (k >= steps) break;
        uint4 rows[TILES_DOWN], columns[TILES_ACROSS / 2];
#pragma unroll
        for (int m = 0; m < TILES_DOWN; ++m) rows[m] = ldmatrix_x4(swizzled(a, 16 * m + lane % 16, 2 * k + lane / 16));
#pragma unroll
        for (int n = 0; n < TILES_ACROSS / 2; ++n)
            columns[n] = ldmatrix_x4(swizzled(b, 16 * n + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
#pragma unroll
        for (int m = 0; m < TILES_DOWN; ++m)
#pragma unroll
            for (int n = 0; n < TILES_ACROSS; ++n) {
                const uint4 &pair = columns[n / 2];
                Elem::mma(chunk[m][n], rows[m], n % 2 ? pair.z : pair.x, n % 2 ? pair.w : pair.y);
            }
    }
#pragma unroll
    for (int m = 0; m < TILES_DOWN; ++m)
#pragma unroll
        for (int n = 0; n < TILES_ACROSS; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) sums[m][n][e] += chunk[m][n][e];
}

// Entries (i, j) and (i, j + 1) of G, on and below the diagonal, and their mirror images.
__device__ __forceinline__ void put(float *gram, Index pitch, unsigned size, unsigned i, unsigned j, float x, float y) {
    if (i >= size) return;
    bool first = j < size && j <= i, second = j + 1 < size && j + 1 <= i;
    if (first && second)
        *reinterpret_cast<float2 *>(gram + i * pitch + j) = make_float2(x, y);
    else if (first)
        gram[i * pitch + j] = x;
    if (first && j != i) gram[j * pitch + i] = x;
    if (second && j + 1 != i) gram[(j + 1) * pitch + i] = y;
}

extern "C" __global__ void __launch_bounds__(GRAM_THREADS)
qr_gram(const Stored *const *__restrict__ rows, const unsigned *__restrict__ indptr, const Scale *__restrict__ scales,
        const Tile *__restrict__ tiles, float *__restrict__ gram, GramShape shape) {
    extern __shared__ uint4 ring[]; // [STAGES, 2, BLOCK, ROW_VECTORS], swizzled
    __shared__ const Stored *sources[2 * BLOCK];
    Tile tile = tiles[blockIdx.x];
    Scale scale = scales[tile.group];
    unsigned begin = indptr[tile.group], size = indptr[tile.group + 1] - begin;
    unsigned thread = threadIdx.x, lane = thread % WARP, warp = thread / WARP;
    bool diagonal = tile.top == tile.left; // then one operand is both
    unsigned mine = thread < BLOCK ? tile.top + thread : tile.left + thread - BLOCK;
    sources[thread] = mine < size ? rows[begin + mine] : nullptr;
    __syncthreads(); // the addresses of all rows are there

    // The part of the tile that is this warp's, and whether any of it is below the diagonal and in the group.
    unsigned down = warp / WARPS_ACROSS * WARP_ROWS, across = warp % WARPS_ACROSS * WARP_COLUMNS;
    bool active = tile.top + down < size && tile.left + across < size;
    if (diagonal) active &= down + WARP_ROWS > across;

    Index stages = (shape.cols + ROW_ELEMENTS - 1) / ROW_ELEMENTS;
    auto copy = [&](Index stage) {
        if (stage < stages) {
            uint4 *to = ring + stage % STAGES * (2 * BLOCK * ROW_VECTORS);
            copy_rows(to, sources, stage * ROW_ELEMENTS, shape.cols, scale.load);
            if (!diagonal)
                copy_rows(to + BLOCK * ROW_VECTORS, sources + BLOCK, stage * ROW_ELEMENTS, shape.cols, scale.load);
        }
        cp_async_commit(); // perhaps of nothing, so that stages and groups of copies are in step
    };
    Sums sums = {};
    for (unsigned stage = 0; stage + 1 < STAGES; ++stage) copy(stage);
    for (Index stage = 0; stage < stages; ++stage) {
        cp_async_wait<STAGES - 2>();
        __syncthreads(); // this stage is there for all threads, and all have read the one before, which is filled next
        copy(stage + STAGES - 1);
        uint4 *a = ring + stage % STAGES * (2 * BLOCK * ROW_VECTORS), *b = diagonal ? a : a + BLOCK * ROW_VECTORS;
        Index rest = shape.cols - stage * ROW_ELEMENTS;
        unsigned steps = rest < ROW_ELEMENTS ? ((unsigned)rest + 15) / 16 : ROW_ELEMENTS / 16;
        if (active) multiply(sums, a + down * ROW_VECTORS, b + across * ROW_VECTORS, steps);
    }
    if (!active) return;
    float *own = gram + scale.offset;
#pragma unroll
    for (int m = 0; m < TILES_DOWN; ++m)
#pragma unroll
        for (int n = 0; n < TILES_ACROSS; ++n)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                unsigned i = tile.top + down + 16 * m + 8 * half + lane / 4;
                unsigned j = tile.left + across + 8 * n + lane % 4 * 2;
                float x = sums[m][n][2 * half] * scale.entry, y = sums[m][n][2 * half + 1] * scale.entry;
                put(own, pitch_of(size), size, i, j, x, y);
            }
}

// The longest row that is not taken, in every thread; `leaders` is a workspace in shared memory.
__device__ __forceinline__ Leader find_leader(const double *left, unsigned size, Leader *leaders) {
    Leader best = {-1.0, NONE};
    for (unsigned i = threadIdx.x; i < size; i += THREADS) {
        Leader other = {left[i], i};
        if (other.square >= 0.0 && best.behind(other)) best = other;
    }
    best = warp_leader(best);
    if (threadIdx.x % WARP == 0) leaders[threadIdx.x / WARP] = best;
    __syncthreads(); // the warps' leaders are there, and all that the step before wrote
    best = leaders[0];
    for (unsigned w = 1; w < THREADS / WARP; ++w)
        if (best.behind(leaders[w])) best = leaders[w];
    return best;
}

// Two blocks a multiprocessor: left to itself, the assembler aims at more and spills.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
qr_cholesky(const float *__restrict__ gram, const unsigned *__restrict__ indptr, const double *__restrict__ squares,
            const Limits *__restrict__ limits, const Scale *__restrict__ scales, unsigned *__restrict__ jpvt,
            unsigned *__restrict__ reached, unsigned *__restrict__ phase, unsigned *__restrict__ handover, float *factor,
            float *coeffs, double *left, float *norms, float *spread, CholeskyShape shape) {
    extern __shared__ float pivot[]; // [3, rank]: the pivot's entries of L and of T, and the norms of all pivots
    __shared__ Leader leaders[THREADS / WARP];
    unsigned g = shape.first_group + blockIdx.x, begin = indptr[g], size = indptr[g + 1] - begin;
    Limits own = limits[g];
    Scale scale = scales[g];
    const float *own_gram = gram + scale.offset;
    float *pivot_factor = pivot, *pivot_coeffs = pivot + shape.rank, *pivot_norms = pivot + 2 * shape.rank;
    factor += begin, coeffs += begin, left += begin, norms += begin, spread += begin, squares += begin;
    double stop = own.tolerance * scale.unit * (own.tolerance * scale.unit);
    double epsilon = (double)(2 * 68 + (shape.cols + ROW_ELEMENTS - 1) / ROW_ELEMENTS + own.rank + 4) * 0x1p-24;
    double h = 0.0;

    for (unsigned i = threadIdx.x; i < size; i += THREADS) {
        double square = squares[i] * scale.unit * scale.unit;
        left[i] = square;
        norms[i] = spread[i] = (float)sqrt(square) + FLOOR;
    }
    unsigned j = 0;
    bool decided = true;
    // Row of zeros only: exact, a sum of squares.
    while (j < own.rank && own.largest > 0.0) {
        Leader next = find_leader(left, size, leaders);
        unsigned p = next.row;
        if (p == NONE) break;
        double square = next.square, margin = epsilon * spread[p] * spread[p];
        double least = h < 1.0 ? square - margin / ((1.0 - h) * (1.0 - h)) : -1.0;
        bool level = false;
        for (unsigned i = threadIdx.x; i < size; i += THREADS)
            level |= i != p && left[i] >= 0.0 && !(least > left[i] + epsilon * spread[i] * spread[i]);
        decided = least > 0.0 && (least > stop || square + margin < stop);
        decided &= !__syncthreads_or(level); // all have read the leaders, and the entries of the pivot before
        if (!decided || square <= stop) break;
        h += margin / square;

        for (unsigned a = threadIdx.x; a < j; a += THREADS) {
            pivot_factor[a] = factor[a * shape.count + p];
            pivot_coeffs[a] = coeffs[a * shape.count + p];
        }
        if (threadIdx.x == 0) {
            pivot_norms[j] = norms[p];
            jpvt[(Index)g * shape.rank + j] = p;
        }
        __syncthreads(); // the pivot's entries are there
        float root = (float)sqrt(square), norm = pivot_norms[j];
        const float *column = own_gram + p * pitch_of(size);
        for (unsigned i = threadIdx.x; i < size; i += THREADS) {
            if (left[i] < 0.0) continue;
            if (i == p) {
                left[i] = -1.0;
                continue;
            }
            float x = column[i];
#pragma unroll 8
            for (unsigned a = 0; a < j; ++a) x = fmaf(-factor[a * shape.count + i], pivot_factor[a], x);
            x /= root;
            double rest = left[i] - (double)x * x;
            left[i] = rest > 0.0 ? rest : 0.0;
            float fresh = x / root, sum = norms[i] + fabsf(fresh) * norm;
#pragma unroll 8
            for (unsigned a = 0; a < j; ++a) {
                float t = fmaf(-fresh, pivot_coeffs[a], coeffs[a * shape.count + i]);
                coeffs[a * shape.count + i] = t;
                sum = fmaf(fabsf(t), pivot_norms[a], sum);
            }
            factor[j * shape.count + i] = x;
            coeffs[j * shape.count + i] = fresh;
            spread[i] = sum;
        }
        ++j;
    }
    if (threadIdx.x > 0) return;
    reached[g] = j;
    phase[g] = decided ? FORCED : GREEDY;
    if (!decided) handover[g] = j;
}
