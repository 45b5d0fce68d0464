// Static shared arrays of odd sizes and alignments beside dynamic shared memory, which two names share.
struct Pair {
    char tag;
    double value;
};

extern "C" __global__ void arrays(const unsigned *x, unsigned long long *out, int dynamic_words) {
    __shared__ char letters[5];
    __shared__ Pair pairs[3];
    __shared__ unsigned short halves[7];
    __shared__ unsigned words[64];
    extern __shared__ unsigned dynamic[];
    extern __shared__ __align__(16) unsigned char bytes[];
    unsigned t = threadIdx.x;
    if (t < 5) letters[t] = 'a' + t;
    if (t < 3) {
        pairs[t].tag = '0' + t;
        pairs[t].value = 0.5 + t;
    }
    if (t < 7) halves[t] = 1000 * t;
    words[t] = x[t];
    for (int i = t; i < dynamic_words; i += blockDim.x) dynamic[i] = x[i % 64] * 3 + i;
    __syncthreads();
    // Everything is still what it was: nothing overlaps.
    unsigned long long sum = 0;
    for (int i = 0; i < 5; ++i) sum += (unsigned long long)letters[i] << 8 * i;
    for (int i = 0; i < 3; ++i) sum += pairs[i].tag * (unsigned long long)(2.0 * pairs[i].value);
    for (int i = 0; i < 7; ++i) sum += halves[i];
    unsigned other = (t * 29 + 7) % 64;
    sum += words[other];
    for (int i = other; i < dynamic_words; i += 64) sum += dynamic[i] + ((unsigned long long)bytes[4 * i + 1] << 40);
    out[t] = sum;
    if (t == 0) {
        out[64] = (unsigned long long)((char *)dynamic - (char *)bytes); // the same start
        unsigned total, size;
        asm("mov.u32 %0, %%total_smem_size;" : "=r"(total));
        asm("mov.u32 %0, %%dynamic_smem_size;" : "=r"(size));
        out[65] = size;
        out[66] = total >= size + sizeof(letters) + sizeof(pairs) + sizeof(halves) + sizeof(words);
        out[67] = (unsigned)__cvta_generic_to_shared(bytes) % 16;
    }
}
