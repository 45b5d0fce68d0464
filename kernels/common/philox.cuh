// Philox4x32-10 (Salmon et al., SC'11): four random words from a 128-bit counter and a 64-bit key, as in src/random.rs.
#pragma once

__device__ __forceinline__ uint4 philox(uint4 counter, uint2 key) {
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        unsigned a = __umulhi(0xD2511F53u, counter.x), b = __umulhi(0xCD9E8D57u, counter.z);
        counter = make_uint4(b ^ counter.y ^ key.x, 0xCD9E8D57u * counter.z, a ^ counter.w ^ key.y, 0xD2511F53u * counter.x);
        key.x += 0x9E3779B9u;
        key.y += 0xBB67AE85u;
    }
    return counter;
}

// Which of the columns 4*group ... 4*group + 3 of a token's X dropout keeps, a bit each: the words at or above `threshold`.
__device__ __forceinline__ unsigned char kept_columns(unsigned long long token, unsigned group, unsigned long long seed,
                                                      unsigned threshold) {
    uint4 words = philox(make_uint4((unsigned)token, (unsigned)(token >> 32), group, 0),
                         make_uint2((unsigned)seed, (unsigned)(seed >> 32)));
    return (unsigned char)((words.x >= threshold) | (words.y >= threshold) << 1 | (words.z >= threshold) << 2 |
                           (words.w >= threshold) << 3);
}
