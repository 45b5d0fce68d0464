// Barriers that a warp does not reach as one, or with different counts. 64 threads.

#define BAR_SYNC(number, count) asm volatile("bar.sync %0, %1;" ::"n"(number), "n"(count) : "memory")

extern "C" __global__ void branch_buggy(unsigned* out) {
    unsigned i = threadIdx.x;
    if (i < 48) __syncthreads(); // BUG
    out[i] = i;
}

extern "C" __global__ void branch_clean(unsigned* out) {
    unsigned i = threadIdx.x;
    __syncthreads();
    out[i] = i;
}

// Threads without work may leave before a barrier, but not do something else instead of coming.
extern "C" __global__ void early_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (i >= 48) {
        out[i] = value * value;
        return;
    }
    __syncthreads(); // BUG
    out[i] = value + in[i ^ 1];
}

extern "C" __global__ void early_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, value = in[i];
    if (value % 2) {
        for (unsigned k = 0; k < value; k++) value += in[k] * value;
    } else {
        for (unsigned k = 0; k < value; k++) value ^= in[k] + value;
    }
    if (i >= 48) return;
    __syncthreads();
    out[i] = value + in[i ^ 1];
}

// Lanes of a warp at two barriers: which is told first is the scheduler's choice.
extern "C" __global__ void branches_buggy(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    if (i % 2 == 0) {
        tile[i] = i;
        __syncthreads(); // OR
        out[i] = tile[i] + 1;
    } else {
        tile[i] = 7;
        __syncthreads(); // OR
        out[i] = tile[i] * 3;
    }
}

// Whole warps may come from different branches.
extern "C" __global__ void branches_clean(unsigned* out) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    if (i < 32) {
        tile[i] = i;
        BAR_SYNC(1, 64);
        out[i] = tile[i + 32] + 1;
    } else {
        tile[i] = 7;
        BAR_SYNC(1, 64);
        out[i] = tile[i - 32] * 3;
    }
}

// Who comes second differs from the first; such a barrier need not complete either.
extern "C" __global__ void counts_buggy(unsigned* out) {
    unsigned i = threadIdx.x;
    if (i < 32) BAR_SYNC(1, 64); // OR Deadlock
    if (i >= 32) BAR_SYNC(1, 96); // OR Deadlock
    out[i] = i;
}

extern "C" __global__ void counts_clean(unsigned* out) {
    unsigned i = threadIdx.x;
    if (i < 32) BAR_SYNC(1, 64);
    if (i >= 32) BAR_SYNC(1, 64);
    out[i] = i;
}

extern "C" __global__ void reduction_buggy(unsigned* out) {
    unsigned i = threadIdx.x;
    unsigned count = 0;
    if (i < 48) count = __syncthreads_count(i < 10); // BUG
    out[i] = count & 0;
}

extern "C" __global__ void reduction_clean(unsigned* out) {
    unsigned i = threadIdx.x;
    out[i] = __syncthreads_count(i < 10);
}

// Lanes that go round a loop more often than others.
extern "C" __global__ void loop_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x;
    for (unsigned pass = 0; pass < in[i] % 2 + 1; pass++) {
        __syncthreads(); // BUG
    }
    out[i] = i;
}

extern "C" __global__ void loop_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x;
    for (unsigned pass = 0; pass < in[i & 32] % 2 + 1; pass++) {
        __syncthreads();
    }
    out[i] = i;
}
