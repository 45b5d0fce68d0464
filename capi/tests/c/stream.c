// stream: a step on a CUDA stream of the caller, against the driver of paper (tests/cuda_driver.c of the library), which runs no
// kernel of the adapter but counts what it is asked for. Linked with that driver.
#include "check.h"

enum { M = 16, N = 8, R = 2, K = 2, S = 2, T = 3, STEPS = 4 };

#ifdef __cplusplus
extern "C" {
#endif
int cuInit(unsigned flags);
int cuDevicePrimaryCtxRetain(void **context, int device);
int cuDevicePrimaryCtxRelease_v2(int device);
int cuCtxSetCurrent(void *context);
int cuStreamCreate(void **stream, unsigned flags);
int cuStreamDestroy_v2(void *stream);
int paper_calls(void);
int paper_launches(void);
void *paper_stream(void);
#ifdef __cplusplus
}
#endif

static const uint32_t SKELETON[K * R] = {3, 1, 8, 15};
static idlora_buffer *buffers[16];
static size_t used;

static idlora_matrix_mut there(const idlora_device *device, size_t rows, size_t cols, size_t element) {
    idlora_matrix_mut view;
    OK(idlora_buffer_create(device, rows * cols * element, &buffers[used]));
    OK(idlora_buffer_address(buffers[used++], &view.data));
    view.rows = rows, view.cols = cols, view.ld = cols;
    return view;
}

static idlora_matrix read_only(idlora_matrix_mut it) {
    idlora_matrix view;
    view.data = it.data, view.rows = it.rows, view.cols = it.cols, view.ld = it.ld;
    return view;
}

static idlora_plan *planned(const idlora_device *device) {
    idlora_module module;
    idlora_plan *plan;
    memset(&module, 0, sizeof module);
    module.struct_size = sizeof module, module.rows = M, module.cols = N, module.rank = R, module.components = K;
    module.split = S, module.skeleton = SKELETON, module.scale = 1.0f, module.gate = IDLORA_GATE_LINEAR_SOFTMAX;
    OK(idlora_plan_module(device, &module, IDLORA_DOWN_GATHER, IDLORA_BIAS_NONE, &plan));
    return plan;
}

static idlora_workspace *workspace_of(const idlora_device *device, const idlora_plan *plan) {
    idlora_workspace *workspace;
    size_t bytes;
    OK(idlora_plan_workspace(plan, IDLORA_DTYPE_BF16, T, &bytes));
    CHECK(bytes > 0);
    OK(idlora_workspace_create(device, bytes, &workspace));
    return workspace;
}

int main(void) {
    void *context, *mine;
    idlora_device *device, *other, *none;
    idlora_plan *plan;
    idlora_workspace *workspace, *elsewhere;
    idlora_forward_operands forward;
    idlora_backward_operands backward;
    int calls, launches, step;
    size_t i;

    // A trainer with a context and a stream of its own.
    CHECK(cuInit(0) == 0 && cuDevicePrimaryCtxRetain(&context, 0) == 0 && cuCtxSetCurrent(context) == 0);
    CHECK(cuStreamCreate(&mine, 1) == 0);
    OK(idlora_device_on_stream(0, mine, &device));
    OK(idlora_device_open("cuda:0", &other));
    REFUSED(idlora_device_on_stream(7, mine, &none), IDLORA_STATUS_DEVICE, "cuda:7");

    plan = planned(device);
    workspace = workspace_of(device, plan);
    memset(&forward, 0, sizeof forward);
    forward.struct_size = sizeof forward, forward.dtype = IDLORA_DTYPE_BF16;
    forward.b = read_only(there(device, M / S, R / S, 4)), forward.gate = read_only(there(device, K, N, 4));
    forward.h = read_only(there(device, T, N, 2)), forward.y = there(device, T, M, 2);
    forward.saved_x = there(device, T, K * R, 2), forward.saved_gate = there(device, T, K, 4);
    forward.saved_z = there(device, T, R, 4);
    memset(&backward, 0, sizeof backward);
    backward.struct_size = sizeof backward, backward.dtype = IDLORA_DTYPE_BF16, backward.accumulate = 1;
    backward.b = forward.b, backward.gate = forward.gate, backward.h = forward.h;
    backward.saved_x = read_only(forward.saved_x), backward.saved_gate = read_only(forward.saved_gate);
    backward.saved_z = read_only(forward.saved_z), backward.scatter = there(device, T, M, 2);
    backward.grad_b = there(device, M / S, R / S, 4), backward.grad_gate = there(device, K, N, 4);

    // The first step loads the kernels; the others launch them on the caller's stream, and ask the driver for nothing else.
    OK(idlora_forward(plan, &forward, workspace));
    OK(idlora_backward(plan, &backward, workspace));
    calls = paper_calls(), launches = paper_launches();
    CHECK(launches > 0);
    for (step = 0; step < STEPS; step++) {
        OK(idlora_forward(plan, &forward, workspace));
        CHECK(paper_stream() == mine);
        OK(idlora_backward(plan, &backward, workspace));
        CHECK(paper_stream() == mine);
    }
    CHECK(paper_calls() == calls && paper_launches() == launches * (STEPS + 1));
    OK(idlora_device_wait(device));
    CHECK(paper_calls() == calls + 1);

    // What is of another stream is told apart where it can be.
    elsewhere = workspace_of(other, plan);
    REFUSED(idlora_forward(plan, &forward, elsewhere), IDLORA_STATUS_OPERAND, "`workspace` lies on another device, or on another stream");

    // In no particular order; the stream is the caller's to destroy.
    OK(idlora_device_close(device));
    OK(idlora_workspace_close(elsewhere));
    OK(idlora_plan_close(plan));
    for (i = 0; i < used; i++) OK(idlora_buffer_close(buffers[i]));
    OK(idlora_workspace_close(workspace));
    OK(idlora_device_close(other));
    CHECK(cuStreamDestroy_v2(mine) == 0);
    CHECK(cuDevicePrimaryCtxRelease_v2(0) == 0);
    return 0;
}
