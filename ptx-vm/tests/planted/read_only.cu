// Writes to what must not be written. `out` and `in` hold 64 words; 64 threads.

struct Table {
    unsigned entry[64];
};

__constant__ unsigned constant[64];

// A pointer whose origin the compiler no longer knows.
#define HIDE(pointer) asm("" : "+l"(pointer))

extern "C" __global__ void constant_buggy(unsigned* out) {
    unsigned i = threadIdx.x;
    unsigned* to = const_cast<unsigned*>(constant);
    HIDE(to);
    to[i] = i; // BUG
    out[i] = i;
}

extern "C" __global__ void constant_clean(unsigned* out) {
    unsigned i = threadIdx.x;
    unsigned* to = out;
    HIDE(to);
    to[i] = constant[i];
}

extern "C" __global__ void parameter_buggy(unsigned* out, const __grid_constant__ Table table) {
    unsigned i = threadIdx.x;
    unsigned* to = const_cast<unsigned*>(table.entry);
    HIDE(to);
    to[i] = i; // BUG
    out[i] = i;
}

extern "C" __global__ void parameter_clean(unsigned* out, const __grid_constant__ Table table) {
    unsigned i = threadIdx.x;
    const unsigned* from = table.entry;
    HIDE(from);
    out[i] = from[i];
}

// `in` is the same buffer as `out` in the buggy launch, so its promise of `__restrict__` is broken.
extern "C" __global__ void aliased_buggy(unsigned* __restrict__ out, const unsigned* __restrict__ in) {
    unsigned i = threadIdx.x;
    unsigned value = in[i];
    out[i] = value + 1; // BUG
}

extern "C" __global__ void aliased_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x;
    unsigned value = in[i];
    out[i] = value + 1;
}

// The write comes first: the read may still see what was there before the launch.
extern "C" __global__ void stale_buggy(unsigned* out, unsigned* work) {
    unsigned i = threadIdx.x, value;
    work[i] = 1;
    asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(value) : "l"(work + i) : "memory"); // BUG
    out[i] = value;
}

extern "C" __global__ void stale_clean(unsigned* out, unsigned* work) {
    unsigned i = threadIdx.x, value;
    work[i] = 1;
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(value) : "l"(work + i) : "memory");
    out[i] = value;
}
