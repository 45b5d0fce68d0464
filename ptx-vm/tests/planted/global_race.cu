// Unordered accesses of two blocks to device memory. `out` and `work` hold 64 words, all zero; 4 blocks of 32 threads.

// Every block adds to one word.
extern "C" __global__ void no_atomic_buggy(unsigned* out, const unsigned* work) {
    if (threadIdx.x == 0) out[0] += work[blockIdx.x] + 1; // BUG
}

extern "C" __global__ void no_atomic_clean(unsigned* out, const unsigned* work) {
    if (threadIdx.x == 0) atomicAdd(&out[0], work[blockIdx.x] + 1);
}

extern "C" __global__ void write_write_buggy(unsigned* out) {
    out[threadIdx.x] = blockIdx.x; // BUG
}

extern "C" __global__ void write_write_clean(unsigned* out) {
    if (threadIdx.x < 16) out[threadIdx.x + 16 * blockIdx.x] = blockIdx.x;
}

// A block reads what its neighbour writes: before it (then the write is told) or after it (then the read is).
extern "C" __global__ void neighbour_buggy(unsigned* out, unsigned* work) {
    if (threadIdx.x == 0) {
        work[blockIdx.x] = 5; // BUG
        out[blockIdx.x] = work[(blockIdx.x + 1) % 4]; // BUG
    }
}

extern "C" __global__ void neighbour_clean(unsigned* out, unsigned* work) {
    if (threadIdx.x == 0) {
        work[blockIdx.x + 4] = 5;
        out[blockIdx.x] = work[(blockIdx.x + 1) % 4];
    }
}

// The last block to finish reads what all have written: fences on both sides of the ticket make that right. Without the
// first, the others' words may not be out; without the second, this block may have read them too early.
extern "C" __global__ void no_release_buggy(unsigned* out, unsigned* work) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        work[1 + blockIdx.x] = blockIdx.x + 1;
        last = atomicAdd(work, 1u) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x < gridDim.x) out[threadIdx.x] = work[1 + threadIdx.x]; // BUG
}

extern "C" __global__ void no_release_clean(unsigned* out, unsigned* work) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        work[1 + blockIdx.x] = blockIdx.x + 1;
        __threadfence();
        last = atomicAdd(work, 1u) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x < gridDim.x) out[threadIdx.x] = work[1 + threadIdx.x];
}

extern "C" __global__ void no_acquire_buggy(unsigned* out, unsigned* work) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        work[1 + blockIdx.x] = blockIdx.x + 1;
        __threadfence();
        last = atomicAdd(work, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x < gridDim.x) out[threadIdx.x] = work[1 + threadIdx.x]; // BUG
}

extern "C" __global__ void no_acquire_clean(unsigned* out, unsigned* work) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        work[1 + blockIdx.x] = blockIdx.x + 1;
        asm volatile("fence.acq_rel.gpu;" ::: "memory");
        last = atomicAdd(work, 1u) == gridDim.x - 1;
        asm volatile("fence.acq_rel.gpu;" ::: "memory");
    }
    __syncthreads();
    if (last && threadIdx.x < gridDim.x) out[threadIdx.x] = work[1 + threadIdx.x];
}

// A fence of the block's scope is none for other blocks.
extern "C" __global__ void block_fence_buggy(unsigned* out, unsigned* work) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        work[1 + blockIdx.x] = blockIdx.x + 1;
        __threadfence_block();
        last = atomicAdd(work, 1u) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x < gridDim.x) out[threadIdx.x] = work[1 + threadIdx.x]; // BUG
}

// The same order without fences: the ticket itself releases and acquires.
extern "C" __global__ void block_fence_clean(unsigned* out, unsigned* work) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        unsigned ticket;
        work[1 + blockIdx.x] = blockIdx.x + 1;
        asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], 1;" : "=r"(ticket) : "l"(work) : "memory");
        last = ticket == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x < gridDim.x) out[threadIdx.x] = work[1 + threadIdx.x];
}

// Block 0 passes a message by a flag that the other blocks poll.
extern "C" __global__ void flag_buggy(unsigned* out, unsigned* work) {
    volatile unsigned* flag = work;
    if (threadIdx.x == 0) {
        if (blockIdx.x == 0) {
            work[1] = 5;
            *flag = 1;
        } else {
            while (*flag == 0) {
            }
            __threadfence();
            out[blockIdx.x] = work[1]; // BUG
        }
    }
}

extern "C" __global__ void flag_clean(unsigned* out, unsigned* work) {
    volatile unsigned* flag = work;
    if (threadIdx.x == 0) {
        if (blockIdx.x == 0) {
            work[1] = 5;
            __threadfence();
            *flag = 1;
        } else {
            while (*flag == 0) {
            }
            __threadfence();
            out[blockIdx.x] = work[1];
        }
    }
}
