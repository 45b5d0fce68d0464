// Philox4x32-10: a counter and a key in, four random words out.
__device__ uint4 philox(uint4 counter, uint2 key) {
    for (int round = 0; round < 10; ++round) {
        unsigned high0 = __umulhi(0xD2511F53u, counter.x), low0 = 0xD2511F53u * counter.x;
        unsigned high1 = __umulhi(0xCD9E8D57u, counter.z), low1 = 0xCD9E8D57u * counter.z;
        counter = make_uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
        key.x += 0x9E3779B9u;
        key.y += 0xBB67AE85u;
    }
    return counter;
}

// Counters and keys as given.
extern "C" __global__ void blocks(const uint4 *counters, const uint2 *keys, uint4 *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = philox(counters[i], keys[i]);
}

// A stream of numbers in [0, 1): element i of stream `stream` is the same whatever the launch.
extern "C" __global__ void uniform(float *out, int n, unsigned long long seed, unsigned stream) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; 4 * i < n; i += gridDim.x * blockDim.x) {
        uint4 bits = philox(make_uint4(i, 0, stream, 0), make_uint2((unsigned)seed, (unsigned)(seed >> 32)));
        float4 numbers = make_float4((bits.x >> 8) * 0x1p-24f, (bits.y >> 8) * 0x1p-24f, (bits.z >> 8) * 0x1p-24f,
                                     (bits.w >> 8) * 0x1p-24f);
        reinterpret_cast<float4 *>(out)[i] = numbers;
    }
}
