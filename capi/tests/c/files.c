// files DIRECTORY: adapters made from weights, asked, saved, loaded and merged. DIRECTORY does not exist.
#include "check.h"
#include "element.h"
#include "formula.h"

enum { M = 16, N = 6, R = 2, K = 3, T = 4 };

static idlora_matrix weight(const float *data, size_t padding) {
    idlora_matrix w;
    w.data = data, w.rows = M, w.cols = N, w.ld = N + padding;
    return w;
}

static idlora_adapter *made(const idlora_device *device, const char *name, const float *data, size_t padding, uint32_t gate) {
    idlora_config config;
    idlora_report report;
    idlora_adapter *adapter;
    const idlora_matrix w = weight(data, padding);
    size_t sizes[K], ranks[K], i, rows = 0;
    double errors[K];
    memset(&config, 0, sizeof config);
    config.struct_size = sizeof config;
    OK(idlora_config_default(&config));
    CHECK(config.struct_size == sizeof config && config.rank == 16 && config.clusters == 4 && config.min_size == 0);
    CHECK(config.split == 2 && config.max_iterations == 100 && config.seed == 0 && config.alpha == 32.0f);
    CHECK(config.cluster_by == IDLORA_SPACE_FULL && config.select == IDLORA_SELECTION_PIVOTED_QR);
    CHECK(config.gate == IDLORA_GATE_LINEAR_SOFTMAX && config.scaling == IDLORA_SCALING_ALPHA_OVER_RANK);
    CHECK(config.b_init == IDLORA_B_INIT_ZERO);
    config.rank = R, config.clusters = K, config.split = 1, config.alpha = 3.0f, config.gate = gate;
    memset(&report, 0, sizeof report);
    report.struct_size = sizeof report;
    report.cluster_sizes = sizes, report.cluster_ranks = ranks, report.cluster_errors = errors;
    OK(idlora_adapter_create(device, name, IDLORA_DTYPE_F32, &w, &config, &report, &adapter));
    for (i = 0; i < K; i++) {
        rows += sizes[i];
        CHECK(sizes[i] >= R && ranks[i] <= R && errors[i] >= 0.0 && errors[i] < 1.0);
    }
    CHECK(rows == M && report.relative_error >= 0.0 && report.relative_error < 1.0 && report.inertia > 0.0);
    CHECK(report.iterations > 0 && report.converged <= 1 && report.seconds > 0.0);
    return adapter;
}

static idlora_adapter_info described(const idlora_adapter *adapter) {
    idlora_adapter_info info;
    memset(&info, 0, sizeof info);
    info.struct_size = sizeof info;
    OK(idlora_adapter_describe(adapter, &info));
    return info;
}

static void trained(idlora_adapter *adapter, uint32_t seed) {
    const idlora_adapter_info info = described(adapter);
    const size_t b = info.b_rows * info.b_cols, gate = info.gate_rows * info.gate_cols;
    float *values = (float *)memory((b + gate) * sizeof *values);
    size_t i;
    for (i = 0; i < b + gate; i++) values[i] = (float)drawn(&seed);
    OK(idlora_adapter_write(adapter, IDLORA_PARAMETER_B, values, b));
    OK(idlora_adapter_write(adapter, IDLORA_PARAMETER_GATE, values + b, gate));
    REFUSED(idlora_adapter_write(adapter, IDLORA_PARAMETER_B, values, b - 1), IDLORA_STATUS_SHAPE, "length");
    values[2] = NAN;
    REFUSED(idlora_adapter_write(adapter, IDLORA_PARAMETER_B, values, b), IDLORA_STATUS_NON_FINITE, "`b` has NaN");
    free(values);
}

static void check_info(const idlora_adapter *adapter, const char *name, uint32_t gate) {
    const idlora_adapter_info info = described(adapter);
    const int linear = gate == IDLORA_GATE_LINEAR_SOFTMAX;
    size_t i, j;
    CHECK(strcmp(info.name, name) == 0 && info.rows == M && info.cols == N && info.rank == R && info.components == K);
    CHECK(info.split == 1 && info.b_rows == M && info.b_cols == R && info.gate == gate && info.dtype == IDLORA_DTYPE_F32);
    CHECK(info.gate_rows == (linear ? K : 1) && info.gate_cols == (linear ? N : K) && info.scale == 1.5f);
    CHECK(info.trained == M * R + info.gate_rows * info.gate_cols && info.frozen_bytes == 4 * K * R);
    CHECK(info.stored_bytes == info.frozen_bytes + 4 * info.trained && info.optimizer_bytes == 8 * info.trained);
    for (i = 0; i < K * R; i++) {
        CHECK(info.skeleton[i] < M);
        for (j = 0; j < i; j++) CHECK(info.skeleton[i] != info.skeleton[j]);
    }
}

static void same(const idlora_adapter *one, const idlora_adapter *other) {
    const idlora_adapter_info a = described(one), b = described(other);
    uint32_t which;
    CHECK(memcmp(a.skeleton, b.skeleton, K * R * sizeof *a.skeleton) == 0 && memcmp(a.digest, b.digest, 32) == 0);
    CHECK(strcmp(a.name, b.name) == 0 && a.gate == b.gate && a.trained == b.trained);
    for (which = IDLORA_PARAMETER_B; which <= IDLORA_PARAMETER_GATE; which++) {
        const size_t count = which == IDLORA_PARAMETER_B ? a.b_rows * a.b_cols : a.gate_rows * a.gate_cols;
        float *x = (float *)memory(count * sizeof *x), *y = (float *)memory(count * sizeof *y);
        OK(idlora_adapter_read(one, which, x, count));
        OK(idlora_adapter_read(other, which, y, count));
        CHECK(memcmp(x, y, count * sizeof *x) == 0);
        REFUSED(idlora_adapter_read(one, which, x, count + 1), IDLORA_STATUS_SHAPE, "`values` has length");
        free(x), free(y);
    }
}

// The merged weight gives the adapted output, and unmerging brings the weight back.
static void merges(const idlora_device *device, const idlora_adapter *adapter, const float *data) {
    const idlora_adapter_info info = described(adapter);
    const Formula f = {M, N, R, K, 1, T, info.gate, (double)info.scale, info.skeleton, NULL};
    float w[M * N], b[M * R], gate[K];
    double h[T * N], y0[T * M], y[T * M], wide_b[M * R], wide_gate[K];
    uint32_t seed = 5;
    size_t i, j, l;
    idlora_matrix_mut view;
    memcpy(w, data, sizeof w);
    view.data = w, view.rows = M, view.cols = N, view.ld = N;
    OK(idlora_adapter_read(adapter, IDLORA_PARAMETER_B, b, M * R));
    OK(idlora_adapter_read(adapter, IDLORA_PARAMETER_GATE, gate, K));
    for (i = 0; i < M * R; i++) wide_b[i] = (double)b[i];
    for (i = 0; i < K; i++) wide_gate[i] = (double)gate[i];
    for (i = 0; i < T * N; i++) h[i] = drawn(&seed);
    for (i = 0; i < T; i++)
        for (j = 0; j < M; j++)
            for (l = 0, y0[i * M + j] = 0.0; l < N; l++) y0[i * M + j] += (double)data[j * N + l] * h[i * N + l];
    adapted(&f, y0, h, wide_b, wide_gate, y);
    OK(idlora_merge(device, adapter, IDLORA_DTYPE_F32, &view));
    CHECK(memcmp(w, data, sizeof w) != 0);
    for (i = 0; i < T; i++)
        for (j = 0; j < M; j++) {
            double merged = 0.0;
            for (l = 0; l < N; l++) merged += (double)w[j * N + l] * h[i * N + l];
            NEAR("merged output", merged, y[i * M + j], 1e-5);
        }
    OK(idlora_unmerge(device, adapter, IDLORA_DTYPE_F32, &view));
    for (i = 0; i < M * N; i++) NEAR("unmerged weight", w[i], data[i], 1e-4);
}

int main(int count, char **arguments) {
    enum { PADDING = 3 };
    float data[M * N], padded[M * (N + PADDING)];
    idlora_device *device;
    idlora_adapter *one, *two, *again;
    const idlora_adapter *both[2];
    idlora_list *list;
    const char *name;
    size_t number, i;
    uint32_t seed = 3;
    idlora_matrix w;
    CHECK(count == 2);
    for (i = 0; i < M * N; i++) data[i] = (float)drawn(&seed);
    for (i = 0; i < M * (N + PADDING); i++) padded[i] = NAN;
    for (i = 0; i < M * N; i++) padded[i / N * (N + PADDING) + i % N] = data[i];
    OK(idlora_device_open("cpu", &device));
    one = made(device, "layer.0.query", data, 0, IDLORA_GATE_STATIC);
    two = made(device, "layer.0.key", padded, PADDING, IDLORA_GATE_LINEAR_SOFTMAX);
    check_info(one, "layer.0.query", IDLORA_GATE_STATIC);
    check_info(two, "layer.0.key", IDLORA_GATE_LINEAR_SOFTMAX);
    trained(one, 11), trained(two, 12);

    w = weight(padded, PADDING);
    OK(idlora_adapter_check_base(one, IDLORA_DTYPE_F32, &w));
    data[5] += 1.0f;
    w = weight(data, 0);
    REFUSED(idlora_adapter_check_base(one, IDLORA_DTYPE_F32, &w), IDLORA_STATUS_DIGEST, "module `layer.0.query`");
    data[5] -= 1.0f;
    w.rows--;
    REFUSED(idlora_adapter_check_base(one, IDLORA_DTYPE_F32, &w), IDLORA_STATUS_SHAPE, "expected shape [16, 6]");

    both[0] = two, both[1] = one;
    OK(idlora_save(arguments[1], both, 2));
    REFUSED(idlora_save(arguments[1], both, 2), IDLORA_STATUS_IO, "exists");
    OK(idlora_load(arguments[1], &list));
    OK(idlora_list_count(list, &number));
    CHECK(number == 2);
    OK(idlora_list_name(list, 0, &name));
    CHECK(strcmp(name, "layer.0.key") == 0);
    OK(idlora_list_find(list, "layer.0.query", &i));
    CHECK(i == 1);
    REFUSED(idlora_list_find(list, "layer.0.value", &i), IDLORA_STATUS_PARAMETER, "`layer.0.key`, `layer.0.query`");
    REFUSED(idlora_list_name(list, 2, &name), IDLORA_STATUS_PARAMETER, "`index` is 2, expected below 2");
    OK(idlora_list_get(list, i, &again));
    OK(idlora_list_close(list)); // what was got out of it stays
    same(one, again);

    merges(device, again, data);
    w = weight(data, 0);
    {
        idlora_matrix_mut view;
        view.data = data, view.rows = M, view.cols = N, view.ld = N;
        REFUSED(idlora_merge(device, two, IDLORA_DTYPE_F32, &view), IDLORA_STATUS_UNSUPPORTED, "only a Static gate can");
    }
    OK(idlora_adapter_close(again));
    OK(idlora_adapter_close(one));
    OK(idlora_adapter_close(two));
    OK(idlora_device_close(device));
    return 0;
}
