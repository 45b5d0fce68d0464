#include <idlora.h>
#include <stdio.h>
#include <string.h>

static int failed(int32_t status) { // true, and the library's words, if a call was refused
    if (status != IDLORA_STATUS_OK) fprintf(stderr, "%s: %s\n", idlora_status_name(status), idlora_last_error());
    return status != IDLORA_STATUS_OK;
}

int main(void) {
    enum { M = 8, N = 6, T = 3, R = 2, K = 2 };
    float w[M * N], y[T * M], b[M * R], gate[K];
    for (int i = 0; i < M * N; i++) w[i] = (float)(i * i % 11) - 5.0f; // the pretrained weight
    for (int i = 0; i < T * M; i++) y[i] = (float)(i % 5);             // the base layer's output

    idlora_config config;
    config.struct_size = sizeof config;
    if (failed(idlora_config_default(&config))) return 1;
    config.rank = R, config.clusters = K, config.split = 1, config.gate = IDLORA_GATE_STATIC;

    idlora_device *device;
    idlora_adapter *adapter;
    idlora_plan *plan;
    const idlora_matrix weight = {w, M, N, N};
    if (failed(idlora_device_open("cpu", &device))) return 1;
    if (failed(idlora_adapter_create(device, "query", IDLORA_DTYPE_F32, &weight, &config, NULL, &adapter))) return 1;
    if (failed(idlora_plan_create(device, adapter, IDLORA_DOWN_GATHER, IDLORA_BIAS_NONE, &plan))) return 1;
    if (failed(idlora_adapter_read(adapter, IDLORA_PARAMETER_GATE, gate, K))) return 1;
    for (int i = 0; i < M * R; i++) b[i] = 0.1f; // what a trainer has made of B

    idlora_forward_operands call;
    memset(&call, 0, sizeof call); // absent is all zeros
    call.struct_size = sizeof call, call.dtype = IDLORA_DTYPE_F32;
    call.b = (idlora_matrix){b, M, R, R}, call.gate = (idlora_matrix){gate, 1, K, K};
    call.y = (idlora_matrix_mut){y, T, M, M}; // in place
    if (failed(idlora_forward(plan, &call, NULL))) return 1;
    printf("y[0] = %g\n", (double)y[0]);

    return failed(idlora_plan_close(plan)) | failed(idlora_adapter_close(adapter)) | failed(idlora_device_close(device));
}
