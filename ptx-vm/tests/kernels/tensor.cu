// Tensor-core products C = A·B: 64×64×32 tiles, four warps of 32×32, a ring of three stages filled by cp.async,
// fragments by ldmatrix from swizzled shared memory. A is m×k, row major; B is k×n, row major, or its transpose (n×k).
// Rows of either have a multiple of 8 elements; everything else is ragged.
typedef unsigned short bits16;
enum { M = 64, N = 64, K = 32, STAGES = 3, THREADS = 128, A_BYTES = 2 * M * K, STAGE_BYTES = A_BYTES + 2 * N * K };

struct F16 {};
struct Bf16 {};
struct F16Sum {}; // f16 sums too

__device__ unsigned shared_address(const void *pointer) { return (unsigned)__cvta_generic_to_shared(pointer); }

// 16 bytes, or zeros.
__device__ void copy16(unsigned to, const bits16 *from, bool present) {
    int bytes = present ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

// Where 16-byte part `part` of row `row` lies. Rows of 64 bytes (4 parts) and of 128 bytes (8 parts): eight rows of one
// part fall into different banks.
__device__ unsigned narrow(int row, int part) { return row * 64 + ((part ^ (row >> 1 & 3)) << 4); }
__device__ unsigned wide(int row, int part) { return row * 128 + ((part ^ (row & 7)) << 4); }

__device__ void load4(unsigned (&r)[4], unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
__device__ void load4_transposed(unsigned (&r)[4], unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
__device__ void load2(unsigned *r, unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(address) : "memory");
}
__device__ void load2_transposed(unsigned *r, unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1]) : "r"(address) : "memory");
}
__device__ void load1(unsigned &r, unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r) : "r"(address) : "memory");
}

#define MMA_K16(types)                                                                                                \
    asm volatile("mma.sync.aligned.m16n8k16.row.col." types " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"  \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                     \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
#define MMA_K8(types)                                                                                                 \
    asm volatile("mma.sync.aligned.m16n8k8.row.col." types " {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"            \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                     \
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]))

// One product of fragments; `c` holds four f32, or four f16 in two words.
__device__ void mma16(F16, float (&c)[4], const unsigned *a, const unsigned *b) { MMA_K16("f32.f16.f16.f32"); }
__device__ void mma16(Bf16, float (&c)[4], const unsigned *a, const unsigned *b) { MMA_K16("f32.bf16.bf16.f32"); }
__device__ void mma8(F16, float (&c)[4], const unsigned *a, const unsigned *b) { MMA_K8("f32.f16.f16.f32"); }
__device__ void mma8(Bf16, float (&c)[4], const unsigned *a, const unsigned *b) { MMA_K8("f32.bf16.bf16.f32"); }
__device__ void mma16(F16Sum, unsigned (&c)[2], const unsigned *a, const unsigned *b) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%0,%1};"
                 : "+r"(c[0]), "+r"(c[1]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ void mma8(F16Sum, unsigned (&c)[2], const unsigned *a, const unsigned *b) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%0,%1}, {%2,%3}, {%4}, {%0,%1};"
                 : "+r"(c[0]), "+r"(c[1]) : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}

template <class T> struct Sum { typedef float Fragment[4]; };
template <> struct Sum<F16Sum> { typedef unsigned Fragment[2]; };

__device__ void unpack(const float (&c)[4], float *out) {
    for (int i = 0; i < 4; ++i) out[i] = c[i];
}
__device__ void unpack(const unsigned (&c)[2], float *out) {
    for (int i = 0; i < 2; ++i)
        asm("{ .reg .b16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high; }"
            : "=f"(out[2 * i]), "=f"(out[2 * i + 1]) : "r"(c[i]));
}

// Starts the copies of tile `tile` along k, and always closes a group, so that "all but the newest" always means the
// same.
template <bool TRANSPOSED>
__device__ void fetch(unsigned base, int tile, int tiles, const bits16 *a, const bits16 *b, int m, int n, int k) {
    if (tile < tiles) {
        unsigned stage = base + tile % STAGES * STAGE_BYTES;
        for (int i = threadIdx.x; i < M * K / 8; i += THREADS) {
            int row = i / 4, part = i % 4, from = blockIdx.y * M + row, along = tile * K + 8 * part;
            bool present = from < m && along < k;
            copy16(stage + narrow(row, part), present ? a + from * k + along : a, present);
        }
        for (int i = threadIdx.x; i < N * K / 8; i += THREADS) {
            int row = TRANSPOSED ? i / 4 : i / 8, part = TRANSPOSED ? i % 4 : i % 8;
            int along = tile * K + (TRANSPOSED ? 8 * part : row);
            int column = blockIdx.x * N + (TRANSPOSED ? row : 8 * part);
            bool present = along < k && column < n;
            const bits16 *from = TRANSPOSED ? b + column * k + along : b + along * n + column;
            copy16(stage + A_BYTES + (TRANSPOSED ? narrow(row, part) : wide(row, part)), present ? from : b, present);
        }
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// All products of one stage for one warp: rows from 32·(warp / 2), columns from 32·(warp % 2), DEPTH of k at a time.
template <class T, int DEPTH, bool TRANSPOSED>
__device__ void multiply(unsigned stage, typename Sum<T>::Fragment (&sum)[2][4]) {
    int lane = threadIdx.x % 32, top = threadIdx.x / 64 * 32, left = threadIdx.x / 32 % 2 * 32;
    unsigned right = stage + A_BYTES;
    for (int along = 0; along < K; along += DEPTH) {
        unsigned a[2][4], b[4][2];
        for (int i = 0; i < 2; ++i) {
            int row = top + 16 * i + lane % 16;
            if (DEPTH == 16) load4(a[i], stage + narrow(row, along / 8 + lane / 16));
            else load2(a[i], stage + narrow(row, along / 8));
        }
        for (int j = 0; j < 4; j += 2) {
            int column = left + 8 * j;
            unsigned pair[4];
            if (DEPTH == 16) {
                int row = column + lane % 8 + lane / 16 * 8; // of the transpose
                if (TRANSPOSED) load4(pair, right + narrow(row, along / 8 + lane / 8 % 2));
                else load4_transposed(pair, right + wide(along + lane % 16, column / 8 + lane / 16));
                b[j][0] = pair[0], b[j][1] = pair[1], b[j + 1][0] = pair[2], b[j + 1][1] = pair[3];
            } else if (TRANSPOSED) {
                load1(b[j][0], right + narrow(column + lane % 8, along / 8));
                load1(b[j + 1][0], right + narrow(column + 8 + lane % 8, along / 8));
            } else {
                load2_transposed(pair, right + wide(along + lane % 8, column / 8 + lane / 8 % 2));
                b[j][0] = pair[0], b[j + 1][0] = pair[1];
            }
        }
        for (int i = 0; i < 2; ++i)
            for (int j = 0; j < 4; ++j) {
                if (DEPTH == 16) mma16(T(), sum[i][j], a[i], b[j]);
                else mma8(T(), sum[i][j], a[i], b[j]);
            }
    }
}

template <class T, int DEPTH, bool TRANSPOSED>
__device__ void gemm(const bits16 *a, const bits16 *b, float *c, int m, int n, int k) {
    extern __shared__ __align__(128) unsigned char shared[];
    unsigned base = shared_address(shared);
    typename Sum<T>::Fragment sum[2][4] = {};
    int tiles = (k + K - 1) / K;
    for (int tile = 0; tile < STAGES - 1; ++tile) fetch<TRANSPOSED>(base, tile, tiles, a, b, m, n, k);
    for (int tile = 0; tile < tiles; ++tile) {
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
        __syncthreads(); // everybody's copies of this tile are there, and everybody is done with the stage fetched next
        fetch<TRANSPOSED>(base, tile + STAGES - 1, tiles, a, b, m, n, k);
        multiply<T, DEPTH, TRANSPOSED>(base + tile % STAGES * STAGE_BYTES, sum);
    }
    int lane = threadIdx.x % 32;
    int top = blockIdx.y * M + threadIdx.x / 64 * 32, left = blockIdx.x * N + threadIdx.x / 32 % 2 * 32;
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j) {
            float out[4];
            unpack(sum[i][j], out);
            int row = top + 16 * i + lane / 4, column = left + 8 * j + lane % 4 * 2;
            if (row < m && column < n) *(float2 *)(c + row * n + column) = make_float2(out[0], out[1]);
            if (row + 8 < m && column < n) *(float2 *)(c + (row + 8) * n + column) = make_float2(out[2], out[3]);
        }
}

#define KERNEL(name, type, depth, transposed)                                                                         \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                             \
        name(const bits16 *a, const bits16 *b, float *c, int m, int n, int k) {                                       \
        gemm<type, depth, transposed>(a, b, c, m, n, k);                                                              \
    }
KERNEL(f16_k16, F16, 16, false)
KERNEL(f16_k16_transposed, F16, 16, true)
KERNEL(f16_k8, F16, 8, false)
KERNEL(f16_k8_transposed, F16, 8, true)
KERNEL(bf16_k16, Bf16, 16, false)
KERNEL(bf16_k16_transposed, Bf16, 16, true)
KERNEL(bf16_k8, Bf16, 8, false)
KERNEL(bf16_k8_transposed, Bf16, 8, true)
KERNEL(f16_sum_k16, F16Sum, 16, false)
KERNEL(f16_sum_k8_transposed, F16Sum, 8, true)
