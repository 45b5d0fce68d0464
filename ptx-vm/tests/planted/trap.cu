// `in` holds the numbers from 0; 64 threads.

extern "C" __global__ void trap_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x;
    if (in[i] == 40) __trap(); // BUG
    out[i] = i;
}

extern "C" __global__ void trap_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x;
    if (in[i] == 400) __trap();
    out[i] = i;
}
