// refusals DEVICE OTHER DIRECTORY: what is wrong is refused in words, on DEVICE; OTHER is a device that this build has not.
#include "check.h"

enum { M = 8, N = 4, R = 2, K = 2, T = 3 };
#define BAD(call, words) REFUSED(call, IDLORA_STATUS_ARGUMENT, words)

static float numbers[9][64]; // more than any operand has
static const uint32_t SKELETON[K * R] = {0, 3, 5, 6};

static idlora_module module(void) {
    idlora_module it;
    memset(&it, 0, sizeof it);
    it.struct_size = sizeof it;
    it.rows = M, it.cols = N, it.rank = R, it.components = K, it.split = 1;
    it.skeleton = SKELETON, it.scale = 1.0f, it.gate = IDLORA_GATE_STATIC;
    return it;
}

static idlora_matrix matrix(size_t which, size_t rows, size_t cols) {
    idlora_matrix it;
    it.data = numbers[which], it.rows = rows, it.cols = cols, it.ld = 0;
    return it;
}

static idlora_matrix_mut matrix_mut(size_t which, size_t rows, size_t cols) {
    idlora_matrix_mut it;
    it.data = numbers[which], it.rows = rows, it.cols = cols, it.ld = 0;
    return it;
}

static idlora_forward_operands forward(void) {
    idlora_forward_operands it;
    memset(&it, 0, sizeof it);
    it.struct_size = sizeof it, it.dtype = IDLORA_DTYPE_F32;
    it.b = matrix(0, M, R), it.gate = matrix(1, 1, K), it.y = matrix_mut(2, T, M);
    it.saved_x = matrix_mut(3, T, K * R), it.saved_gate = matrix_mut(4, T, K);
    return it;
}

static idlora_backward_operands backward(void) {
    idlora_backward_operands it;
    memset(&it, 0, sizeof it);
    it.struct_size = sizeof it, it.dtype = IDLORA_DTYPE_F32;
    it.b = matrix(0, M, R), it.gate = matrix(1, 1, K), it.scatter = matrix_mut(2, T, M);
    it.saved_x = matrix(3, T, K * R), it.saved_gate = matrix(4, T, K);
    it.grad_b = matrix_mut(5, M, R), it.grad_gate = matrix_mut(6, 1, K);
    return it;
}

static void forwards(const idlora_plan *plan) {
    idlora_forward_operands it = forward();
    OK(idlora_forward(plan, &it, NULL));
    BAD(idlora_forward(NULL, &it, NULL), "`plan` is null");
    BAD(idlora_forward(plan, NULL, NULL), "`operands` is null");
    OK(idlora_forward(plan, &it, NULL)); // and no words are left
    it.struct_size = 0, it.dtype = 1;
    BAD(idlora_forward(plan, &it, NULL), "`operands`: struct_size is 0, expected sizeof(idlora_forward_operands)");
#define FORWARD(change, status, words) it = forward(), change; REFUSED(idlora_forward(plan, &it, NULL), status, words)
    FORWARD(it.dtype = 0, IDLORA_STATUS_ARGUMENT, "`dtype` is 0, expected a value of idlora_dtype: 1, 2, 3");
    FORWARD(it.reserved = 1, IDLORA_STATUS_ARGUMENT, "`reserved` is not 0");
    FORWARD(it.dropout.reserved = 1, IDLORA_STATUS_ARGUMENT, "`reserved` is not 0");
    FORWARD(memset(&it.y, 0, sizeof it.y), IDLORA_STATUS_OPERAND, "`y` is missing");
    FORWARD(memset(&it.b, 0, sizeof it.b), IDLORA_STATUS_OPERAND, "`b` is missing");
    FORWARD(memset(&it.gate, 0, sizeof it.gate), IDLORA_STATUS_OPERAND, "`gate` is missing");
    FORWARD(memset(&it.saved_x, 0, sizeof it.saved_x), IDLORA_STATUS_OPERAND, "`saved_x` is missing; `saved_gate`");
    FORWARD(memset(&it.saved_gate, 0, sizeof it.saved_gate), IDLORA_STATUS_OPERAND, "`saved_gate` is missing; `saved_x`");
    FORWARD((memset(&it.saved_x, 0, 2 * sizeof it.saved_x), it.saved_z = matrix_mut(5, T, R)), IDLORA_STATUS_OPERAND, "`saved_z`");
    FORWARD(it.y.data = NULL, IDLORA_STATUS_ARGUMENT, "`y` is [3, 8], but its data is null");
    FORWARD(it.y.data = (char *)numbers[2] + 2, IDLORA_STATUS_ARGUMENT, "expected a multiple of 4");
    FORWARD(it.y.ld = M - 1, IDLORA_STATUS_ARGUMENT, "`y` has ld 7, expected at least its 8 columns");
    FORWARD(it.y.rows = SIZE_MAX / 4, IDLORA_STATUS_ARGUMENT, "more than memory holds");
    FORWARD(it.y.data = numbers[0], IDLORA_STATUS_ARGUMENT, "`b` and `y` overlap, and `y` is written");
    FORWARD(it.y0 = matrix(2, T, M), IDLORA_STATUS_ARGUMENT, "`y0` and `y` overlap");
    FORWARD(it.saved_x.data = numbers[2] + T * M - 1, IDLORA_STATUS_ARGUMENT, "`y` and `saved_x` overlap");
    FORWARD(it.b = matrix(0, R, M), IDLORA_STATUS_SHAPE, "`b` has shape [2, 8], expected shape [8, 2]");
    FORWARD(it.gate.cols = R + 1, IDLORA_STATUS_SHAPE, "`gate`");
    FORWARD(it.y.cols = M - 1, IDLORA_STATUS_SHAPE, "`y` has shape [3, 7]");
    FORWARD(it.saved_x.cols--, IDLORA_STATUS_SHAPE, "`saved x`");
    FORWARD(it.bias = matrix(5, 1, M), IDLORA_STATUS_OPERAND, "operand `bias` was passed");
    FORWARD(it.bias = matrix(5, M, 1), IDLORA_STATUS_SHAPE, "`bias` has shape [8, 1], expected one row");
    FORWARD(it.dropout.probability = 1.0f, IDLORA_STATUS_PARAMETER, "`dropout probability` is 1");
    FORWARD(it.dropout.probability = NAN, IDLORA_STATUS_PARAMETER, "`dropout probability` is NaN");
    it = forward(); // no tokens, and no memory for them
    it.y.data = NULL, it.y.rows = 0, it.saved_x.data = NULL, it.saved_x.rows = 0, it.saved_gate.data = NULL, it.saved_gate.rows = 0;
    OK(idlora_forward(plan, &it, NULL));
    it = forward();
    memset(&it.saved_x, 0, 2 * sizeof it.saved_x); // inference
    OK(idlora_forward(plan, &it, NULL));
}

static void backwards(const idlora_plan *plan) {
    idlora_backward_operands it = backward();
    OK(idlora_backward(plan, &it, NULL));
    BAD(idlora_backward(NULL, &it, NULL), "`plan` is null");
    BAD(idlora_backward(plan, NULL, NULL), "`operands` is null");
#define BACKWARD(change, status, words) it = backward(), change; REFUSED(idlora_backward(plan, &it, NULL), status, words)
    BACKWARD(it.dtype = 4, IDLORA_STATUS_ARGUMENT, "`dtype` is 4");
    BACKWARD(it.accumulate = 2, IDLORA_STATUS_ARGUMENT, "`accumulate` is 2, expected 0 or 1");
    BACKWARD(it.dropout.reserved = 1, IDLORA_STATUS_ARGUMENT, "`reserved` is not 0");
    BACKWARD(memset(&it.b, 0, sizeof it.b), IDLORA_STATUS_OPERAND, "`b` is missing");
    BACKWARD(memset(&it.gate, 0, sizeof it.gate), IDLORA_STATUS_OPERAND, "`gate` is missing");
    BACKWARD(memset(&it.saved_x, 0, sizeof it.saved_x), IDLORA_STATUS_OPERAND, "`saved_x` is missing");
    BACKWARD(memset(&it.saved_gate, 0, sizeof it.saved_gate), IDLORA_STATUS_OPERAND, "`saved_gate` is missing");
    BACKWARD(memset(&it.grad_b, 0, sizeof it.grad_b), IDLORA_STATUS_OPERAND, "`grad_b` is missing");
    BACKWARD(memset(&it.grad_gate, 0, sizeof it.grad_gate), IDLORA_STATUS_OPERAND, "`grad_gate` is missing");
    BACKWARD(memset(&it.scatter, 0, sizeof it.scatter), IDLORA_STATUS_OPERAND, "`g` is missing");
    BACKWARD((memset(&it.scatter, 0, sizeof it.scatter), it.g = matrix(2, T, M)), IDLORA_STATUS_OPERAND, "`dx` is missing");
    BACKWARD(it.dx = matrix_mut(7, T, K * R), IDLORA_STATUS_OPERAND, "`scatter` was passed together with `g` or `dx`");
    BACKWARD(it.grad_h = matrix_mut(7, T, N), IDLORA_STATUS_OPERAND, "`gradient h_gate`");
    BACKWARD(it.grad_b.data = numbers[0], IDLORA_STATUS_ARGUMENT, "`b` and `grad_b` overlap, and `grad_b` is written");
    BACKWARD(it.scatter.data = numbers[3], IDLORA_STATUS_ARGUMENT, "`saved_x` and `scatter` overlap");
    BACKWARD(it.grad_b.rows--, IDLORA_STATUS_SHAPE, "`gradient b` has shape [7, 2], expected shape [8, 2]");
}

static void plans(const idlora_device *device) {
    idlora_plan *plan = (idlora_plan *)numbers;
    idlora_module it = module();
    static const uint32_t twice[K * R] = {0, 3, 3, 6}, beyond[K * R] = {0, 3, 8, 6};
    size_t bytes;
#define PLAN(change, status, words)                                                                                    \
    it = module(), change; REFUSED(idlora_plan_module(device, &it, 0, 0, &plan), status, words);                       \
    CHECK(plan == NULL)
    PLAN(it.gate = 0, IDLORA_STATUS_ARGUMENT, "`gate` is 0, expected a value of idlora_gate: 1, 2, 3, 4, 5");
    PLAN(it.skeleton = NULL, IDLORA_STATUS_ARGUMENT, "`skeleton` is null");
    PLAN(it.skeleton = twice, IDLORA_STATUS_PARAMETER, "`skeleton` is 3 twice");
    PLAN(it.skeleton = beyond, IDLORA_STATUS_PARAMETER, "`skeleton` is 8");
    PLAN(it.split = 3, IDLORA_STATUS_PARAMETER, "`split` is 3");
    PLAN(it.components = SIZE_MAX, IDLORA_STATUS_PARAMETER, "expected");
    PLAN(it.scale = INFINITY, IDLORA_STATUS_PARAMETER, "`scale` is inf");
    it = module();
    BAD(idlora_plan_module(device, &it, 2, 0, &plan), "`down` is 2, expected a value of idlora_down: 0, 1");
    BAD(idlora_plan_module(device, &it, 0, 3, &plan), "`bias` is 3, expected a value of idlora_bias: 0, 1, 2");
    BAD(idlora_plan_module(device, &it, 0, 0, NULL), "`plan` is null");
    BAD(idlora_plan_module(device, NULL, 0, 0, &plan), "`module` is null");
    BAD(idlora_plan_module(NULL, &it, 0, 0, &plan), "`device` is null");
    BAD(idlora_plan_create(device, NULL, 0, 0, &plan), "`adapter` is null");
    BAD(idlora_plan_create(device, (const idlora_adapter *)device, 0, 0, &plan), "`adapter` is no idlora_adapter");
    OK(idlora_plan_module(device, &it, 0, 0, &plan));
    BAD(idlora_plan_workspace(plan, 0, 1, &bytes), "`dtype` is 0");
    BAD(idlora_plan_workspace(plan, 1, 1, NULL), "`bytes` is null");
    BAD(idlora_plan_workspace(NULL, 1, 1, &bytes), "`plan` is null");
    OK(idlora_plan_close(plan));
}

static void memories(const idlora_device *device) {
    idlora_buffer *buffer;
    idlora_workspace *workspace;
    void *address;
    int16_t data[3] = {1, 2, 3}, back[3] = {0, 0, 0};
    BAD(idlora_buffer_create(NULL, 1, &buffer), "`device` is null");
    CHECK(buffer == NULL);
    REFUSED(idlora_buffer_create(device, SIZE_MAX / 2, &buffer), IDLORA_STATUS_OUT_OF_MEMORY, "buffer");
    OK(idlora_buffer_create(device, sizeof data, &buffer));
    OK(idlora_buffer_read(buffer, back, sizeof back));
    CHECK(back[0] == 0 && back[1] == 0 && back[2] == 0);
    REFUSED(idlora_buffer_write(buffer, data, 2), IDLORA_STATUS_PARAMETER, "`bytes` is 2, expected 6");
    REFUSED(idlora_buffer_read(buffer, data, 7), IDLORA_STATUS_PARAMETER, "`bytes` is 7, expected 6");
    BAD(idlora_buffer_write(buffer, NULL, 6), "`data` is null");
    BAD(idlora_buffer_read(buffer, NULL, 6), "`data` is null");
    BAD(idlora_buffer_read((idlora_buffer *)device, back, 6), "`buffer` is no idlora_buffer");
    OK(idlora_buffer_write(buffer, data, sizeof data));
    OK(idlora_buffer_read(buffer, back, sizeof back));
    CHECK(memcmp(data, back, sizeof data) == 0);
    BAD(idlora_buffer_address(buffer, NULL), "`address` is null");
    OK(idlora_buffer_address(buffer, &address));
    CHECK(address != NULL && (uintptr_t)address % 64 == 0);
    OK(idlora_buffer_close(buffer));
    OK(idlora_buffer_close(NULL));
    OK(idlora_buffer_create(device, 0, &buffer));
    OK(idlora_buffer_read(buffer, NULL, 0));
    OK(idlora_buffer_write(buffer, NULL, 0));
    OK(idlora_buffer_close(buffer));
    BAD(idlora_workspace_create(device, 1, NULL), "`workspace` is null");
    OK(idlora_workspace_create(device, 0, &workspace));
    OK(idlora_workspace_close(workspace));
    OK(idlora_workspace_close(NULL));
}

static void adapters(const idlora_device *device, const char *directory) {
    idlora_config config;
    idlora_adapter_info info;
    idlora_report report;
    idlora_adapter *adapter;
    const idlora_adapter *handles[2];
    idlora_list *list;
    idlora_matrix w = matrix(0, M, N);
    size_t i;
    for (i = 0; i < M * N; i++) numbers[0][i] = (float)(i * i % 7);
    memset(&config, 0, sizeof config);
    BAD(idlora_config_default(&config), "`config`: struct_size is 0");
    BAD(idlora_config_default(NULL), "`config` is null");
    config.struct_size = sizeof config;
    OK(idlora_config_default(&config));
    config.rank = R, config.clusters = K, config.split = 1;
#define CREATE(name, dtype, status, words)                                                                             \
    REFUSED(idlora_adapter_create(device, name, dtype, &w, &config, NULL, &adapter), status, words);                   \
    CHECK(adapter == NULL)
    CREATE(NULL, 1, IDLORA_STATUS_ARGUMENT, "`name` is null");
    CREATE("\xff", 1, IDLORA_STATUS_ARGUMENT, "`name` is not UTF-8");
    CREATE("", 1, IDLORA_STATUS_PARAMETER, "`name` is empty");
    CREATE("m", 0, IDLORA_STATUS_ARGUMENT, "`dtype` is 0");
    config.gate = 6;
    CREATE("m", 1, IDLORA_STATUS_ARGUMENT, "`gate` is 6");
    config.gate = IDLORA_GATE_STATIC, config.min_size = 1;
    CREATE("m", 1, IDLORA_STATUS_PARAMETER, "`min_size` is 1, expected at least the rank, 2");
    config.min_size = 0, numbers[0][6] = NAN;
    CREATE("m", 1, IDLORA_STATUS_NON_FINITE, "`m` has NaN at row 1, column 2");
    numbers[0][6] = 0.5f;
    BAD(idlora_adapter_create(device, "m", 1, NULL, &config, NULL, &adapter), "`w` is null");
    BAD(idlora_adapter_create(device, "m", 1, &w, NULL, NULL, &adapter), "`config` is null");
    BAD(idlora_adapter_create(device, "m", 1, &w, &config, NULL, NULL), "`adapter` is null");
    memset(&report, 0, sizeof report);
    BAD(idlora_adapter_create(device, "m", 1, &w, &config, &report, &adapter), "`report`: struct_size is 0");
    OK(idlora_adapter_create(device, "m", 1, &w, &config, NULL, &adapter));
    memset(&info, 0, sizeof info);
    BAD(idlora_adapter_describe(adapter, &info), "`info`: struct_size is 0");
    BAD(idlora_adapter_read(adapter, 2, numbers[1], 1), "`parameter` is 2, expected a value of idlora_parameter: 0, 1");
    BAD(idlora_adapter_write(NULL, 0, numbers[1], 1), "`adapter` is null");
    handles[0] = adapter, handles[1] = NULL;
    BAD(idlora_save(directory, handles, 2), "`adapters[1]` is null");
    REFUSED(idlora_save(directory, handles, 0), IDLORA_STATUS_OPERAND, "`adapters` is empty");
    handles[1] = adapter;
    REFUSED(idlora_save(directory, handles, 2), IDLORA_STATUS_OPERAND, "two modules named `m`");
    REFUSED(idlora_load(directory, &list), IDLORA_STATUS_IO, directory);
    CHECK(list == NULL);
    BAD(idlora_load(NULL, &list), "`directory` is null");
    BAD(idlora_list_count((idlora_list *)adapter, &i), "`list` is no idlora_list");
    OK(idlora_adapter_close(adapter));
    OK(idlora_adapter_close(NULL));
    OK(idlora_list_close(NULL));
}

int main(int count, char **arguments) {
    idlora_device *device, *other = (idlora_device *)numbers;
    idlora_plan *plan;
    idlora_module it = module();
    CHECK(count == 4);
    CHECK(idlora_last_error()[0] == '\0');
    CHECK(strcmp(idlora_status_name(IDLORA_STATUS_DIGEST), "DIGEST") == 0 && strcmp(idlora_status_name(-1), "UNKNOWN") == 0);
    REFUSED(idlora_device_open(arguments[2], &other), IDLORA_STATUS_DEVICE, arguments[2]);
    CHECK(other == NULL);
    REFUSED(idlora_device_open("", &other), IDLORA_STATUS_DEVICE, "not known to this build");
    BAD(idlora_device_open(NULL, &other), "`name` is null");
    BAD(idlora_device_open("cpu", NULL), "`device` is null");
    REFUSED(idlora_device_on_stream(0, NULL, &other), IDLORA_STATUS_DEVICE, "cuda:0");
    CHECK(other == NULL);
    OK(idlora_device_open(arguments[1], &device));
    OK(idlora_device_wait(device));
    memories(device);
    plans(device);
    adapters(device, arguments[3]);
    if (strcmp(arguments[1], "cpu") == 0) {
        OK(idlora_plan_module(device, &it, 0, 0, &plan));
        OK(idlora_device_close(device)); // the plan keeps what it needs
        forwards(plan);
        backwards(plan);
    } else {
        idlora_forward_operands there = forward();
        idlora_backward_operands back = backward();
        idlora_device *host;
        idlora_workspace *workspace;
        OK(idlora_plan_module(device, &it, 0, 0, &plan));
        BAD(idlora_forward(plan, &there, NULL), "`workspace` is null");
        BAD(idlora_backward(plan, &back, NULL), "`workspace` is null");
        OK(idlora_device_open("cpu", &host));
        OK(idlora_workspace_create(host, 0, &workspace));
        BAD(idlora_forward(plan, &there, workspace), "`workspace` is of \"cpu\"");
        OK(idlora_workspace_close(workspace));
        OK(idlora_workspace_create(device, 0, &workspace));
        there.y.data = (char *)numbers[2] + 2;
        BAD(idlora_forward(plan, &there, workspace), "`y`: matrix view");
        OK(idlora_workspace_close(workspace));
        OK(idlora_device_close(host));
        OK(idlora_device_close(device));
    }
    OK(idlora_plan_close(plan));
    OK(idlora_plan_close(NULL));
    OK(idlora_device_close(NULL));
    return 0;
}
