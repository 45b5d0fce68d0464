// Shared memory touched outside the block's, or across the end of an array. 64 threads; `out` and `in` hold 64 words.

struct alignas(16) Quad {
    unsigned word[4];
};

extern "C" __global__ void fixed_buggy(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i + 1] = i; // BUG
    __syncthreads();
    out[i] = i > 0 ? tile[i] : 0;
}

extern "C" __global__ void fixed_clean(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = i;
    __syncthreads();
    out[i] = i > 0 ? tile[i] : 0;
}

extern "C" __global__ void before_buggy(unsigned* out) {
    __shared__ unsigned tile[64];
    int i = threadIdx.x;
    tile[i] = i;
    __syncthreads();
    out[i] = tile[i - 1]; // BUG
}

extern "C" __global__ void before_clean(unsigned* out) {
    __shared__ unsigned tile[64];
    int i = threadIdx.x;
    tile[i] = i;
    __syncthreads();
    out[i] = i > 0 ? tile[i - 1] : 0;
}

// 256 bytes of dynamic shared memory, 64 words.
extern "C" __global__ void dynamic_buggy(unsigned* out) {
    extern __shared__ unsigned words[];
    unsigned i = threadIdx.x;
    words[i + 1] = i; // BUG
    __syncthreads();
    out[i] = i > 0 ? words[i] : 0;
}

extern "C" __global__ void dynamic_clean(unsigned* out) {
    extern __shared__ unsigned words[];
    unsigned i = threadIdx.x;
    words[i] = i;
    __syncthreads();
    out[i] = i > 0 ? words[i] : 0;
}

// The second vector begins in `first` and ends in `second`.
extern "C" __global__ void across_buggy(unsigned* out) {
    __shared__ alignas(16) unsigned first[6];
    __shared__ unsigned second[6];
    unsigned i = threadIdx.x;
    if (i < 6) {
        first[i] = i;
        second[i] = i;
    }
    __syncthreads();
    if (i < 2) {
        Quad quad = reinterpret_cast<Quad*>(first)[i]; // BUG
        out[i] = quad.word[0] + quad.word[1];
    }
    if (i >= 2 && i < 8) out[i] = second[i - 2];
}

extern "C" __global__ void across_clean(unsigned* out) {
    __shared__ alignas(16) unsigned first[6];
    __shared__ unsigned second[6];
    unsigned i = threadIdx.x;
    if (i < 6) {
        first[i] = i;
        second[i] = i;
    }
    __syncthreads();
    if (i < 1) {
        Quad quad = reinterpret_cast<Quad*>(first)[i];
        out[i] = quad.word[0] + quad.word[1];
    }
    if (i >= 2 && i < 8) out[i] = second[i - 2];
}

// The address is generic: half of the threads mean shared memory, half device memory.
extern "C" __global__ void generic_buggy(unsigned* out) {
    __shared__ unsigned tile[32];
    unsigned i = threadIdx.x;
    unsigned* to = i < 32 ? tile + i + 1 : out + i;
    *to = i; // BUG
    __syncthreads();
    if (i >= 1 && i < 32) out[i] = tile[i];
}

extern "C" __global__ void generic_clean(unsigned* out) {
    __shared__ unsigned tile[32];
    unsigned i = threadIdx.x;
    unsigned* to = i < 32 ? tile + i : out + i;
    *to = i;
    __syncthreads();
    if (i >= 1 && i < 32) out[i] = tile[i];
}

extern "C" __global__ void atomic_buggy(unsigned* out) {
    __shared__ unsigned bins[16];
    unsigned i = threadIdx.x;
    if (i < 16) bins[i] = 0;
    __syncthreads();
    atomicAdd(&bins[i % 17], 1u); // BUG
    __syncthreads();
    out[i] = bins[i % 16];
}

extern "C" __global__ void atomic_clean(unsigned* out) {
    __shared__ unsigned bins[16];
    unsigned i = threadIdx.x;
    if (i < 16) bins[i] = 0;
    __syncthreads();
    atomicAdd(&bins[i % 16], 1u);
    __syncthreads();
    out[i] = bins[i % 16];
}

#define COPY(to, from) \
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from))
#define WAIT_ALL() asm volatile("cp.async.wait_all;" ::: "memory")

extern "C" __global__ void copy_buggy(unsigned* out, const unsigned* in) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    COPY(&tile[i + 1], in + i); // BUG
    WAIT_ALL();
    __syncthreads();
    out[i] = i > 0 ? tile[i] : 0;
}

extern "C" __global__ void copy_clean(unsigned* out, const unsigned* in) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    COPY(&tile[i], in + i);
    WAIT_ALL();
    __syncthreads();
    out[i] = i > 0 ? tile[i] : 0;
}

// Eight rows of 16 bytes; the addresses come from lanes 0 to 7.
#define MATRIX(to, row) \
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" \
                 : "=r"(to) : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory")

extern "C" __global__ void matrix_buggy(unsigned* out) {
    __shared__ alignas(16) unsigned tile[32];
    unsigned i = threadIdx.x, value;
    if (i < 32) tile[i] = i;
    __syncthreads();
    MATRIX(value, tile + i % 8 * 4 + 4); // BUG
    out[i] = value;
}

extern "C" __global__ void matrix_clean(unsigned* out) {
    __shared__ alignas(16) unsigned tile[32];
    unsigned i = threadIdx.x, value;
    if (i < 32) tile[i] = i;
    __syncthreads();
    MATRIX(value, tile + i % 8 * 4);
    out[i] = value;
}
