// Device memory touched outside its allocation, or outside the slice that was passed. `out` and `in` hold 64 words; the
// launch has 64 threads.

struct alignas(16) Quad {
    unsigned word[4];
};

__device__ unsigned variable[16];
__constant__ unsigned constant[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

extern "C" __global__ void past_end_buggy(unsigned* out) {
    unsigned i = threadIdx.x;
    out[i + 1] = i; // BUG
}

extern "C" __global__ void past_end_clean(unsigned* out) {
    unsigned i = threadIdx.x;
    out[i] = i;
}

extern "C" __global__ void before_start_buggy(unsigned* out, const unsigned* in) {
    int i = threadIdx.x;
    out[i] = in[i - 1]; // BUG
}

extern "C" __global__ void before_start_clean(unsigned* out, const unsigned* in) {
    int i = threadIdx.x;
    out[i] = i > 0 ? in[i - 1] : 0;
}

// Of `in`, only the words 8 .. 40 are passed.
extern "C" __global__ void past_slice_buggy(unsigned* out, const unsigned* in) {
    int i = threadIdx.x;
    out[i] = in[i]; // BUG
}

extern "C" __global__ void past_slice_clean(unsigned* out, const unsigned* in) {
    int i = threadIdx.x;
    out[i] = in[i % 32];
}

extern "C" __global__ void before_slice_buggy(unsigned* out, const unsigned* in) {
    int i = threadIdx.x % 32;
    out[threadIdx.x] = in[i - 1]; // BUG
}

extern "C" __global__ void before_slice_clean(unsigned* out, const unsigned* in) {
    int i = threadIdx.x % 32;
    out[threadIdx.x] = i > 0 ? in[i - 1] : 0;
}

// Of `in`, 62 words are passed: the last vector begins inside and ends outside.
extern "C" __global__ void vector_buggy(unsigned* out, const Quad* in) {
    unsigned i = threadIdx.x;
    if (i < 16) {
        Quad quad = in[i]; // BUG
        out[i] = quad.word[0] + quad.word[1] + quad.word[2] + quad.word[3];
    }
}

extern "C" __global__ void vector_clean(unsigned* out, const Quad* in) {
    unsigned i = threadIdx.x;
    if (i < 15) {
        Quad quad = in[i];
        out[i] = quad.word[0] + quad.word[1] + quad.word[2] + quad.word[3];
    }
}

extern "C" __global__ void atomic_buggy(unsigned* out) {
    unsigned i = threadIdx.x;
    atomicAdd(&out[i + 1], i); // BUG
}

extern "C" __global__ void atomic_clean(unsigned* out) {
    unsigned i = threadIdx.x;
    atomicAdd(&out[i], i);
}

#define COPY(to, from) \
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from))
#define WAIT_ALL() asm volatile("cp.async.wait_all;" ::: "memory")

extern "C" __global__ void copy_buggy(unsigned* out, const unsigned* in) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    COPY(&tile[i], in + i + 1); // BUG
    WAIT_ALL();
    out[i] = i < 63 ? tile[i] : 0;
}

extern "C" __global__ void copy_clean(unsigned* out, const unsigned* in) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    COPY(&tile[i], in + i);
    WAIT_ALL();
    out[i] = i < 63 ? tile[i] : 0;
}

extern "C" __global__ void variable_buggy(unsigned* out) {
    unsigned i = threadIdx.x;
    out[i] = variable[i]; // BUG
}

extern "C" __global__ void variable_clean(unsigned* out) {
    unsigned i = threadIdx.x;
    out[i] = variable[i % 16];
}

extern "C" __global__ void constant_buggy(unsigned* out) {
    unsigned i = threadIdx.x;
    out[i] = constant[i]; // BUG
}

extern "C" __global__ void constant_clean(unsigned* out) {
    unsigned i = threadIdx.x;
    out[i] = constant[i % 16];
}

extern "C" __global__ void null_buggy(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x;
    const unsigned* from = in[i] == 40 ? nullptr : in;
    asm("" : "+l"(from)); // or the compiler infers that no pointer is null
    out[i] = *from; // BUG
}

extern "C" __global__ void null_clean(unsigned* out, const unsigned* in) {
    unsigned i = threadIdx.x;
    const unsigned* from = in[i] == 40 ? in + 1 : in;
    asm("" : "+l"(from));
    out[i] = *from;
}
