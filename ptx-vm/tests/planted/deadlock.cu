// Threads that wait for what cannot happen. 64 threads; `out` and `work` hold 64 words, all zero.

#define BAR_SYNC(number, count) asm volatile("bar.sync %0, %1;" ::"n"(number), "n"(count) : "memory")

// Each warp waits for the other at another barrier.
extern "C" __global__ void crossed_buggy(unsigned* out) {
    unsigned i = threadIdx.x;
    if (i < 32) {
        BAR_SYNC(1, 64); // OR
        BAR_SYNC(2, 64);
    } else {
        BAR_SYNC(2, 64); // OR
        BAR_SYNC(1, 64);
    }
    out[i] = i;
}

extern "C" __global__ void crossed_clean(unsigned* out) {
    unsigned i = threadIdx.x;
    if (i < 32) {
        BAR_SYNC(1, 64);
        BAR_SYNC(2, 64);
    } else {
        BAR_SYNC(1, 64);
        BAR_SYNC(2, 64);
    }
    out[i] = i;
}

extern "C" __global__ void too_many_buggy(unsigned* out) {
    unsigned i = threadIdx.x;
    BAR_SYNC(1, 96); // BUG
    out[i] = i;
}

extern "C" __global__ void too_many_clean(unsigned* out) {
    unsigned i = threadIdx.x;
    BAR_SYNC(1, 64);
    out[i] = i;
}

// A counted barrier waits for threads that have left; a plain one counts those that are still there.
extern "C" __global__ void exited_buggy(unsigned* out) {
    unsigned i = threadIdx.x;
    if (i >= 32) return;
    BAR_SYNC(1, 64); // BUG
    out[i] = i;
}

extern "C" __global__ void exited_clean(unsigned* out) {
    unsigned i = threadIdx.x;
    if (i >= 48) return;
    __syncthreads();
    out[i] = i;
}
