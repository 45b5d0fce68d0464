// `ldmatrix` from rows at a distance, and tensor-core products. One warp unless said otherwise.

#define WORDS 1152

__device__ unsigned filled() {
    __shared__ alignas(128) unsigned tile[WORDS];
    for (unsigned k = threadIdx.x; k < WORDS; k += 32) tile[k] = k;
    __syncthreads();
    return (unsigned)__cvta_generic_to_shared(tile);
}

// 32 rows of 16 bytes, `stride` bytes apart; `swizzle` moves row r by (r % 8) * 16 bytes. Everything but the filling is on
// the line of the macro's use.
#define ROWS(count, registers)                                                                                     \
    extern "C" __global__ void rows_##count(unsigned* out, unsigned stride, unsigned swizzle) {                     \
        unsigned lane = threadIdx.x, r[4] = {};                                                                     \
        unsigned row = filled() + lane * stride + (swizzle ? lane % 8 * 16 : 0);                                    \
        asm volatile("ldmatrix.sync.aligned.m8n8.x" #count ".shared.b16 " registers ", [%4];"                       \
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                                               \
                     : "r"(row)                                                                                     \
                     : "memory");                                                                                   \
        out[lane] = r[0];                                                                                           \
    }

ROWS(1, "{%0}") // rows_1
ROWS(2, "{%0, %1}") // rows_2
ROWS(4, "{%0, %1, %2, %3}") // rows_4

// `times` products of each shape by every warp.
extern "C" __global__ void products(float* out, int times) {
    float c[4] = {}, d[4] = {};
    unsigned a = 0x3c003c00;
    for (int k = 0; k < times; k++) {
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%4,%4,%4}, {%4,%4}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a));
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%4}, {%4}, {%0,%1,%2,%3};"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a));
    }
    out[threadIdx.x] = c[0] + d[0];
}

// Each warp waits three times, one warp once more at a barrier of its own.
extern "C" __global__ void waits(unsigned* out) {
    __syncthreads();
    __syncthreads();
    int count = __syncthreads_count(threadIdx.x % 2);
    if (threadIdx.x < 32) asm volatile("bar.sync 1, 32;" ::: "memory");
    out[threadIdx.x] = count;
}
