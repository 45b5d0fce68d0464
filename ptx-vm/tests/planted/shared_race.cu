// Unordered accesses to shared memory. 64 threads; the kernels fill the tile first, so that no byte is uninitialised.
// Which party comes second, and so is told, depends on the schedule: both are marked `OR`.

#define COPY(to, from) \
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from) : "memory")
#define WAIT_ALL() asm volatile("cp.async.wait_all;" ::: "memory")
#define BAR_SYNC(number, count) asm volatile("bar.sync %0, %1;" ::"n"(number), "n"(count) : "memory")
#define BAR_ARRIVE(number, count) asm volatile("bar.arrive %0, %1;" ::"n"(number), "n"(count) : "memory")

// Warp 1 reads what warp 0 writes.
extern "C" __global__ void write_read_buggy(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = 0;
    __syncthreads();
    if (i < 32) tile[i] = i; // OR
    if (i >= 32) out[i] = tile[63 - i]; // OR
}

extern "C" __global__ void write_read_clean(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = 0;
    __syncthreads();
    if (i < 32) tile[i] = i;
    __syncthreads();
    if (i >= 32) out[i] = tile[63 - i];
}

// Warp 1 overwrites what warp 0 reads.
extern "C" __global__ void read_write_buggy(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = i;
    __syncthreads();
    if (i < 32) out[i] = tile[i]; // OR
    if (i >= 32) tile[i - 32] = 7; // OR
}

extern "C" __global__ void read_write_clean(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = i;
    __syncthreads();
    if (i < 32) out[i] = tile[i];
    __syncthreads();
    if (i >= 32) tile[i - 32] = 7;
}

extern "C" __global__ void write_write_buggy(unsigned* out) {
    __shared__ unsigned tile[32];
    unsigned i = threadIdx.x;
    tile[i % 32] = i; // BUG
    __syncthreads();
    out[i] = tile[i % 32];
}

extern "C" __global__ void write_write_clean(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = i;
    __syncthreads();
    out[i] = tile[i];
}

// A loop whose second pass overwrites what slow warps still read: the barrier at its end is missing.
extern "C" __global__ void loop_buggy(unsigned* out, const unsigned* in) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x, sum = 0;
    for (unsigned pass = 0; pass < 3; pass++) {
        tile[i] = in[i] + pass; // BUG
        __syncthreads();
        sum += tile[63 - i]; // OR
    }
    out[i] = sum;
}

extern "C" __global__ void loop_clean(unsigned* out, const unsigned* in) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x, sum = 0;
    for (unsigned pass = 0; pass < 3; pass++) {
        tile[i] = in[i] + pass;
        __syncthreads();
        sum += tile[63 - i];
        __syncthreads();
    }
    out[i] = sum;
}

// Lanes of one instruction write one word: a race, but for equal values.
extern "C" __global__ void one_instruction_buggy(unsigned* out) {
    __shared__ unsigned word[2];
    unsigned i = threadIdx.x;
    word[i / 32] = i; // BUG
    __syncthreads();
    out[i] = word[i / 32];
}

extern "C" __global__ void one_instruction_clean(unsigned* out) {
    __shared__ unsigned word[2];
    unsigned i = threadIdx.x;
    word[i / 32] = i / 32;
    __syncthreads();
    out[i] = word[i / 32];
}

// Lanes of a warp are not in step: without `__syncwarp` nothing orders them.
extern "C" __global__ void lanes_buggy(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = 0;
    __syncthreads();
    tile[i] = i; // OR
    out[i] = tile[i ^ 31]; // BUG
}

extern "C" __global__ void lanes_clean(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = 0;
    __syncthreads();
    tile[i] = i;
    __syncwarp();
    out[i] = tile[i ^ 31];
}

// A shuffle exchanges values; it orders no memory.
extern "C" __global__ void shuffle_buggy(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = 0;
    __syncthreads();
    tile[i] = i; // OR
    unsigned other = __shfl_xor_sync(0xffffffff, i, 31);
    out[i] = tile[other]; // BUG
}

extern "C" __global__ void shuffle_clean(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = 0;
    __syncthreads();
    tile[i] = i;
    unsigned other = __shfl_xor_sync(0xffffffff, i, 31);
    __syncwarp();
    out[i] = tile[other];
}

// Each half of a warp synchronises for itself and then reads from the other.
extern "C" __global__ void halves_buggy(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = 0;
    __syncthreads();
    tile[i] = i; // OR
    __syncwarp(i % 32 < 16 ? 0x0000ffff : 0xffff0000);
    out[i] = tile[i ^ 16]; // BUG
}

extern "C" __global__ void halves_clean(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = 0;
    __syncthreads();
    tile[i] = i;
    __syncwarp(i % 32 < 16 ? 0x0000ffff : 0xffff0000);
    out[i] = tile[i ^ 15];
}

// Ordered through a third lane: 0 with 1, then 1 with 2.
extern "C" __global__ void chain_buggy(unsigned* out) {
    __shared__ unsigned word;
    unsigned i = threadIdx.x;
    if (i == 0) word = 0;
    __syncthreads();
    if (i == 0) word = 5; // OR
    if (i == 1 || i == 2) __syncwarp(0b110);
    if (i == 0 || i == 1) __syncwarp(0b011);
    if (i == 2) out[0] = word; // BUG
}

extern "C" __global__ void chain_clean(unsigned* out) {
    __shared__ unsigned word;
    unsigned i = threadIdx.x;
    if (i == 0) word = 0;
    __syncthreads();
    if (i == 0) word = 5;
    if (i == 0 || i == 1) __syncwarp(0b011);
    if (i == 1 || i == 2) __syncwarp(0b110);
    if (i == 2) out[0] = word;
}

// 96 threads. Barrier 1 unites warps 0 and 1; warp 2 must not rely on it.
extern "C" __global__ void named_buggy(unsigned* out) {
    __shared__ unsigned tile[32];
    unsigned i = threadIdx.x;
    if (i < 32) tile[i] = 0;
    __syncthreads();
    if (i < 32) tile[i] = i; // OR
    if (i < 64) BAR_SYNC(1, 64);
    if (i >= 64) out[i - 64] = tile[i - 64]; // OR
}

extern "C" __global__ void named_clean(unsigned* out) {
    __shared__ unsigned tile[32];
    unsigned i = threadIdx.x;
    if (i < 32) tile[i] = 0;
    __syncthreads();
    if (i < 32) tile[i] = i;
    if (i < 64) BAR_SYNC(1, 64);
    if (i >= 32 && i < 64) out[i - 32] = tile[i - 32];
}

// Warp 0 produces, warp 1 consumes. Who only arrives is not ordered after the others.
extern "C" __global__ void arrive_buggy(unsigned* out) {
    __shared__ unsigned tile[32];
    unsigned i = threadIdx.x;
    if (i < 32) tile[i] = 0;
    __syncthreads();
    if (i < 32) {
        tile[i] = i; // OR
        BAR_SYNC(1, 64);
    } else {
        BAR_ARRIVE(1, 64);
        out[i] = tile[i - 32]; // OR
    }
}

extern "C" __global__ void arrive_clean(unsigned* out) {
    __shared__ unsigned tile[32];
    unsigned i = threadIdx.x;
    if (i < 32) tile[i] = 0;
    __syncthreads();
    if (i < 32) {
        tile[i] = i;
        BAR_ARRIVE(1, 64);
    } else {
        BAR_SYNC(1, 64);
        out[i] = tile[i - 32];
    }
}

// Atomics do not race with each other, but with a plain access.
extern "C" __global__ void atomic_buggy(unsigned* out) {
    __shared__ unsigned count;
    unsigned i = threadIdx.x;
    if (i == 0) count = 0;
    __syncthreads();
    if (i < 32) atomicAdd(&count, 1u); // OR
    if (i == 32) out[i] = count; // OR
}

extern "C" __global__ void atomic_clean(unsigned* out) {
    __shared__ unsigned count;
    unsigned i = threadIdx.x;
    if (i == 0) count = 0;
    __syncthreads();
    atomicAdd(&count, 1u);
    __syncthreads();
    if (i == 32) out[i] = count;
}

// Waiting for one's own copies publishes nothing: warp 1 reads what warp 0 copied.
extern "C" __global__ void copied_buggy(unsigned* out, const unsigned* in) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = 0;
    __syncthreads();
    if (i < 32) COPY(&tile[i], in + i); // OR
    WAIT_ALL(); // OR
    if (i >= 32) out[i] = tile[63 - i]; // OR
}

extern "C" __global__ void copied_clean(unsigned* out, const unsigned* in) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = 0;
    __syncthreads();
    if (i < 32) COPY(&tile[i], in + i);
    WAIT_ALL();
    __syncthreads();
    if (i >= 32) out[i] = tile[63 - i];
}
