// Structs by value among scalars of every size: offsets, padding, and indexing that only the run knows.
struct Inner {
    char x;
    long long y;
};

struct Ragged { // 64 bytes
    char a;        // 0
    short b;       // 2
    int c;         // 4
    double d;      // 8
    signed char e[5]; // 16
    float f;       // 24
    Inner g;       // 32: 32, 40
    unsigned short h[3]; // 48
    bool i;        // 54
    unsigned j;    // 56
};

struct Small { // 3 bytes, alignment 1
    unsigned char rgb[3];
};

struct alignas(16) Wide { // 32 bytes, alignment 16
    float x[5];
};

extern "C" __global__ void parameters(char first, Ragged r, Small s, short second, Small t, Wide w, bool flag,
                                      long long third, double *out) {
    int i = threadIdx.x;
    double values[16] = {
        (double)first, (double)r.a,   (double)r.b,   (double)r.c,      r.d,              (double)r.f,
        (double)r.g.x, (double)r.g.y, (double)r.i,   (double)r.j,      (double)second,   (double)flag,
        (double)third, (double)t.rgb[0], (double)t.rgb[1], (double)t.rgb[2],
    };
    // Indices that differ between lanes.
    out[i] = values[i % 16] + r.e[i % 5] * 1000.0 + r.h[i % 3] * 1e6 + s.rgb[i % 3] * 1e9 + w.x[i % 5] * 1e-3;
}

// Through a pointer to the parameter itself.
__device__ __noinline__ int pick(const int *from, int i) { return from[i]; }

struct Table {
    int entries[24];
};

extern "C" __global__ void grid_constant(const __grid_constant__ Table table, int *out) {
    out[threadIdx.x] = pick(table.entries, (threadIdx.x * 5) % 24);
}

// Changing a parameter changes this thread's copy only.
extern "C" __global__ void changed(Table table, int *out) {
    table.entries[threadIdx.x % 24] += 1000 + threadIdx.x;
    int sum = 0;
    for (int i = 0; i < 24; ++i) sum += table.entries[(i + threadIdx.x) % 24] * (i + 1);
    out[threadIdx.x] = sum;
}
