// Addresses that are no multiple of the access's size. `out` and `in` hold 64 words; 32 threads. `offset` is 0 in the
// clean launch and not in the other: the code is the same, so every kernel is its own twin.

struct alignas(8) Pair {
    unsigned word[2];
};
struct alignas(16) Quad {
    unsigned word[4];
};

extern "C" __global__ void global_word(unsigned* out, const char* in, int offset) {
    unsigned i = threadIdx.x;
    out[i] = *reinterpret_cast<const unsigned*>(in + 4 * i + offset); // BUG
}

extern "C" __global__ void global_pair(unsigned* out, const char* in, int offset) {
    unsigned i = threadIdx.x;
    Pair pair = *reinterpret_cast<const Pair*>(in + 4 * (i & ~1u) + offset); // BUG
    out[i] = pair.word[0] + pair.word[1];
}

extern "C" __global__ void global_quad(unsigned* out, const char* in, int offset) {
    unsigned i = threadIdx.x;
    Quad quad = *reinterpret_cast<const Quad*>(in + 4 * (i & ~3u) + offset); // BUG
    out[i] = quad.word[0] + quad.word[1] + quad.word[2] + quad.word[3];
}

extern "C" __global__ void global_store(char* out, const unsigned* in, int offset) {
    unsigned i = threadIdx.x;
    if (i < 15) *reinterpret_cast<Quad*>(out + 16 * i + offset) = Quad{{in[i], in[i + 1], in[i + 2], in[i + 3]}}; // BUG
}

// A vector of half the size, at a multiple of it, is in order: only lane 5 goes astray.
extern "C" __global__ void global_lane(unsigned* out, const char* in, int offset) {
    unsigned i = threadIdx.x;
    Pair pair = *reinterpret_cast<const Pair*>(in + 8 * i + (i == 5 ? offset : 0)); // BUG
    out[i] = pair.word[0] + pair.word[1];
}

extern "C" __global__ void shared_pair(unsigned* out, const unsigned* in, int offset) {
    __shared__ alignas(16) unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = in[i];
    tile[i + 32] = in[i + 32];
    __syncthreads();
    Pair pair = *reinterpret_cast<const Pair*>(reinterpret_cast<char*>(tile) + 4 * (i & ~1u) + offset); // BUG
    out[i] = pair.word[0] + pair.word[1];
}

extern "C" __global__ void shared_quad(unsigned* out, const unsigned* in, int offset) {
    __shared__ alignas(16) unsigned tile[64];
    unsigned i = threadIdx.x;
    tile[i] = in[i];
    tile[i + 32] = in[i + 32];
    __syncthreads();
    Quad quad = *reinterpret_cast<const Quad*>(reinterpret_cast<char*>(tile) + 4 * (i & ~3u) + offset); // BUG
    out[i] = quad.word[0] + quad.word[1] + quad.word[2] + quad.word[3];
}

extern "C" __global__ void local_pair(unsigned* out, const unsigned* in, int offset) {
    alignas(8) unsigned own[8];
    unsigned i = threadIdx.x;
    for (unsigned k = 0; k < 8; k++) own[k] = in[k];
    Pair pair = *reinterpret_cast<const Pair*>(reinterpret_cast<char*>(own) + 8 * (i % 2) + offset); // BUG
    out[i] = pair.word[0] + pair.word[1];
}

extern "C" __global__ void atomic(char* out, const unsigned* in, int offset) {
    unsigned i = threadIdx.x;
    atomicAdd(reinterpret_cast<unsigned long long*>(out + 8 * (i % 16) + offset), in[i] + 0ull); // BUG
}

extern "C" __global__ void matrix(unsigned* out, const unsigned* in, int offset) {
    __shared__ alignas(16) unsigned tile[64];
    unsigned i = threadIdx.x, value;
    tile[i] = in[i];
    tile[i + 32] = in[i + 32];
    __syncthreads();
    unsigned row = (unsigned)__cvta_generic_to_shared(tile) + 16 * (i % 8) + offset;
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(value) : "r"(row) : "memory"); // BUG
    out[i] = value;
}

extern "C" __global__ void copy_from(unsigned* out, const char* in, int offset) {
    __shared__ alignas(16) unsigned tile[64];
    unsigned i = threadIdx.x, to = (unsigned)__cvta_generic_to_shared(tile + 4 * i);
    const char* from = in + 16 * i + offset;
    if (i < 15) asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from)); // BUG
    asm volatile("cp.async.wait_all;" ::: "memory");
    out[i] = i;
}

extern "C" __global__ void copy_to(unsigned* out, const char* in, int offset) {
    __shared__ alignas(16) unsigned tile[64];
    unsigned i = threadIdx.x, to = (unsigned)__cvta_generic_to_shared(tile + 4 * i) + offset;
    const char* from = in + 16 * i;
    if (i < 15) asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from)); // BUG
    asm volatile("cp.async.wait_all;" ::: "memory");
    out[i] = i;
}
