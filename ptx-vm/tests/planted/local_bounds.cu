// A thread's own arrays. `in` holds the numbers from 0; 64 threads.

extern "C" __global__ void past_end_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, own[8];
    for (unsigned k = 0; k < 8; k++) own[k] = in[k];
    own[in[i] % 9] += 1; // BUG
    out[i] = own[in[i] % 8];
}

extern "C" __global__ void past_end_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, own[8];
    for (unsigned k = 0; k < 8; k++) own[k] = in[k];
    own[in[i] % 8] += 1;
    out[i] = own[in[i] % 8];
}

extern "C" __global__ void before_start_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, own[8];
    for (unsigned k = 0; k < 8; k++) own[k] = in[k];
    out[i] = own[int(in[i] % 8) - 1]; // BUG
}

extern "C" __global__ void before_start_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x, own[8];
    for (unsigned k = 0; k < 8; k++) own[k] = in[k];
    out[i] = own[int(in[i] % 8 + 7) - 7];
}
