// f64 and 64-bit integers.
typedef long long i64;
typedef unsigned long long u64;

// Ten values per element.
extern "C" __global__ void floats(const double *xs, const double *ys, double *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    double x = xs[i], y = ys[i], *o = out + 10 * i;
    o[0] = x * y + 1.5;
    o[1] = x / y;
    o[2] = sqrt(fabs(x));
    o[3] = fma(x, y, -x);
    o[4] = __dadd_rz(x, y) - __dmul_ru(x, y);
    o[5] = fmin(x, y) + fmax(x, -y);
    o[6] = floor(x) + trunc(y) + rint(x * 0.5);
    o[7] = (double)(float)x;
    o[8] = (double)(i64)(x * 1e6) + (double)(u64)fabs(y);
    o[9] = __longlong_as_double(__double_as_longlong(x) ^ 1) * copysign(1.0, y);
}

// Horner's rule in a chain.
extern "C" __global__ void polynomial(const double *xs, const double *coefficients, int degree, double *out) {
    double x = xs[threadIdx.x], sum = coefficients[degree];
    for (int i = degree - 1; i >= 0; --i) sum = fma(sum, x, coefficients[i]);
    out[threadIdx.x] = sum;
}

// Twelve values per element.
extern "C" __global__ void integers(const i64 *xs, const i64 *ys, u64 *out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    i64 x = xs[i], y = ys[i];
    u64 *o = out + 12 * i;
    o[0] = x * y;
    o[1] = __mul64hi(x, y);
    o[2] = __umul64hi(x, y);
    o[3] = y == 0 ? 0 : x / y;
    o[4] = y == 0 ? 0 : x % y;
    o[5] = y == 0 ? 0 : (u64)x / (u64)y;
    o[6] = y == 0 ? 0 : (u64)x % (u64)y;
    o[7] = (u64)(x >> (y & 63)) ^ ((u64)x >> (y & 63)) ^ ((u64)x << (y & 63));
    o[8] = __popcll(x) + 100 * __clzll(x) + 10000 * __ffsll(x);
    o[9] = __brevll(x);
    o[10] = (u64)min(x, y) ^ (u64)max((u64)x, (u64)y);
    o[11] = (x < y) + 2 * ((u64)x < (u64)y) + 4 * (x == y) + 8 * (u64)abs((int)x);
}

// 128-bit sums and products: four words per element.
extern "C" __global__ void wide(const u64 *xs, const u64 *ys, u64 *out) {
    unsigned __int128 x = (unsigned __int128)xs[2 * threadIdx.x + 1] << 64 | xs[2 * threadIdx.x];
    unsigned __int128 y = (unsigned __int128)ys[2 * threadIdx.x + 1] << 64 | ys[2 * threadIdx.x];
    unsigned __int128 sum = x + y, product = x * y;
    out[4 * threadIdx.x] = (u64)sum;
    out[4 * threadIdx.x + 1] = (u64)(sum >> 64);
    out[4 * threadIdx.x + 2] = (u64)product;
    out[4 * threadIdx.x + 3] = (u64)(product >> 64);
}

// The same sum with the carry flag.
extern "C" __global__ void carries(const u64 *xs, const u64 *ys, u64 *out) {
    const unsigned *x = (const unsigned *)(xs + 2 * threadIdx.x), *y = (const unsigned *)(ys + 2 * threadIdx.x);
    unsigned sum[4];
    asm("add.cc.u32 %0, %4, %8;\n\taddc.cc.u32 %1, %5, %9;\n\taddc.cc.u32 %2, %6, %10;\n\taddc.u32 %3, %7, %11;"
        : "=r"(sum[0]), "=r"(sum[1]), "=r"(sum[2]), "=r"(sum[3])
        : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]), "r"(y[2]), "r"(y[3]));
    out[2 * threadIdx.x] = (u64)sum[1] << 32 | sum[0];
    out[2 * threadIdx.x + 1] = (u64)sum[3] << 32 | sum[2];
}
