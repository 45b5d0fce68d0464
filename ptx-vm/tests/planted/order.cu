// Results that hang on the order in which blocks and warps take turns. 8 blocks of 64 threads; `in` holds the numbers
// from 0, `out` is zero.

// 1 / (n + 1): sums of these round differently in another order.
__device__ float term(unsigned n) {
    return 1.0f / (n + 1);
}

extern "C" __global__ void float_blocks_buggy(float* out, const unsigned* in) {
    if (threadIdx.x == 0) atomicAdd(out, term(in[blockIdx.x]));
}

extern "C" __global__ void float_blocks_clean(float* out, const unsigned* in) {
    float sum = 0;
    for (unsigned k = 0; k < 8; k++) sum += term(in[k]);
    if (threadIdx.x == 0 && blockIdx.x == 0) *out = sum;
}

extern "C" __global__ void float_warps_buggy(float* out, const unsigned* in) {
    __shared__ float sum;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    atomicAdd(&sum, term(in[threadIdx.x]));
    __syncthreads();
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

extern "C" __global__ void float_warps_clean(unsigned* out, const unsigned* in) {
    __shared__ unsigned sum;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    atomicAdd(&sum, in[threadIdx.x]);
    __syncthreads();
    if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

// The last to write wins.
extern "C" __global__ void last_writer_buggy(unsigned* out) {
    atomicExch(&out[0], blockIdx.x);
}

extern "C" __global__ void last_writer_clean(unsigned* out) {
    atomicMax(&out[0], blockIdx.x);
}

// Who draws which ticket is chance; it must not show in the result.
extern "C" __global__ void ticket_buggy(unsigned* out, const unsigned* in) {
    if (threadIdx.x == 0) out[blockIdx.x + 1] = atomicAdd(&out[0], 1u) + in[0];
}

extern "C" __global__ void ticket_clean(unsigned* out, const unsigned* in) {
    if (threadIdx.x == 0) {
        unsigned ticket = atomicAdd(&out[0], 1u);
        out[ticket + 1] = in[ticket] * in[ticket];
    }
}
