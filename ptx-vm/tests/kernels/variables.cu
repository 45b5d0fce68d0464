// Variables of the module: initial values, pointers to each other, state that outlives a launch.
struct Entry {
    char tag;
    short weight;
    double value;
};

extern "C" {
__constant__ float table[8] = {1.0f, -2.5f, 3.25f, 0.0f, 1e-3f};
__constant__ Entry entries[2] = {{'x', -3, 0.125}, {'y', 12, -1e300}};
__constant__ unsigned scale;
__device__ unsigned launches = 41;
__device__ unsigned char bytes[6] = {1, 2, 3};
__device__ int numbers[4] = {10, 20, 30, 40};
__device__ int *second = &numbers[1];
__constant__ const int *const ends[2] = {numbers, numbers + 3};
__device__ unsigned long long scratch[32];
}

// 26 words.
extern "C" __global__ void read_all(double *out) {
    int i = threadIdx.x;
    if (i < 8) out[i] = table[i];
    if (i < 2) {
        out[8 + i] = entries[i].tag;
        out[10 + i] = entries[i].weight;
        out[12 + i] = entries[i].value;
        out[14 + i] = *ends[i];
    }
    if (i < 6) out[16 + i] = bytes[i];
    if (i < 3) out[22 + i] = second[i];
    if (i == 0) out[25] = scale;
}

// Every thread leaves something, and counts the launch once.
extern "C" __global__ void touch(unsigned *seen) {
    scratch[threadIdx.x] += threadIdx.x * scale;
    if (threadIdx.x == 0) *seen = atomicAdd(&launches, 1u);
}
