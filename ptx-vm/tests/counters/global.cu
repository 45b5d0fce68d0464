// Device memory in every pattern. A thread's element lies at `index * stride + first`; threads from `limit` on do nothing.

struct alignas(8) Pair {
    unsigned word[2];
};
struct alignas(16) Quad {
    unsigned word[4];
};

template <class T>
__device__ void move(T* out, const T* in, int stride, int first, int limit) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < limit) out[i] = in[i * stride + first];
}

extern "C" __global__ void bytes(unsigned char* out, const unsigned char* in, int stride, int first, int limit) {
    move(out, in, stride, first, limit);
}

extern "C" __global__ void halves(unsigned short* out, const unsigned short* in, int stride, int first, int limit) {
    move(out, in, stride, first, limit);
}

extern "C" __global__ void words(unsigned* out, const unsigned* in, int stride, int first, int limit) {
    move(out, in, stride, first, limit);
}

extern "C" __global__ void pairs(Pair* out, const Pair* in, int stride, int first, int limit) {
    move(out, in, stride, first, limit);
}

extern "C" __global__ void quads(Quad* out, const Quad* in, int stride, int first, int limit) {
    move(out, in, stride, first, limit);
}

// Writes go astray instead of reads.
extern "C" __global__ void scatter(unsigned* out, const unsigned* in, int stride, int first, int limit) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < limit) out[i * stride + first] = in[i];
}

extern "C" __global__ void increment(unsigned* out) {
    out[blockIdx.x * blockDim.x + threadIdx.x] += 1;
}

// The same words again and again.
extern "C" __global__ void repeat(unsigned* out, const volatile unsigned* in, int times) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x, sum = 0;
    for (int k = 0; k < times; k++) sum += in[i];
    out[i] = sum;
}

extern "C" __global__ void eight_bins(unsigned* out) {
    atomicAdd(&out[threadIdx.x % 8], 1u);
}

// 16 bytes a thread through `cp.async`; from lane `limit` of each warp on, nothing is read and zeros are filled in.
extern "C" __global__ void copies(Quad* out, const Quad* in, unsigned limit) {
    __shared__ Quad tile[64];
    unsigned i = threadIdx.x, to = (unsigned)__cvta_generic_to_shared(&tile[i]);
    const Quad* from = in + blockIdx.x * blockDim.x + i;
    unsigned bytes = i % 32 < limit ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
    asm volatile("cp.async.wait_all;" ::: "memory");
    out[blockIdx.x * blockDim.x + i] = tile[i];
}

// Three operands and one that is not used, on lines of their own.
extern "C" __global__ void operands(unsigned* out, const unsigned* x, const unsigned* y, const unsigned* unused) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned sum = x[i]; // X
    if (threadIdx.x < 8) sum += y[2 * i]; // Y
    out[i] = sum; // OUT
}

// Two lines read one buffer, and half of it both.
extern "C" __global__ void overlap(unsigned* out, const unsigned* in) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    unsigned sum = in[i]; // HERE
    sum += in[i + 64]; // THERE
    out[i] = sum;
}
