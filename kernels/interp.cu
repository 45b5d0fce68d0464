// Interpolation coefficients from R.
//
// Math
//   T[i,:] solves R11 t = R[:,i] for every column i of a group, with R11[a,b] = R[a, jpvt[b]] upper triangular;
//   T[jpvt[a],:] is the unit vector a, exactly.
// Operands
//   groups    one Group per factorisation: where its operands are, and its shape
//   tiles     [blocks] of Tile: the group of a block, and its first column
//   R         [j, c] of double, by the address in Group
//   panels    R11 of every group, cut into panels of PANEL rows, the last rows first, and padded by an identity to whole
//             panels: the panel from row a on is [padded - a, PANEL] of double, entry (b, r) = R11[a + r, a + b]
//   jpvt      [j] of 32 bits for every group
//   t         [c, j] of double for every group
// Tile
//   THREADS   of a block, one per column; a group says how many columns a block of it takes, at most THREADS
//   PANEL     rows of R11 that are substituted together
//   CHUNK     columns of R11 in shared memory at a time
// Launch
//   one block per Tile, THREADS threads, columns * (j | 1) doubles of dynamic shared memory, over all groups the most
// Requires
//   j >= 1, c >= 1 and columns * (j | 1) doubles in shared memory for every group. No diagonal entry of R11 is 0.
// Traffic
//   Least: R once, T once. Also R11 once a block, (j + PANEL)^2 / 2 doubles, and jpvt. Where c is no multiple of 4, tiles
//   share a sector of every row of R: at most 4/columns of it more. Shared memory is free of conflicts, but for writing T
//   where j is even and no multiple of 16.
// Numerics
//   double; R[a,i] minus its terms from the last to the first, each a fused multiply-add, then one division: j - a
//   roundings for entry a. No sum depends on the tile.

#include "common/ptx.cuh"

typedef unsigned long long Index;

struct Group {
    const double *r;
    Index panels, jpvt, t; // where they start, in elements
    unsigned c, j, columns, unused;
};
static_assert(sizeof(Group) == 48, "as in src/gpu/interp.rs");

struct Tile {
    unsigned group, first;
};
static_assert(sizeof(Tile) == 8, "as in src/gpu/interp.rs");

struct Shape {
    Index tiles;
};
static_assert(sizeof(Shape) == 8, "as in src/gpu/interp.rs");
static_assert(PANEL % 2 == 0 && CHUNK % PANEL == 0, "a chunk is whole vectors, and the first holds the triangle");

enum : unsigned { NONE = ~0u };

// The position in jpvt of a column, or NONE.
__device__ __forceinline__ unsigned step_of(const unsigned *jpvt, unsigned j, unsigned column) {
    unsigned step = NONE;
    for (unsigned b = 0; b < j; ++b)
        if (jpvt[b] == column) step = b;
    return step;
}

__device__ __forceinline__ double entry(const double2 &pair, int r) { return r % 2 ? pair.y : pair.x; }

// rest[r] -= column[r] * x for the first `rows` rows of a panel.
__device__ __forceinline__ void subtract(double (&rest)[PANEL], const double2 *column, double x, int rows) {
#pragma unroll
    for (int r = 0; r < PANEL; ++r)
        if (r < rows) rest[r] = fma(-entry(column[r / 2], r), x, rest[r]);
}

// Rows of T, which lie side by side.
__device__ __forceinline__ void write(const double *solved, unsigned pitch, unsigned columns, unsigned j, double *out) {
    unsigned step = THREADS % j, rows = THREADS / j;
    unsigned a = threadIdx.x % j, i = threadIdx.x / j;
    for (Index at = threadIdx.x; at < (Index)columns * j; at += THREADS) {
        out[at] = solved[i * pitch + a];
        i += rows;
        a += step;
        if (a >= j) {
            a -= j;
            ++i;
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
interp_coeffs(const Group *__restrict__ groups, const Tile *__restrict__ tiles, const double *__restrict__ panels,
              const unsigned *__restrict__ jpvt, double *__restrict__ t, Shape shape) {
    __shared__ double2 chunk[CHUNK * PANEL / 2]; // [CHUNK, PANEL]
    extern __shared__ double solved[];           // [columns, pitch]
    if (blockIdx.x >= shape.tiles) return;
    Tile tile = tiles[blockIdx.x];
    Group group = groups[tile.group];
    unsigned columns = group.c - tile.first < group.columns ? group.c - tile.first : group.columns;
    unsigned pitch = group.j | 1; // odd: lanes that read an entry of their columns meet different banks
    unsigned padded = (group.j + PANEL - 1) / PANEL * PANEL;
    unsigned own = threadIdx.x;
    unsigned unit = own < columns ? step_of(jpvt + group.jpvt, group.j, tile.first + own) : NONE;
    bool solves = own < columns && unit == NONE;
    const double *column = group.r + tile.first + own;
    double *x = solved + own * pitch;
    if (unit != NONE)
        for (unsigned a = 0; a < group.j; ++a) x[a] = a == unit;

    const double2 *panel = reinterpret_cast<const double2 *>(panels + group.panels);
    for (unsigned a = padded; a > 0;) {
        a -= PANEL;
        double rest[PANEL];
#pragma unroll
        for (unsigned r = 0; r < PANEL; ++r)
            rest[r] = solves && a + r < group.j ? column[(Index)(a + r) * group.c] : 0.0;
        unsigned width = padded - a;
        for (unsigned end = width; end > 0;) {
            unsigned begin = (end - 1) / CHUNK * CHUNK;
            __syncthreads(); // every thread is done with the chunk before
            for (unsigned v = threadIdx.x; v < (end - begin) * PANEL / 2; v += THREADS)
                chunk[v] = panel[begin * PANEL / 2 + v];
            __syncthreads(); // the chunk is whole before it is used
            unsigned known = begin == 0 ? PANEL : begin; // columns from there on are solved
            if (solves) {
                for (unsigned b = end < group.j - a ? end : group.j - a; b > known;) {
                    --b;
                    subtract(rest, chunk + (b - begin) * (PANEL / 2), x[a + b], PANEL);
                }
            }
            end = begin;
        }
        panel += width * PANEL / 2;
        if (!solves) continue;
        // The triangle, which the last chunk holds.
#pragma unroll
        for (int r = PANEL - 1; r >= 0; --r) {
            const double2 *known = chunk + r * (PANEL / 2);
            rest[r] /= entry(known[r / 2], r);
            subtract(rest, known, rest[r], r);
        }
#pragma unroll
        for (unsigned r = 0; r < PANEL; ++r)
            if (a + r < group.j) x[a + r] = rest[r];
    }
    __syncthreads(); // every column is solved before any thread writes it

    write(solved, pitch, columns, group.j, t + group.t + (Index)tile.first * group.j);
}
