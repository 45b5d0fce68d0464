// Prefix sums and compaction with warp votes.
enum { ALL = 0xffffffff };

// Inclusive prefix sum of one number per thread over a block of up to 1024 threads.
__device__ int block_scan(int x, int *warps) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (int step = 1; step < 32; step *= 2) {
        int below = __shfl_up_sync(ALL, x, step);
        if (lane >= step) x += below;
    }
    if (lane == 31) warps[warp] = x;
    __syncthreads();
    if (warp == 0) {
        int sum = lane < blockDim.x / 32 ? warps[lane] : 0;
        for (int step = 1; step < 32; step *= 2) {
            int below = __shfl_up_sync(ALL, sum, step);
            if (lane >= step) sum += below;
        }
        if (lane < blockDim.x / 32) warps[lane] = sum;
    }
    __syncthreads();
    if (warp > 0) x += warps[warp - 1];
    __syncthreads();
    return x;
}

extern "C" __global__ void prefix_sum(const int *x, int n, int *sums) {
    __shared__ int warps[32];
    int before = 0;
    __shared__ int total;
    for (int start = 0; start < n; start += blockDim.x) {
        int i = start + threadIdx.x;
        int sum = block_scan(i < n ? x[i] : 0, warps);
        if (i < n) sums[i] = before + sum;
        if (threadIdx.x == blockDim.x - 1) total = sum;
        __syncthreads();
        before += total;
        __syncthreads();
    }
}

// Keeps the negative ones of a block's numbers, in order: ballot and population count instead of a scan inside a warp.
// The last word is how many there are.
extern "C" __global__ void compact(const int *x, int n, int *kept) {
    __shared__ int counts[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, before = 0;
    for (int start = 0; start < n; start += blockDim.x) {
        int i = start + threadIdx.x, value = i < n ? x[i] : 0;
        unsigned votes = __ballot_sync(ALL, value < 0);
        if (lane == 0) counts[warp] = __popc(votes);
        __syncthreads();
        int place = before + __popc(votes & ((1u << lane) - 1));
        for (int w = 0; w < blockDim.x / 32; ++w) {
            if (w < warp) place += counts[w];
            before += counts[w];
        }
        if (value < 0) kept[place] = value;
        __syncthreads();
    }
    if (threadIdx.x == 0) kept[n] = before;
}

// Per lane, six words: the votes, over the whole warp and over the part of it that takes a branch.
extern "C" __global__ void votes(const unsigned *x, unsigned *out) {
    unsigned lane = threadIdx.x, value = x[lane], answers[6];
    answers[0] = __any_sync(ALL, value == 7) | __all_sync(ALL, value < 100) << 1 | __uni_sync(ALL, value > 3) << 2;
    answers[1] = __match_any_sync(ALL, value);
    int same;
    answers[2] = __match_all_sync(ALL, value, &same) ^ same;
    answers[3] = __match_any_sync(ALL, (unsigned long long)value << 33);
    answers[4] = answers[5] = 0;
    if (value % 2) {
        // The branch is taken by exactly these lanes.
        unsigned odd = 0;
        for (int i = 0; i < 32; ++i) odd |= (x[i] % 2) << i;
        answers[4] = __ballot_sync(odd, value > 4);
        answers[5] = __match_all_sync(odd, value % 2, &same) ^ same;
    }
    for (int i = 0; i < 6; ++i) out[6 * lane + i] = answers[i];
}
