// Functions that are not inlined, their parameters and results of every shape, and arrays in local memory.
struct Triple {
    int x;
    short y;
    signed char z[3];
};

__device__ __noinline__ int gcd(int a, int b) {
    while (b != 0) {
        int rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

__device__ __noinline__ unsigned long long square(unsigned x) { return (unsigned long long)x * x; }

// Calls another function, twice.
__device__ __noinline__ long long difference(unsigned a, unsigned b) { return (long long)(square(a) - square(b)); }

// A struct in, a struct out.
__device__ __noinline__ Triple turned(Triple t, int by) {
    Triple result;
    result.x = t.y + by;
    result.y = (short)(t.z[0] * t.z[1]);
    for (int i = 0; i < 3; ++i) result.z[i] = t.z[(i + by) % 3];
    return result;
}

// Sorts through a pointer into the caller's local memory.
__device__ __noinline__ void sort(int *values, int n) {
    for (int i = 1; i < n; ++i) {
        int value = values[i], j = i;
        for (; j > 0 && values[j - 1] > value; --j) values[j] = values[j - 1];
        values[j] = value;
    }
}

// A parameter that points to local, shared or global memory, unknown here.
__device__ __noinline__ float sum(const float *x, int n, int stride) {
    float total = 0.0f;
    for (int i = 0; i < n; ++i) total += x[i * stride];
    return total;
}

// Five words a thread.
extern "C" __global__ void calls(const int *x, long long *out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, value = x[i];
    long long *mine = out + 5 * i;
    mine[0] = gcd(abs(value) % 1000 + 1, 720);
    // Only some lanes call, from two places.
    mine[1] = 0;
    if (value % 3 == 0) mine[1] = difference(value, 7);
    else if (value % 3 == 1) mine[1] = (long long)square(value) + 1;

    Triple t = {value, (short)(value >> 3)};
    for (int j = 0; j < 3; ++j) t.z[j] = (signed char)(value >> 8 * j);
    t = turned(turned(t, value & 3), 1);
    mine[2] = (long long)t.x * 1000000 + t.y * 1000 + t.z[0] + 2 * t.z[1] + 3 * t.z[2];

    int values[12];
    int n = 5 + (value & 7);
    for (int j = 0; j < n; ++j) values[j] = (value >> j) ^ (j * 0x2545);
    sort(values, n);
    mine[3] = (long long)values[n / 2] << 32 | (unsigned)values[(value >> 4 & 15) % n];

    // How often each nibble occurs, counted in a local array of bytes.
    unsigned char counts[16] = {};
    for (int j = 0; j < 8; ++j) ++counts[value >> 4 * j & 15];
    long long packed = 0;
    for (int j = 0; j < 16; ++j) packed |= (long long)counts[j] << 4 * j;
    mine[4] = packed;
}

// The same function on three kinds of memory; three words a thread.
extern "C" __global__ void spaces(const float *x, float *out) {
    __shared__ float shared[64];
    float local[8];
    shared[threadIdx.x] = x[threadIdx.x];
    for (int i = 0; i < 8; ++i) local[i] = x[(threadIdx.x + i * i) % 64];
    __syncthreads();
    int start = threadIdx.x / 2;
    out[3 * threadIdx.x] = sum(local, 8, 1);
    out[3 * threadIdx.x + 1] = sum(shared + start, 10, 3);
    out[3 * threadIdx.x + 2] = sum(x + start, 10, 3);
    // A pointer that differs between lanes in where it points.
    const float *mixed = threadIdx.x % 3 == 0 ? local : threadIdx.x % 3 == 1 ? shared : x;
    out[192 + threadIdx.x] = sum(mixed, 4, 2);
}
