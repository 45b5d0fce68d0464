// Kernels whose blocks work together.

// All blocks meet here. `arrived` starts at 0 and counts on; the meeting number `round` starts at 1.
__device__ void meet(unsigned *arrived, unsigned round) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(arrived, 1u);
        while (*(volatile unsigned *)arrived < round * gridDim.x) {
        }
        __threadfence();
    }
    __syncthreads();
}

// `steps` times: every inner element becomes the mean of its neighbours and itself. Right only if the whole grid is
// resident.
extern "C" __global__ void smooth(float *x, float *y, int n, int steps, unsigned *arrived) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (int step = 0; step < steps; ++step) {
        if (i < n) y[i] = i == 0 || i == n - 1 ? x[i] : (x[i - 1] + 2.0f * x[i] + x[i + 1]) * 0.25f;
        meet(arrived, step + 1);
        float *other = x;
        x = y;
        y = other;
    }
}

// Prefix sums of n numbers in one pass, tiles of one block each. Tiles are taken by ticket, so the tile that a block
// waits for belongs to a block that is running: right for every number of resident blocks. `state` holds per tile 1 and
// the sum up to its end in one 64-bit word, or 0; `next` starts at 0.
extern "C" __global__ void scan(const unsigned *x, unsigned *sums, int n, unsigned long long *state, unsigned *next) {
    __shared__ unsigned tile, before, warps[4];
    int tiles = (n + blockDim.x - 1) / blockDim.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (;;) {
        if (threadIdx.x == 0) tile = atomicAdd(next, 1u);
        __syncthreads();
        if (tile >= tiles) break;
        int i = tile * blockDim.x + threadIdx.x;
        unsigned sum = i < n ? x[i] : 0;
        for (int step = 1; step < 32; step *= 2) {
            unsigned below = __shfl_up_sync(0xffffffff, sum, step);
            if (lane >= step) sum += below;
        }
        if (lane == 31) warps[warp] = sum;
        __syncthreads();
        for (int w = 0; w < warp; ++w) sum += warps[w];
        if (threadIdx.x == blockDim.x - 1) {
            unsigned long long seen = 1ull << 32;
            if (tile > 0)
                while (!((seen = *(volatile unsigned long long *)&state[tile - 1]) >> 32)) {
                }
            before = (unsigned)seen;
            *(volatile unsigned long long *)&state[tile] = 1ull << 32 | (before + sum);
        }
        __syncthreads();
        if (i < n) sums[i] = before + sum;
        __syncthreads();
    }
}
