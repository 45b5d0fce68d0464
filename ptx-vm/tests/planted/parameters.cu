// A struct passed by value and indexed at run time. `in` holds the numbers from 0; 64 threads.

struct Table {
    unsigned entry[8];
};

extern "C" __global__ void past_end_buggy(unsigned* out, const unsigned* in, const __grid_constant__ Table table) {
    unsigned i = threadIdx.x;
    out[i] = table.entry[in[i] % 9]; // BUG
}

extern "C" __global__ void past_end_clean(unsigned* out, const unsigned* in, const __grid_constant__ Table table) {
    unsigned i = threadIdx.x;
    out[i] = table.entry[in[i] % 8];
}

// The same through a generic pointer, which half of the threads point into device memory.
extern "C" __global__ void generic_buggy(unsigned* out, const unsigned* in, const __grid_constant__ Table table) {
    unsigned i = threadIdx.x;
    const unsigned* from = i < 32 ? table.entry + in[i] % 9 : in;
    out[i] = *from; // BUG
}

extern "C" __global__ void generic_clean(unsigned* out, const unsigned* in, const __grid_constant__ Table table) {
    unsigned i = threadIdx.x;
    const unsigned* from = i < 32 ? table.entry + in[i] % 8 : in;
    out[i] = *from;
}
