// Counting with atomics, and every other atomic whose end does not depend on the order.
typedef unsigned long long u64;

// 64 bins per block in shared memory, added to `bins` at the end.
extern "C" __global__ void histogram_shared(const unsigned char *x, int n, unsigned *bins) {
    __shared__ unsigned mine[64];
    for (int bin = threadIdx.x; bin < 64; bin += blockDim.x) mine[bin] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        atomicAdd(&mine[x[i] % 64], 1u);
    __syncthreads();
    for (int bin = threadIdx.x; bin < 64; bin += blockDim.x)
        if (mine[bin]) atomicAdd(&bins[bin], mine[bin]);
}

extern "C" __global__ void histogram_global(const unsigned char *x, int n, unsigned *bins) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        atomicAdd(&bins[x[i] % 64], 1u);
}

// `w` are 32-bit cells, `d` 64-bit cells.
__device__ void fold(unsigned x, unsigned *w, u64 *d) {
    atomicMin((int *)&w[0], (int)x);
    atomicMax((int *)&w[1], (int)x);
    atomicMin(&w[2], x);
    atomicMax(&w[3], x);
    atomicAnd(&w[4], x | 0xff);
    atomicOr(&w[5], x & 0xff00);
    atomicXor(&w[6], x);
    atomicSub((int *)&w[7], (int)(x % 1000));
    atomicInc(&w[8], 6);
    atomicDec(&w[9], 10);
    atomicAdd((float *)&w[10], (float)(x % 16)); // integers: exact in any order
    // The largest x % 1000, by compare-and-swap.
    unsigned seen = atomicCAS(&w[11], 0, 0);
    while (seen < x % 1000) {
        unsigned before = atomicCAS(&w[11], seen, x % 1000);
        if (before == seen) break;
        seen = before;
    }
    atomicAdd(&d[0], (u64)x << 8);
    atomicMin((long long *)&d[1], (long long)(int)x * 1000003);
    atomicMax(&d[2], (u64)x * x);
    atomicXor(&d[3], (u64)x * x);
    atomicAnd(&d[4], (u64)x | 0xf0f0f0f0f0f0f0f0);
    atomicOr(&d[5], (u64)x << 20);
    atomicAdd((double *)&d[6], (double)x);
    // What is exchanged out and what remains at the end is all that was put in.
    atomicAdd(&d[7], atomicExch(&d[8], (u64)x));
}

extern "C" __global__ void atomics_global(const unsigned *x, int n, unsigned *w, u64 *d) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) fold(x[i], w, d);
}

extern "C" __global__ void atomics_shared(const unsigned *x, int n, unsigned *w, u64 *d) {
    __shared__ unsigned mine[12];
    __shared__ u64 wide[9];
    if (threadIdx.x < 12) mine[threadIdx.x] = w[threadIdx.x];
    if (threadIdx.x < 9) wide[threadIdx.x] = d[threadIdx.x];
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += blockDim.x) fold(x[i], mine, wide);
    __syncthreads();
    if (threadIdx.x < 12) w[threadIdx.x] = mine[threadIdx.x];
    if (threadIdx.x < 9) d[threadIdx.x] = wide[threadIdx.x];
}
