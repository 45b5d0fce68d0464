// Loops that do not end. `out` and `work` hold 64 words, all zero.

extern "C" __global__ void flag_buggy(unsigned* out, unsigned* work) {
    volatile unsigned* flag = work;
    if (threadIdx.x == 32) flag[1] = 1;
    while (flag[0] == 0) out[threadIdx.x] = 1; // BUG
}

extern "C" __global__ void flag_clean(unsigned* out, unsigned* work) {
    volatile unsigned* flag = work;
    if (threadIdx.x == 32) flag[0] = 1;
    while (flag[0] == 0) out[threadIdx.x] = 0;
}

// A lock between the lanes of a warp: it is free only if the lane that holds it gets its turn while the others spin.
extern "C" __global__ void lock_buggy(unsigned* out, unsigned* work) {
    volatile unsigned* sum = out;
    while (atomicCAS(&work[0], 0u, 1u) != 0) out[63] = 0; // BUG
    *sum += threadIdx.x;
}

extern "C" __global__ void lock_clean(unsigned* out, unsigned* work) {
    volatile unsigned* sum = out;
    while (atomicCAS(&work[0], 0u, 1u) != 0) out[63] = 0;
    __threadfence();
    *sum += threadIdx.x;
    __threadfence();
    atomicExch(&work[0], 0u);
}

// One block is resident at a time, so a block must not wait for one that has not begun: of four blocks that each wait for
// the next (in the order of their tickets), the first waits for ever.
extern "C" __global__ void later_block_buggy(unsigned* out, unsigned* work) {
    if (threadIdx.x == 0) {
        unsigned ticket = atomicAdd(&work[0], 1u);
        volatile unsigned* done = work + 1;
        if (ticket < 3) while (done[ticket + 1] == 0) __threadfence(); // BUG
        done[ticket] = 1;
        out[ticket] = ticket;
    }
}

extern "C" __global__ void later_block_clean(unsigned* out, unsigned* work) {
    if (threadIdx.x == 0) {
        unsigned ticket = atomicAdd(&work[0], 1u);
        volatile unsigned* done = work + 1;
        if (ticket > 0) while (done[ticket - 1] == 0) __threadfence();
        done[ticket] = 1;
        out[ticket] = ticket;
    }
}
