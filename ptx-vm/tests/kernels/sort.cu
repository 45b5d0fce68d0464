// Bitonic sort of up to 512 (key, place) pairs by a block of 256 threads, in shared memory. Missing pairs are the
// largest.
typedef unsigned long long u64;

extern "C" __global__ void bitonic(const float *keys, int n, float *sorted, unsigned *places) {
    __shared__ u64 pairs[512];
    for (int i = threadIdx.x; i < 512; i += blockDim.x) {
        unsigned bits = i < n ? __float_as_uint(keys[i]) : 0;
        bits = bits & 0x80000000 ? ~bits : bits | 0x80000000; // now ordered as the numbers are
        pairs[i] = i < n ? (u64)bits << 32 | (unsigned)i : ~0ull;
    }
    __syncthreads();
    for (int size = 2; size <= 512; size *= 2)
        for (int stride = size / 2; stride > 0; stride /= 2) {
            int low = 2 * stride * (threadIdx.x / stride) + threadIdx.x % stride, high = low + stride;
            bool up = (low & size) == 0;
            u64 a = pairs[low], b = pairs[high];
            if ((a > b) == up) {
                pairs[low] = b;
                pairs[high] = a;
            }
            __syncthreads();
        }
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        unsigned bits = pairs[i] >> 32;
        sorted[i] = __uint_as_float(bits & 0x80000000 ? bits & 0x7fffffff : ~bits);
        places[i] = (unsigned)pairs[i];
    }
}

// Each warp sorts 32 numbers in registers.
extern "C" __global__ void bitonic_warp(const int *keys, int *sorted) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32, key = keys[i];
    for (int size = 2; size <= 32; size *= 2)
        for (int stride = size / 2; stride > 0; stride /= 2) {
            int other = __shfl_xor_sync(0xffffffff, key, stride);
            bool up = (lane & size) == 0, lower = (lane & stride) == 0;
            key = up == lower ? min(key, other) : max(key, other);
        }
    sorted[i] = key;
}
