// Reads of bytes that nothing wrote. `raw` holds 64 words and is never filled by the host; 64 threads.

extern "C" __global__ void global_buggy(unsigned* out, unsigned* raw) {
    unsigned i = threadIdx.x;
    if (i != 40) raw[i] = i;
    out[i] = raw[i]; // BUG
}

extern "C" __global__ void global_clean(unsigned* out, unsigned* raw) {
    unsigned i = threadIdx.x;
    raw[i] = i;
    out[i] = raw[i];
}

// Three bytes of each word are written, four are read.
extern "C" __global__ void partial_buggy(unsigned* out, unsigned char* raw) {
    unsigned i = threadIdx.x;
    for (unsigned k = 0; k < 3; k++) raw[4 * i + k] = 1;
    out[i] = *reinterpret_cast<unsigned*>(raw + 4 * i); // BUG
}

extern "C" __global__ void partial_clean(unsigned* out, unsigned char* raw) {
    unsigned i = threadIdx.x;
    for (unsigned k = 0; k < 4; k++) raw[4 * i + k] = 1;
    out[i] = *reinterpret_cast<unsigned*>(raw + 4 * i);
}

extern "C" __global__ void atomic_buggy(unsigned* out, unsigned* raw) {
    unsigned i = threadIdx.x;
    out[i] = i;
    atomicAdd(&raw[i], 1u); // BUG
}

extern "C" __global__ void atomic_clean(unsigned* out, unsigned* raw) {
    unsigned i = threadIdx.x;
    out[i] = i;
    raw[i] = 0;
    atomicAdd(&raw[i], 1u);
}

extern "C" __global__ void shared_buggy(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    if (i != 5) tile[i] = i;
    __syncthreads();
    out[i] = tile[63 - i]; // BUG
}

extern "C" __global__ void shared_clean(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = i;
    __syncthreads();
    out[i] = tile[63 - i];
}

extern "C" __global__ void dynamic_buggy(unsigned* out) {
    extern __shared__ unsigned words[];
    unsigned i = threadIdx.x;
    if (i < 32) words[i] = i;
    __syncthreads();
    out[i] = words[i]; // BUG
}

extern "C" __global__ void dynamic_clean(unsigned* out) {
    extern __shared__ unsigned words[];
    unsigned i = threadIdx.x;
    words[i] = i;
    __syncthreads();
    out[i] = words[i];
}

// Shared memory does not outlive its block: the second block must not find what the first one wrote.
extern "C" __global__ void next_block_buggy(unsigned* out) {
    __shared__ volatile unsigned tile[64];
    unsigned i = threadIdx.x;
    if (blockIdx.x == 0) tile[i] = i;
    if (blockIdx.x == 1) out[i] = tile[i]; // BUG
}

extern "C" __global__ void next_block_clean(unsigned* out) {
    __shared__ volatile unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = i;
    if (blockIdx.x == 1) out[i] = tile[i];
}

extern "C" __global__ void local_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, own[8];
    for (unsigned k = 0; k < 4; k++) own[in[k]] = k;
    out[i] = own[in[i] % 8]; // BUG
}

extern "C" __global__ void local_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, own[8];
    for (unsigned k = 0; k < 8; k++) own[in[k]] = k;
    out[i] = own[in[i] % 8];
}

extern "C" __global__ void matrix_buggy(unsigned* out) {
    __shared__ alignas(16) unsigned tile[32];
    unsigned i = threadIdx.x, value;
    if (i < 28) tile[i] = i;
    __syncthreads();
    unsigned row = (unsigned)__cvta_generic_to_shared(tile + i % 8 * 4);
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(value) : "r"(row) : "memory"); // BUG
    out[i] = value;
}

extern "C" __global__ void matrix_clean(unsigned* out) {
    __shared__ alignas(16) unsigned tile[32];
    unsigned i = threadIdx.x, value;
    if (i < 32) tile[i] = i;
    __syncthreads();
    unsigned row = (unsigned)__cvta_generic_to_shared(tile + i % 8 * 4);
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(value) : "r"(row) : "memory");
    out[i] = value;
}
