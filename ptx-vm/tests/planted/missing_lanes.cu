// Warp operations whose masks are wrong. `in` holds the numbers from 0; 32 threads.

extern "C" __global__ void other_branch_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (i < 16) value = __shfl_xor_sync(0xffffffff, value, 1); // BUG
    out[i] = value;
}

extern "C" __global__ void other_branch_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (i < 16) value = __shfl_xor_sync(0x0000ffff, value, 1);
    out[i] = value;
}

extern "C" __global__ void exited_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (value >= 16) return;
    out[i] = __shfl_down_sync(0xffffffff, value, 8); // BUG
}

extern "C" __global__ void exited_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (value >= 16) return;
    out[i] = __shfl_down_sync(0x0000ffff, value, 8, 16);
}

extern "C" __global__ void left_out_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    out[i] = __shfl_sync(0x0000ffff, value, 3); // BUG
}

extern "C" __global__ void left_out_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    out[i] = __shfl_sync(0xffffffff, value, 3);
}

extern "C" __global__ void ballot_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (i < 16) value = __ballot_sync(0xffffffff, value > 3); // BUG
    out[i] = value;
}

extern "C" __global__ void ballot_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (i < 16) value = __ballot_sync(0x0000ffff, value > 3);
    out[i] = value;
}

extern "C" __global__ void match_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (i >= 8) value = __match_any_sync(0xffffffff, value / 4); // BUG
    out[i] = value;
}

extern "C" __global__ void match_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (i >= 8) value = __match_any_sync(0xffffff00, value / 4);
    out[i] = value;
}

extern "C" __global__ void redux_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (i >= 8) value = __reduce_add_sync(0xffffffff, value); // BUG
    out[i] = value;
}

extern "C" __global__ void redux_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (i >= 8) value = __reduce_add_sync(0xffffff00, value);
    out[i] = value;
}

extern "C" __global__ void syncwarp_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (i < 16) __syncwarp(); // BUG
    out[i] = value;
}

// Lanes may meet at two different `__syncwarp`, and while others wait they may do as they like.
extern "C" __global__ void syncwarp_clean(unsigned* out, const unsigned* in) {
    __shared__ unsigned tile[32];
    unsigned i = threadIdx.x, value = in[i];
    tile[i] = value;
    if (i < 16) {
        __syncwarp();
        value = tile[i + 16] + 1;
    } else {
        for (unsigned k = 0; k < i; k++) value += in[k];
        __syncwarp();
        value += tile[i - 16] * 3;
    }
    out[i] = value;
}

// A mask is made of the lanes that are there: right by construction.
extern "C" __global__ void active_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (value % 3 == 0) value = __popc(__ballot_sync(0x49249249, value > 3));
    out[i] = value;
}

extern "C" __global__ void active_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (value % 3 == 0) value = __popc(__ballot_sync(0x49249248, value > 3)); // BUG
    out[i] = value;
}

#define MATRIX(to, row) \
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" \
                 : "=r"(to) : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory")

extern "C" __global__ void matrix_buggy(unsigned* out, const unsigned* in) {
    __shared__ alignas(16) unsigned tile[32];
    unsigned i = threadIdx.x, value = in[i];
    tile[i] = value;
    __syncwarp();
    if (i < 16) MATRIX(value, tile + i % 8 * 4); // BUG
    out[i] = value;
}

extern "C" __global__ void matrix_clean(unsigned* out, const unsigned* in) {
    __shared__ alignas(16) unsigned tile[32];
    unsigned i = threadIdx.x, value = in[i];
    tile[i] = value;
    __syncwarp();
    if (in[0] < 16) MATRIX(value, tile + i % 8 * 4);
    out[i] = value;
}

#define PRODUCT(d, a, b) \
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};" \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a), "r"(a), "r"(b))

extern "C" __global__ void product_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x;
    float d[4] = {};
    if (i % 4 != 3) PRODUCT(d, in[i], in[31 - i]); // BUG
    out[i] = d[0] + d[1] + d[2] + d[3] > 1;
}

extern "C" __global__ void product_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x;
    float d[4] = {};
    if (in[0] % 4 != 3) PRODUCT(d, in[i], in[31 - i]);
    out[i] = d[0] + d[1] + d[2] + d[3] > 1;
}
