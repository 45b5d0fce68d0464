// Shared memory in every pattern; one warp. The access that counts is on the line marked HERE: a lane's element lies at
// `lane * stride`, lanes from `limit` on do nothing.

struct alignas(8) Pair {
    unsigned word[2];
};
struct alignas(16) Quad {
    unsigned word[4];
};

#define WORDS 1100

template <class T>
__device__ T* filled() {
    __shared__ alignas(128) unsigned tile[WORDS];
    for (unsigned k = threadIdx.x; k < WORDS; k += 32) tile[k] = k;
    __syncthreads();
    return reinterpret_cast<T*>(tile);
}

extern "C" __global__ void read_halves(unsigned* out, int stride, int limit) {
    unsigned short *tile = filled<unsigned short>(), value = 0;
    int lane = threadIdx.x;
    if (lane < limit) value = tile[lane * stride]; // HERE
    out[lane] = value;
}

extern "C" __global__ void read_words(unsigned* out, int stride, int limit) {
    unsigned *tile = filled<unsigned>(), value = 0;
    int lane = threadIdx.x;
    if (lane < limit) value = tile[lane * stride]; // HERE
    out[lane] = value;
}

extern "C" __global__ void read_pairs(unsigned* out, int stride, int limit) {
    Pair *tile = filled<Pair>(), value = {};
    int lane = threadIdx.x;
    if (lane < limit) value = tile[lane * stride]; // HERE
    out[lane] = value.word[0] + value.word[1];
}

extern "C" __global__ void read_quads(unsigned* out, int stride, int limit) {
    Quad *tile = filled<Quad>(), value = {};
    int lane = threadIdx.x;
    if (lane < limit) value = tile[lane * stride]; // HERE
    out[lane] = value.word[0] + value.word[1] + value.word[2] + value.word[3];
}

extern "C" __global__ void write_words(unsigned* out, int stride, int limit) {
    unsigned* tile = filled<unsigned>();
    int lane = threadIdx.x;
    if (lane < limit) tile[lane * stride] = 7; // HERE
    __syncthreads();
    out[lane] = tile[lane];
}

extern "C" __global__ void write_quads(unsigned* out, int stride, int limit) {
    Quad* tile = filled<Quad>();
    int lane = threadIdx.x;
    if (lane < limit) tile[lane * stride] = Quad{{1, 2, 3, 4}}; // HERE
    __syncthreads();
    out[lane] = tile[lane].word[1];
}

extern "C" __global__ void add_words(unsigned* out, int stride, int limit) {
    unsigned* tile = filled<unsigned>();
    int lane = threadIdx.x;
    if (lane < limit) atomicAdd(&tile[lane * stride], 1u); // HERE
    __syncthreads();
    out[lane] = tile[lane];
}
