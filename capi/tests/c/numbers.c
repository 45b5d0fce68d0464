// numbers DEVICE: forward and backward of every gate, element type and way of passing operands, on memory of the device, against
// the formula: the output itself, and every gradient against a difference of the formula.
#include "check.h"
#include "element.h"
#include "formula.h"

enum { M = 12, N = 10, R = 4, K = 2, S = 2, T = 5 };
static const uint32_t SKELETON[K * R] = {3, 11, 0, 7, 5, 1, 10, 6};
static const double SCALE = 1.5;

// A matrix on the device and what is known of it here.
typedef struct {
    idlora_buffer *buffer;
    void *address;
    unsigned char *host;
    size_t rows, cols, ld, bytes;
    uint32_t dtype;
} Matrix;

static Matrix matrix(const idlora_device *device, uint32_t dtype, size_t rows, size_t cols, size_t padding) {
    Matrix a;
    a.dtype = dtype, a.rows = rows, a.cols = cols, a.ld = cols + padding;
    a.bytes = rows * a.ld * element_size(dtype);
    a.host = (unsigned char *)memory(a.bytes);
    memset(a.host, 0xff, a.bytes); // NaN, in the padding too
    OK(idlora_buffer_create(device, a.bytes, &a.buffer));
    OK(idlora_buffer_write(a.buffer, a.host, a.bytes));
    OK(idlora_buffer_address(a.buffer, &a.address));
    return a;
}

static void matrix_free(Matrix *a) {
    OK(idlora_buffer_close(a->buffer));
    free(a->host);
}

static void send(Matrix *a, const double *values) {
    size_t i, j;
    for (i = 0; i < a->rows; i++)
        for (j = 0; j < a->cols; j++) element_set(a->dtype, a->host, i * a->ld + j, values[i * a->cols + j]);
    OK(idlora_buffer_write(a->buffer, a->host, a->bytes));
}

static void constant(Matrix *a, double value) {
    size_t i;
    double *values = (double *)memory(a->rows * a->cols * sizeof *values);
    for (i = 0; i < a->rows * a->cols; i++) values[i] = value;
    send(a, values);
    free(values);
}

static double fetched(const Matrix *a, size_t i, size_t j) {
    return element_get(a->dtype, a->host, i * a->ld + j);
}

static void fetch(Matrix *a) {
    size_t i, byte;
    const size_t element = element_size(a->dtype);
    OK(idlora_buffer_read(a->buffer, a->host, a->bytes));
    for (i = 0; i < a->rows; i++)
        for (byte = a->cols * element; byte < a->ld * element; byte++)
            CHECK(a->host[i * a->ld * element + byte] == 0xff); // padding is not written
}

static idlora_matrix in(const Matrix *a) {
    idlora_matrix view;
    view.data = a->address, view.rows = a->rows, view.cols = a->cols, view.ld = a->ld;
    return view;
}

static idlora_matrix_mut out(const Matrix *a) {
    idlora_matrix_mut view;
    view.data = a->address, view.rows = a->rows, view.cols = a->cols, view.ld = a->ld;
    return view;
}

// How operands are passed.
typedef struct {
    const char *name;
    uint32_t down, bias;
    size_t padding;
    int in_place, scatter, keep_z, accumulate;
    float dropout;
} Variant;

static const Variant VARIANTS[] = {
    {"in place", IDLORA_DOWN_GATHER, IDLORA_BIAS_NONE, 0, 1, 1, 0, 0, 0.0f},
    {"out of place, padded", IDLORA_DOWN_GATHER, IDLORA_BIAS_NONE, 3, 0, 0, 1, 0, 0.0f},
    {"dropout, accumulated", IDLORA_DOWN_GATHER, IDLORA_BIAS_NONE, 1, 1, 1, 0, 1, 0.3f},
    {"bias included", IDLORA_DOWN_GATHER, IDLORA_BIAS_INCLUDED, 2, 0, 1, 0, 1, 0.0f},
    {"bias separate, dropout", IDLORA_DOWN_GATHER, IDLORA_BIAS_SEPARATE, 0, 1, 0, 1, 0, 0.5f},
    {"explicit down-projection", IDLORA_DOWN_GEMM, IDLORA_BIAS_NONE, 5, 0, 0, 0, 0, 0.0f},
};

// The problem in double. Weights and inputs are small multiples of 1/4, so that W h is exact in every element type.
typedef struct {
    double w[M * N], h[T * N], bias[M], y0[T * M], b[M / S * R / S], gate[K * N], g[T * M], y[T * M], factors[T * K * R];
} Problem;

static void draw(Problem *p, uint32_t dtype, uint32_t seed) {
    size_t i, j, l;
    for (i = 0; i < M * N; i++) p->w[i] = floor(2.5 * drawn(&seed)) / 4.0;
    for (i = 0; i < T * N; i++) p->h[i] = floor(2.5 * drawn(&seed)) / 4.0;
    for (i = 0; i < M; i++) p->bias[i] = floor(4.0 * drawn(&seed)) / 4.0;
    for (i = 0; i < M / S * R / S; i++) p->b[i] = drawn(&seed);
    for (i = 0; i < K * N; i++) p->gate[i] = drawn(&seed);
    for (i = 0; i < T * M; i++) {
        unsigned char rounded[4];
        element_set(dtype, rounded, 0, drawn(&seed) + 1.5);
        p->g[i] = element_get(dtype, rounded, 0);
    }
    for (i = 0; i < T; i++)
        for (j = 0; j < M; j++) {
            p->y0[i * M + j] = 0.0;
            for (l = 0; l < N; l++) p->y0[i * M + j] += p->w[j * N + l] * p->h[i * N + l];
        }
}

static idlora_plan *planned(const idlora_device *device, const Formula *f, const Variant *v) {
    idlora_module module;
    idlora_plan *plan;
    memset(&module, 0, sizeof module);
    module.struct_size = sizeof module;
    module.rows = M, module.cols = N, module.rank = R, module.components = K, module.split = S;
    module.skeleton = SKELETON, module.scale = (float)SCALE, module.gate = f->gate;
    OK(idlora_plan_module(device, &module, v->down, v->bias, &plan));
    return plan;
}

static void run(const char *where, const idlora_device *device, uint32_t dtype, uint32_t gate_kind, const Variant *v,
                Problem *p) {
    Formula f = {M, N, R, K, S, T, gate_kind, SCALE, SKELETON, NULL};
    idlora_plan *plan = planned(device, &f, v);
    idlora_workspace *workspace;
    idlora_forward_operands forward;
    idlora_backward_operands backward;
    const size_t gr = gate_rows(&f), gc = gate_cols(&f), pad = v->padding;
    const int linear = gate_kind == IDLORA_GATE_LINEAR || gate_kind == IDLORA_GATE_LINEAR_SOFTMAX;
    const double u = unit_roundoff(dtype), start = v->accumulate ? 0.5 : 0.0;
    double error;
    size_t bytes, i, j;

    Matrix b = matrix(device, IDLORA_DTYPE_F32, M / S, R / S, pad), gate = matrix(device, IDLORA_DTYPE_F32, gr, gc, pad);
    Matrix h = matrix(device, dtype, T, N, pad), w = matrix(device, dtype, M, N, pad), bias = matrix(device, dtype, 1, M, 0);
    Matrix y0 = matrix(device, dtype, T, M, pad), y = matrix(device, dtype, T, M, pad);
    Matrix x = matrix(device, dtype, T, K * R, pad), a = matrix(device, IDLORA_DTYPE_F32, T, K, pad);
    Matrix z = matrix(device, IDLORA_DTYPE_F32, T, R, pad), g = matrix(device, dtype, T, M, pad);
    Matrix dx = matrix(device, dtype, T, K * R, pad), db = matrix(device, IDLORA_DTYPE_F32, M / S, R / S, pad);
    Matrix dgate = matrix(device, IDLORA_DTYPE_F32, gr, gc, pad), dh = matrix(device, dtype, T, N, pad);
    Matrix *all[15] = {&b, &gate, &h, &w, &bias, &y0, &y, &x, &a, &z, &g, &dx, &db, &dgate, &dh};
    double base[T * M];

    draw(p, dtype, 7u + gate_kind);
    for (i = 0; i < T * M; i++) base[i] = p->y0[i] + (v->bias == IDLORA_BIAS_INCLUDED ? p->bias[i % M] : 0.0);
    send(&b, p->b), send(&gate, p->gate), send(&h, p->h), send(&w, p->w), send(&bias, p->bias), send(&g, p->g);
    send(v->in_place ? &y : &y0, base);
    constant(&db, v->accumulate ? start : 99.0), constant(&dgate, v->accumulate ? start : 99.0);
    if (v->dropout > 0.0f) {
        dropout_factors(0x1234567890abcdefu, 0xffffffffu, v->dropout, T, K * R, p->factors);
        f.factors = p->factors;
    }
    OK(idlora_plan_workspace(plan, dtype, T, &bytes));
    OK(idlora_workspace_create(device, bytes, &workspace));

    memset(&forward, 0, sizeof forward);
    forward.struct_size = sizeof forward, forward.dtype = dtype;
    forward.b = in(&b), forward.gate = in(&gate), forward.h = in(&h);
    if (v->down == IDLORA_DOWN_GEMM) forward.w = in(&w);
    if (v->bias != IDLORA_BIAS_NONE) forward.bias = in(&bias);
    forward.dropout.probability = v->dropout;
    forward.dropout.seed = 0x1234567890abcdefu, forward.dropout.offset = 0xffffffffu;
    if (!v->in_place) forward.y0 = in(&y0);
    forward.y = out(&y), forward.saved_x = out(&x), forward.saved_gate = out(&a);
    if (v->keep_z) forward.saved_z = out(&z);
    OK(idlora_forward(plan, &forward, workspace));

    memset(&backward, 0, sizeof backward);
    backward.struct_size = sizeof backward, backward.dtype = dtype, backward.accumulate = (uint32_t)v->accumulate;
    backward.b = in(&b), backward.gate = in(&gate), backward.h = in(&h), backward.dropout = forward.dropout;
    backward.saved_x = in(&x), backward.saved_gate = in(&a);
    if (v->keep_z) backward.saved_z = in(&z);
    if (v->scatter) backward.scatter = out(&g);
    else backward.g = in(&g), backward.dx = out(&dx);
    backward.grad_b = out(&db), backward.grad_gate = out(&dgate);
    if (linear) backward.grad_h = out(&dh);
    OK(idlora_backward(plan, &backward, workspace));
    for (i = 0; i < 15; i++) fetch(all[i]);

    // One rounding where an element is stored, and `error` of the terms' magnitudes before. Sums of fewer than 50 terms in f32 are
    // off by 3e-6 of them; kernels cut the factors of 16-bit products to two terms of bfloat16 and are off by 5e-5 of each product
    // (kernels/lowrank_grad.cu, Numerics), of which a gradient has up to three. The 1 stands for what cancels within a term.
    error = strcmp(where, "cpu") != 0 && dtype != IDLORA_DTYPE_F32 ? 2e-4 : 1e-5;
#define SLOPE(entry) slope(&f, p->y0, p->h, p->b, p->gate, p->g, entry)
#define STORED(slope) (u * fabs(slope.value) + error * (1.0 + slope.size))
    adapted(&f, p->y0, p->h, p->b, p->gate, p->y);
    for (i = 0; i < T; i++)
        for (j = 0; j < M; j++) {
            const double expected = p->y[i * M + j] + (v->bias == IDLORA_BIAS_NONE ? 0.0 : p->bias[j]);
            const Slope dy0 = SLOPE(&p->y0[i * M + j]);
            NEAR("y", fetched(&y, i, j), expected, u * fabs(expected) + error * (1.0 + fabs(expected)));
            if (!v->in_place) CHECK(fetched(&y0, i, j) == base[i * M + j]);
            if (v->scatter) NEAR("scattered g", fetched(&g, i, j), dy0.value, STORED(dy0));
            else CHECK(fetched(&g, i, j) == p->g[i * M + j]);
        }
    for (i = 0; i < T; i++)
        for (j = 0; j < K * R; j++) {
            Slope of_x = SLOPE(&p->y0[i * M + SKELETON[j]]);
            of_x.value -= p->g[i * M + SKELETON[j]];
            CHECK(fetched(&x, i, j) == p->y0[i * M + SKELETON[j]]);
            if (!v->scatter) NEAR("dx", fetched(&dx, i, j), of_x.value, STORED(of_x));
        }
    for (i = 0; i < M / S; i++)
        for (j = 0; j < R / S; j++) {
            const Slope of_b = SLOPE(&p->b[i * (R / S) + j]);
            NEAR("gradient of b", fetched(&db, i, j), of_b.value + start, error * (1.0 + of_b.size));
        }
    for (i = 0; i < gr; i++)
        for (j = 0; j < gc; j++) {
            const Slope of_gate = SLOPE(&p->gate[i * gc + j]);
            NEAR("gradient of the gate", fetched(&dgate, i, j), of_gate.value + start, error * (1.0 + of_gate.size));
        }
    for (i = 0; linear && i < T; i++)
        for (j = 0; j < N; j++) {
            const Slope of_h = SLOPE(&p->h[i * N + j]);
            NEAR("gradient of h", fetched(&dh, i, j), of_h.value, STORED(of_h));
        }

    for (i = 0; i < 15; i++) matrix_free(all[i]);
    OK(idlora_workspace_close(workspace));
    OK(idlora_plan_close(plan));
}

int main(int count, char **arguments) {
    idlora_device *device;
    Problem *problem = (Problem *)memory(sizeof *problem);
    size_t cases = 0, v;
    uint32_t dtype, gate;
    CHECK(count == 2);
    CHECK(idlora_abi() == IDLORA_ABI);
    OK(idlora_device_open(arguments[1], &device));
    for (v = 0; v < sizeof VARIANTS / sizeof *VARIANTS; v++)
        for (dtype = IDLORA_DTYPE_F32; dtype <= IDLORA_DTYPE_BF16; dtype++)
            for (gate = IDLORA_GATE_INNER; gate <= IDLORA_GATE_STATIC; gate++, cases++) {
                run(arguments[1], device, dtype, gate, &VARIANTS[v], problem);
                printf("%s: %s, dtype %u, gate %u\n", arguments[1], VARIANTS[v].name, (unsigned)dtype, (unsigned)gate);
                fflush(stdout);
            }
    OK(idlora_device_wait(device));
    OK(idlora_device_close(device));
    free(problem);
    printf("%lu cases\n", (unsigned long)cases);
    return 0;
}
