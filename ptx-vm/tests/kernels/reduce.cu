// Reductions inside a warp, a block and a grid.
enum { ALL = 0xffffffff };

__device__ float warp_sum(float x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_down_sync(ALL, x, step);
    return x;
}

// One sum per warp.
extern "C" __global__ void warp_sums(const float *x, float *sums) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = warp_sum(x[i]);
    if (threadIdx.x % 32 == 0) sums[i / 32] = sum;
}

// Per lane, five words: every mode of shuffle, segments narrower than a warp, and part of a warp alone.
extern "C" __global__ void shuffles(const int *x, int *out) {
    int lane = threadIdx.x, value = x[lane];
    int most = value;
    for (int step = 16; step > 0; step /= 2) most = max(most, __shfl_xor_sync(ALL, most, step));
    int prefix = value;
    for (int step = 1; step < 8; step *= 2) {
        int below = __shfl_up_sync(ALL, prefix, step, 8);
        if (lane % 8 >= step) prefix += below;
    }
    int turned = __shfl_sync(ALL, value, lane + 3, 4);
    int next = __shfl_down_sync(ALL, value, 5, 16);
    int mirrored = -1;
    if (lane < 13) mirrored = __shfl_sync(0x1fff, value, 12 - lane);
    out[5 * lane] = most;
    out[5 * lane + 1] = prefix;
    out[5 * lane + 2] = turned;
    out[5 * lane + 3] = next;
    out[5 * lane + 4] = mirrored;
}

// Seven words: the reductions that are one instruction, the last one over the odd lanes only.
extern "C" __global__ void redux(const unsigned *x, unsigned *out) {
    unsigned value = x[threadIdx.x], odd = 0;
    unsigned answers[6] = {
        __reduce_add_sync(ALL, value), __reduce_min_sync(ALL, value), (unsigned)__reduce_max_sync(ALL, (int)value),
        __reduce_and_sync(ALL, value), __reduce_or_sync(ALL, value),  __reduce_xor_sync(ALL, value),
    };
    if (threadIdx.x % 2) odd = __reduce_add_sync(0xaaaaaaaa, value);
    if (threadIdx.x == 31) {
        for (int i = 0; i < 6; ++i) out[i] = answers[i];
        out[6] = odd;
    }
}

// The sum of n numbers by a grid of 128-thread blocks: four numbers a load, shuffles, shared memory, and the last block
// to finish adds up what the blocks left in `partial`.
extern "C" __global__ void total(const float *x, int n, float *partial, unsigned *finished, float *sum) {
    __shared__ float warps[4];
    __shared__ bool last;
    float mine = 0.0f;
    int stride = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n / 4; i += stride) {
        float4 four = reinterpret_cast<const float4 *>(x)[i];
        mine += (four.x + four.y) + (four.z + four.w);
    }
    if (blockIdx.x == 0 && threadIdx.x < n % 4) mine += x[n - n % 4 + threadIdx.x];
    mine = warp_sum(mine);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = mine;
    __syncthreads();
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = (warps[0] + warps[1]) + (warps[2] + warps[3]);
        __threadfence();
        last = atomicInc(finished, gridDim.x - 1) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (last && threadIdx.x < 32) {
        float rest = 0.0f;
        for (int i = threadIdx.x; i < gridDim.x; i += 32) rest += partial[i];
        rest = warp_sum(rest);
        if (threadIdx.x == 0) *sum = rest;
    }
}

// Value and place of the largest of a block's numbers, the first one if there are several: 64-bit shuffles.
extern "C" __global__ void arg_max(const float *x, int n, float *value, int *place) {
    __shared__ unsigned long long warps[32];
    unsigned long long best = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        unsigned bits = __float_as_uint(x[i]);
        bits = bits & 0x80000000 ? ~bits : bits | 0x80000000; // now ordered as the numbers are
        best = max(best, (unsigned long long)bits << 32 | (0xffffffffu - i));
    }
    for (int step = 16; step > 0; step /= 2) best = max(best, __shfl_xor_sync(ALL, best, step));
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = best;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 1; i < blockDim.x / 32; ++i) best = max(best, warps[i]);
        unsigned bits = best >> 32;
        *value = __uint_as_float(bits & 0x80000000 ? bits & 0x7fffffff : ~bits);
        *place = 0xffffffffu - (unsigned)best;
    }
}
