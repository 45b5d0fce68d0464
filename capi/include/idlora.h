// The C interface of idlora: ID-LoRA adapters on a trainer's own memory and stream.
//
// Generated from capi/src by cbindgen; do not edit.
//
// WHAT HOLDS FOR EVERY FUNCTION
//
// Status      Functions return an idlora_status as int32_t: IDLORA_STATUS_OK, or why the call was refused. idlora_last_error() then
//             has the words, for the calling thread. A refused call has written nothing but nulls to the places of new handles;
//             IDLORA_STATUS_INTERNAL and IDLORA_STATUS_KERNEL may have left outputs half written. No call aborts or unwinds.
// Handles     idlora_device, idlora_buffer, idlora_workspace, idlora_adapter, idlora_list and idlora_plan are made by a call that
//             writes them to its last pointer, and closed once by their *_close. They may be closed in any order: what needs
//             another keeps it. A handle of another kind, or of no kind, is refused where its first bytes tell; using one that
//             was closed is an error that no library can promise to notice.
// Threads     Any thread may use any handle. A function that takes a handle as const may run on it from several threads at
//             a time; one that takes it as not const must be alone with it. CPU work runs on the process's rayon pool, as many
//             threads as the machine has, or RAYON_NUM_THREADS; results are the same bits for every number of threads.
// Pointers    A pointer that is documented as needed must point to what the documentation says, aligned for its type, from
//             the beginning of the call to its end (longer where work is queued: see Order). Null is refused with a message.
// Matrices    Row-major: element (i, j) is data[i * ld + j]. Elements between cols and ld are neither read nor written, but
//             they belong to the span of the matrix: no other thread may write there during a call on the host, and the
//             span of a matrix that is written must not overlap that of another operand of the call. Overlap is refused.
//             All zeros stand for an operand that is absent. One without elements may have data null.
// Where       On the device "cpu" all pointers are of host memory. On "cuda:N" and "vm" the matrices of idlora_forward_operands
//             and idlora_backward_operands lie on the device, and data is an address there; everything else is of the host.
// Order       On the host a call has done its work when it returns. On "cuda:N" idlora_forward and idlora_backward queue it on
//             the device's stream and return: operands must stay as they are until it has run. idlora_buffer_read and
//             idlora_device_wait wait, and tell what a kernel did wrong.
// Sizes       Sizes are in elements unless they say bytes. m and n are rows and cols of the base weight W [m, n], k the components,
//             r the rank, s the split, t the tokens of a call.
// Structs     The first member of a struct that may grow is struct_size: set it to sizeof the struct, and everything else that
//             is not used to 0 (memset). Libraries of the same IDLORA_ABI serve callers of older and newer headers alike.


#ifndef IDLORA_H
#define IDLORA_H

#include <stddef.h>
#include <stdint.h>

// The number of this interface. It changes when something in this header is removed or changes its meaning; what is only
// added leaves it. Compare it with idlora_abi() of the library that was loaded.
#define IDLORA_ABI 1

// What a function returns.
enum idlora_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Done.
    IDLORA_STATUS_OK = 0,
    // A pointer, handle, struct_size or enumeration value that cannot be right, or operands that overlap.
    IDLORA_STATUS_ARGUMENT = 1,
    // An operand of a wrong shape or length.
    IDLORA_STATUS_SHAPE = 2,
    // A parameter outside what the method allows.
    IDLORA_STATUS_PARAMETER = 3,
    // An operand that is needed and absent, or passed and of no use.
    IDLORA_STATUS_OPERAND = 4,
    // NaN or infinity where numbers must be finite.
    IDLORA_STATUS_NON_FINITE = 5,
    // What the method itself excludes.
    IDLORA_STATUS_UNSUPPORTED = 6,
    // Memory that cannot be had.
    IDLORA_STATUS_OUT_OF_MEMORY = 7,
    // A file that does not hold what it should.
    IDLORA_STATUS_FORMAT = 8,
    // The operating system refused to read or write.
    IDLORA_STATUS_IO = 9,
    // A base weight that the adapter was not made from.
    IDLORA_STATUS_DIGEST = 10,
    // A kernel that failed: a defect of the library.
    IDLORA_STATUS_KERNEL = 11,
    // A device that is not there, not known, or that cannot do it.
    IDLORA_STATUS_DEVICE = 12,
    // A panic: a defect of the library. Close the handles that the call took as not const.
    IDLORA_STATUS_INTERNAL = 13,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum idlora_status idlora_status;
#else
typedef int32_t idlora_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Element type of weights and activations. There is no 0: a struct that was not filled in is refused.
enum idlora_dtype
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // float.
    IDLORA_DTYPE_F32 = 1,
    // IEEE binary16, as uint16_t.
    IDLORA_DTYPE_F16 = 2,
    // bfloat16, the upper half of a float, as uint16_t.
    IDLORA_DTYPE_BF16 = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum idlora_dtype idlora_dtype;
#else
typedef uint32_t idlora_dtype;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How the k components of a token are weighted. x_i are its values of component i, h is its input. There is no 0.
enum idlora_gate
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // `<T, x_i>` with a trained T [1, r].
    IDLORA_GATE_INNER = 1,
    // `<T, x_i / rms(x_i)>`, T [1, r].
    IDLORA_GATE_RMS_INNER = 2,
    // (W_g h)_i with a trained W_g [k, n]. Reads h.
    IDLORA_GATE_LINEAR = 3,
    // softmax(W_g h)_i, W_g [k, n]. Reads h. The default.
    IDLORA_GATE_LINEAR_SOFTMAX = 4,
    // A trained constant per component [1, k]; the only gate that can be merged.
    IDLORA_GATE_STATIC = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum idlora_gate idlora_gate;
#else
typedef uint32_t idlora_gate;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Where rows are compared when they are clustered.
enum idlora_space
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // The rows themselves.
    IDLORA_SPACE_FULL = 0,
    // Rows scaled to unit length.
    IDLORA_SPACE_DIRECTION = 1,
    // Norms of rows.
    IDLORA_SPACE_NORM = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum idlora_space idlora_space;
#else
typedef uint32_t idlora_space;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Which r rows of a cluster are chosen.
enum idlora_selection
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // Pivots of a pivoted QR: the interpolative decomposition.
    IDLORA_SELECTION_PIVOTED_QR = 0,
    // Nearest to the centroid.
    IDLORA_SELECTION_CENTROID = 1,
    // Pivoted QR of a random sketch.
    IDLORA_SELECTION_SKETCH = 2,
    // Largest norm.
    IDLORA_SELECTION_NORM = 3,
    // Random, seeded.
    IDLORA_SELECTION_RANDOM = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum idlora_selection idlora_selection;
#else
typedef uint32_t idlora_selection;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The factor on the update.
enum idlora_scaling
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // alpha / r.
    IDLORA_SCALING_ALPHA_OVER_RANK = 0,
    // alpha / sqrt(r).
    IDLORA_SCALING_ALPHA_OVER_SQRT_RANK = 1,
    // 1.
    IDLORA_SCALING_ONE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum idlora_scaling idlora_scaling;
#else
typedef uint32_t idlora_scaling;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How the shared matrix B starts.
enum idlora_b_init
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // 0: the adapted model starts equal to the base model.
    IDLORA_B_INIT_ZERO = 0,
    // Normal with variance 1/r, seeded: for tests and for porting.
    IDLORA_B_INIT_NORMAL = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum idlora_b_init idlora_b_init;
#else
typedef uint32_t idlora_b_init;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Where the values x of the chosen rows come from.
enum idlora_down
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // The chosen columns of the base output: exact where that is the linear layer's own output, before any activation,
    // after the all-reduce of a row-parallel layer, without dropout on its input.
    IDLORA_DOWN_GATHER = 0,
    // An explicit `H W[S]^T` elsewhere. The forward reads h and w.
    IDLORA_DOWN_GEMM = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum idlora_down idlora_down;
#else
typedef uint32_t idlora_down;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What the base layer did with its bias.
enum idlora_bias
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // It has none.
    IDLORA_BIAS_NONE = 0,
    // The base output includes it. The forward reads bias.
    IDLORA_BIAS_INCLUDED = 1,
    // The base output is without it; the forward reads bias and adds it.
    IDLORA_BIAS_SEPARATE = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum idlora_bias idlora_bias;
#else
typedef uint32_t idlora_bias;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A trained tensor of an adapter.
enum idlora_parameter
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    // The shared matrix B [m/s, r/s].
    IDLORA_PARAMETER_B = 0,
    // The gate's: [1, r], [k, n] or [1, k].
    IDLORA_PARAMETER_GATE = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum idlora_parameter idlora_parameter;
#else
typedef uint32_t idlora_parameter;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// An adapter of one module: chosen rows, B, the gate's parameters, the configuration, the digest of its base weight.
typedef struct idlora_adapter idlora_adapter;

// Memory of a device: for programs without CUDA of their own, and for programs that run on every device alike.
typedef struct idlora_buffer idlora_buffer;

// Where work runs.
typedef struct idlora_device idlora_device;

// The adapters of a file.
typedef struct idlora_list idlora_list;

// A module on a device, checked once: its shape, its gate, its chosen rows (on a device: uploaded), the factor on its update.
typedef struct idlora_plan idlora_plan;

// What kernels need between them; on "cpu" nothing.
typedef struct idlora_workspace idlora_workspace;

// A matrix that is read. All 0: absent.
typedef struct idlora_matrix {
    // Its first element: a pointer on the host, an address on a device.
    const void *data;
    // Rows.
    size_t rows;
    // Columns.
    size_t cols;
    // Elements between the starts of two rows, at least cols; 0 stands for cols.
    size_t ld;
} idlora_matrix;

// Everything that decides an adapter, apart from the weight W [m, n] and the module's name. Start from
// idlora_config_default.
typedef struct idlora_config {
    // sizeof(idlora_config).
    size_t struct_size;
    // Rank r of a component (16). r * clusters <= m.
    size_t rank;
    // Components k (4).
    size_t clusters;
    // Fewest rows in a cluster, at least the rank; 0 stands for the rank (0).
    size_t min_size;
    // Split s of the shared matrix (2); divides the rank and m.
    size_t split;
    // Steps of the clustering at most (100).
    size_t max_iterations;
    // Seed of everything random (0). Modules of one model share it: their names make them differ.
    uint64_t seed;
    // alpha, of which the factor on the update is made (32).
    float alpha;
    // An idlora_space: where rows are compared (IDLORA_SPACE_FULL).
    uint32_t cluster_by;
    // An idlora_selection: which rows of a cluster are chosen (IDLORA_SELECTION_PIVOTED_QR).
    uint32_t select;
    // An idlora_gate: how components are weighted (IDLORA_GATE_LINEAR_SOFTMAX).
    uint32_t gate;
    // An idlora_scaling: the factor on the update (IDLORA_SCALING_ALPHA_OVER_RANK).
    uint32_t scaling;
    // An idlora_b_init: how B starts (IDLORA_B_INIT_ZERO).
    uint32_t b_init;
} idlora_config;

// What making an adapter found. The three arrays are the caller's, with room for as many numbers as the configuration has
// clusters, or null.
typedef struct idlora_report {
    // sizeof(idlora_report).
    size_t struct_size;
    // |W - W A^+ A| / |W| in Frobenius norms, A the chosen rows: 0 if they span all rows of W.
    double relative_error;
    // Sum of squared distances to the centroids, in the space where rows are compared.
    double inertia;
    // Wall-clock seconds.
    double seconds;
    // Steps of the clustering.
    size_t iterations;
    // 1 if the clustering stopped by itself, 0 if at max_iterations.
    uint32_t converged;
    // 0.
    uint32_t reserved;
    // In: where to write rows per cluster, or null.
    size_t *cluster_sizes;
    // In: where to write the rank that was reached in each cluster, or null.
    size_t *cluster_ranks;
    // In: where to write the relative error of each cluster against its own chosen rows, or null.
    double *cluster_errors;
} idlora_report;

// What an adapter is and costs. Pointers are the adapter's, and good until it is closed.
typedef struct idlora_adapter_info {
    // sizeof(idlora_adapter_info).
    size_t struct_size;
    // The module's name, UTF-8.
    const char *name;
    // Chosen rows of W, [k, r] row-major, all distinct.
    const uint32_t *skeleton;
    // m, output features.
    size_t rows;
    // n, input features.
    size_t cols;
    // r.
    size_t rank;
    // k.
    size_t components;
    // s.
    size_t split;
    // Rows of B: m/s.
    size_t b_rows;
    // Columns of B: r/s.
    size_t b_cols;
    // Rows of the gate's parameters: 1 or k.
    size_t gate_rows;
    // Columns of the gate's parameters: r, n or k.
    size_t gate_cols;
    // Trained numbers: those of B and of the gate.
    size_t trained;
    // Bytes frozen beside the base weight: the row numbers.
    size_t frozen_bytes;
    // Bytes of tensor data in the adapter's file.
    size_t stored_bytes;
    // Bytes of AdamW's state.
    size_t optimizer_bytes;
    // The factor on the update.
    float scale;
    // An idlora_gate.
    uint32_t gate;
    // An idlora_dtype: the element type of the base weight.
    uint32_t dtype;
    // 0.
    uint32_t reserved;
    // SHA-256 of the base weight.
    uint8_t digest[32];
} idlora_adapter_info;

// A matrix that is written. All 0: absent.
typedef struct idlora_matrix_mut {
    // Its first element: a pointer on the host, an address on a device.
    void *data;
    // Rows.
    size_t rows;
    // Columns.
    size_t cols;
    // Elements between the starts of two rows, at least cols; 0 stands for cols.
    size_t ld;
} idlora_matrix_mut;

// A module without a handle of its adapter: for trainers that keep row numbers, B and gate in files of their own.
typedef struct idlora_module {
    // sizeof(idlora_module).
    size_t struct_size;
    // m, output features.
    size_t rows;
    // n, input features.
    size_t cols;
    // r; k * r is at most m.
    size_t rank;
    // k.
    size_t components;
    // s; divides r and m.
    size_t split;
    // Chosen rows of W, [k, r] row-major, all distinct, in host memory. Copied.
    const uint32_t *skeleton;
    // The factor on the update.
    float scale;
    // An idlora_gate.
    uint32_t gate;
} idlora_module;

// Dropout on x, in training only: the same values in a forward and its backward draw the same mask. Element (token, c) of
// x [t, k*r] is dropped where word c % 4 of Philox4x32-10 at counter (lo(token), hi(token), c / 4, 0), key (lo(seed), hi(seed)),
// token counted from offset, is below floor(probability * 2^32); the others are multiplied by 1 / (1 - probability).
typedef struct idlora_dropout {
    // Seed of the mask; change it every step.
    uint64_t seed;
    // Tokens that came before row 0, of earlier micro-batches of the step.
    uint64_t offset;
    // Probability that an element is dropped, in [0, 1); 0 is no dropout.
    float probability;
    // 0.
    uint32_t reserved;
} idlora_dropout;

// What a forward reads and writes. "Elements" are of `dtype`; t is the rows of y, and may be 0.
typedef struct idlora_forward_operands {
    // sizeof(idlora_forward_operands).
    size_t struct_size;
    // An idlora_dtype: the element type of h, w, bias, y0, y and saved_x.
    uint32_t dtype;
    // 0.
    uint32_t reserved;
    // The shared matrix B [m/s, r/s], float. Needed.
    struct idlora_matrix b;
    // The gate's parameters, float: [1, r] (inner gates), [k, n] (linear gates) or [1, k] (static). Needed.
    struct idlora_matrix gate;
    // The layer's input H [t, n], elements. Needed by linear gates and by IDLORA_DOWN_GEMM; others do not look at it.
    struct idlora_matrix h;
    // The base weight W [m, n], elements. Needed by IDLORA_DOWN_GEMM; others do not look at it.
    struct idlora_matrix w;
    // The base bias [1, m], elements. Needed unless the plan has IDLORA_BIAS_NONE, which refuses one.
    struct idlora_matrix bias;
    // Dropout on x.
    struct idlora_dropout dropout;
    // The base output Y0 [t, m], elements, where it is to stay as it is. Absent: y holds it.
    struct idlora_matrix y0;
    // Receives the adapted output Y [t, m], elements. Without y0 it holds Y0 before. Needed.
    struct idlora_matrix_mut y;
    // Receives X [t, k*r], elements, for the backward. Absent in inference, together with the next two.
    struct idlora_matrix_mut saved_x;
    // Receives the gate's values [t, k], float, for the backward.
    struct idlora_matrix_mut saved_gate;
    // Receives z [t, r], float: on a device it saves the backward a pass over X. May be absent.
    struct idlora_matrix_mut saved_z;
} idlora_forward_operands;

// What a backward reads and writes: parameters, h and dropout are those of its forward. G = dL/dY.
typedef struct idlora_backward_operands {
    // sizeof(idlora_backward_operands).
    size_t struct_size;
    // An idlora_dtype: the element type of h, saved_x, scatter, g, dx and grad_h.
    uint32_t dtype;
    // 1: add to grad_b and grad_gate (micro-batches); 0: overwrite them.
    uint32_t accumulate;
    // The shared matrix B [m/s, r/s], float. Needed.
    struct idlora_matrix b;
    // The gate's parameters, float, as in the forward. Needed.
    struct idlora_matrix gate;
    // The layer's input H [t, n], elements. Needed by linear gates; others do not look at it.
    struct idlora_matrix h;
    // Dropout on x.
    struct idlora_dropout dropout;
    // X [t, k*r], elements, as the forward has saved it. Needed.
    struct idlora_matrix saved_x;
    // The gate's values [t, k], float, as the forward has saved them. Needed.
    struct idlora_matrix saved_gate;
    // z [t, r], float, if the forward has saved it.
    struct idlora_matrix saved_z;
    // G [t, m], elements, which becomes dL/dY0: dX is added to its chosen columns. This, or g and dx.
    struct idlora_matrix_mut scatter;
    // G [t, m], elements, which stays as it is. Only without scatter.
    struct idlora_matrix g;
    // Receives dX [t, k*r], elements, for `dL/dH = G W + dX W[S]`. With g.
    struct idlora_matrix_mut dx;
    // Receives dL/dB [m/s, r/s], float. Needed.
    struct idlora_matrix_mut grad_b;
    // Receives the gradient of the gate's parameters, of their shape, float. Needed.
    struct idlora_matrix_mut grad_gate;
    // Receives a linear gate's share of dL/dH [t, n], elements, overwritten. May be absent; refused for other gates.
    struct idlora_matrix_mut grad_h;
} idlora_backward_operands;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The number of the interface that the library has: `IDLORA_ABI` of its header.
uint32_t idlora_abi(void);

// The library's version, such as "0.1.0". Never freed.
const char *idlora_version(void);

// Makes the adapter of module `name` from its base weight W [m, n] in host memory, elements of `dtype` (an idlora_dtype): clusters
// the rows, chooses r of each cluster, starts B and the gate. The clustering runs on `device`. The same input gives the same
// bits, whatever the number of threads. `report` may be null.
int32_t idlora_adapter_create(const struct idlora_device *device,
                              const char *name,
                              uint32_t dtype,
                              const struct idlora_matrix *w,
                              const struct idlora_config *config,
                              struct idlora_report *report,
                              struct idlora_adapter **adapter);

// What an adapter is and costs. struct_size of `info` must be set.
int32_t idlora_adapter_describe(const struct idlora_adapter *adapter, struct idlora_adapter_info *info);

// The configuration that an adapter was made with. struct_size of `config` must be set.
int32_t idlora_adapter_config(const struct idlora_adapter *adapter, struct idlora_config *config);

// Copies a trained tensor (an idlora_parameter) to `values`, host memory of `count` floats, which is all of it, row by row.
int32_t idlora_adapter_read(const struct idlora_adapter *adapter,
                            uint32_t parameter,
                            float *values,
                            size_t count);

// Overwrites a trained tensor (an idlora_parameter) with `count` floats of host memory, which is all of it, row by row: before
// idlora_save and idlora_merge, where a trainer holds B and the gate in memory of its own. NaN and infinity are refused.
int32_t idlora_adapter_write(struct idlora_adapter *adapter,
                             uint32_t parameter,
                             const float *values,
                             size_t count);

// Closes an adapter. Plans that were made of it stay. Null is none.
int32_t idlora_adapter_close(struct idlora_adapter *adapter);

// Fills in the defaults, which stand in brackets above. struct_size must be set.
int32_t idlora_config_default(struct idlora_config *config);

// Opens a device by name: "cpu"; "cuda" (the first) or "cuda:N", with the default stream of its primary context; "vm", a virtual
// machine that runs the CUDA kernels on the CPU, checked, for tests. Which there are depends on how the library was built
// (cargo features cuda and vm) and on the machine; why one is not there is in idlora_last_error().
int32_t idlora_device_open(const char *name,
                           struct idlora_device **device);

// Opens CUDA device number `ordinal` on a stream of the caller: a CUstream or cudaStream_t of the device's primary context, or
// null for its default stream. The stream is borrowed: it is not destroyed, and must stay until this handle and every
// buffer, workspace and plan made with it are closed. Everything the device is asked for is queued there, so it is in
// order with whatever else the caller queues on it.
int32_t idlora_device_on_stream(size_t ordinal,
                                void *stream,
                                struct idlora_device **device);

// Waits until everything queued on the device so far has run; at once on "cpu" and "vm". Tells what went wrong there.
int32_t idlora_device_wait(const struct idlora_device *device);

// Closes a device. Null is none.
int32_t idlora_device_close(struct idlora_device *device);

// Writes `count` adapters to the folder `directory`, which must not exist (its parent must), as one safetensors file in it. It
// either is all there at the end or does not exist. Names must differ, and all numbers must be finite.
int32_t idlora_save(const char *directory,
                    const struct idlora_adapter *const *adapters,
                    size_t count);

// Reads the adapters of the folder `directory`, in the order in which they were saved.
int32_t idlora_load(const char *directory, struct idlora_list **list);

// How many adapters a list has.
int32_t idlora_list_count(const struct idlora_list *list, size_t *count);

// The name of adapter `index`, UTF-8: the list's, and good until it is closed.
int32_t idlora_list_name(const struct idlora_list *list, size_t index, const char **name);

// The index of the adapter of module `name`.
int32_t idlora_list_find(const struct idlora_list *list, const char *name, size_t *index);

// A copy of adapter `index`, which is the caller's to close.
int32_t idlora_list_get(const struct idlora_list *list, size_t index, struct idlora_adapter **adapter);

// Closes a list. Null is none.
int32_t idlora_list_close(struct idlora_list *list);

// Memory of `bytes` bytes on a device ("cpu" included), all 0, aligned for every element. Freed by idlora_buffer_close, in the
// order of the device's stream: what was queued before still has it.
int32_t idlora_buffer_create(const struct idlora_device *device,
                             size_t bytes,
                             struct idlora_buffer **buffer);

// Where the buffer's first byte lies, as the matrices of a call take it: a pointer on "cpu", a device address elsewhere, which
// the host must not read.
int32_t idlora_buffer_address(const struct idlora_buffer *buffer,
                              void **address);

// Copies `bytes` bytes of host memory to the buffer, all of it, behind everything queued so far, and waits until that is done.
int32_t idlora_buffer_write(struct idlora_buffer *buffer,
                            const void *data,
                            size_t bytes);

// Copies the buffer, all of its `bytes` bytes, to host memory, behind everything queued so far. Waits, and tells what went wrong
// on the device before.
int32_t idlora_buffer_read(const struct idlora_buffer *buffer,
                           void *data,
                           size_t bytes);

// Frees a buffer. Null is none.
int32_t idlora_buffer_close(struct idlora_buffer *buffer);

// A workspace of `bytes` bytes on a device, as idlora_plan_workspace says. One serves every plan of the device's stream in
// turn, as large as the most demanding one needs. On "cpu" it holds nothing.
int32_t idlora_workspace_create(const struct idlora_device *device,
                                size_t bytes,
                                struct idlora_workspace **workspace);

// Frees a workspace, in the order of the device's stream. Null is none.
int32_t idlora_workspace_close(struct idlora_workspace *workspace);

// Whether W [m, n] in host memory is the very weight that the adapter was made from, to the bit and to the element type; if not,
// IDLORA_STATUS_DIGEST. One pass over it.
int32_t idlora_adapter_check_base(const struct idlora_adapter *adapter,
                                  uint32_t dtype,
                                  const struct idlora_matrix *w);

// Writes the update into the base weight W [m, n] in host memory, elements of `dtype`, so that the base layer alone gives the
// adapted output: with the adapter's own B and gate (idlora_adapter_write), static gates only. Runs on `device`.
int32_t idlora_merge(const struct idlora_device *device,
                     const struct idlora_adapter *adapter,
                     uint32_t dtype,
                     const struct idlora_matrix_mut *w);

// Undoes idlora_merge, up to rounding, with the very B and gate that were merged.
int32_t idlora_unmerge(const struct idlora_device *device,
                       const struct idlora_adapter *adapter,
                       uint32_t dtype,
                       const struct idlora_matrix_mut *w);

// Plans an adapter's module on a device. `down` is an idlora_down, `bias` an idlora_bias. The plan copies what it needs; B
// and the gate's parameters come with every call.
int32_t idlora_plan_create(const struct idlora_device *device,
                           const struct idlora_adapter *adapter,
                           uint32_t down,
                           uint32_t bias,
                           struct idlora_plan **plan);

// The same for a module that the caller describes.
int32_t idlora_plan_module(const struct idlora_device *device,
                           const struct idlora_module *module,
                           uint32_t down,
                           uint32_t bias,
                           struct idlora_plan **plan);

// Bytes of workspace that both directions need for up to `tokens` tokens of elements of `dtype`; 0 on "cpu".
int32_t idlora_plan_workspace(const struct idlora_plan *plan, uint32_t dtype, size_t tokens, size_t *bytes);

// The adapted output of t tokens. On a device it is queued, and needs a workspace of the same device; on "cpu" `workspace` may
// be null. Nothing is allocated on the device, copied or waited for, so a CUDA graph can capture it after a first run.
int32_t idlora_forward(const struct idlora_plan *plan,
                       const struct idlora_forward_operands *operands,
                       struct idlora_workspace *workspace);

// The gradients of a forward. As idlora_forward.
int32_t idlora_backward(const struct idlora_plan *plan,
                        const struct idlora_backward_operands *operands,
                        struct idlora_workspace *workspace);

// Closes a plan. Null is none.
int32_t idlora_plan_close(struct idlora_plan *plan);

// Why the last call of this thread was refused, as one line of UTF-8; "" if it went well. Calls that return no status do
// not count. Owned by the library, and good until the thread's next call that returns a status.
const char *idlora_last_error(void);

// The name of a status without its prefix, such as "SHAPE"; "UNKNOWN" for other numbers. Never freed.
const char *idlora_status_name(int32_t status);

// Why the last call of this thread was refused, as one line of UTF-8; "" if it went well. Calls that return no status do
// not count. Owned by the library, and good until the thread's next call that returns a status.
const char *idlora_last_error(void);

// The name of a status without its prefix, such as "SHAPE"; "UNKNOWN" for other numbers. Never freed.
const char *idlora_status_name(int32_t status);

// Opens a device by name: "cpu"; "cuda" (the first) or "cuda:N", with the default stream of its primary context; "vm", a virtual
// machine that runs the CUDA kernels on the CPU, checked, for tests. Which there are depends on how the library was built
// (cargo features cuda and vm) and on the machine; why one is not there is in idlora_last_error().
int32_t idlora_device_open(const char *name,
                           struct idlora_device **device);

// Opens CUDA device number `ordinal` on a stream of the caller: a CUstream or cudaStream_t of the device's primary context, or
// null for its default stream. The stream is borrowed: it is not destroyed, and must stay until this handle and every
// buffer, workspace and plan made with it are closed. Everything the device is asked for is queued there, so it is in
// order with whatever else the caller queues on it.
int32_t idlora_device_on_stream(size_t ordinal,
                                void *stream,
                                struct idlora_device **device);

// Waits until everything queued on the device so far has run; at once on "cpu" and "vm". Tells what went wrong there.
int32_t idlora_device_wait(const struct idlora_device *device);

// Closes a device. Null is none.
int32_t idlora_device_close(struct idlora_device *device);

// Memory of `bytes` bytes on a device ("cpu" included), all 0, aligned for every element. Freed by idlora_buffer_close, in the
// order of the device's stream: what was queued before still has it.
int32_t idlora_buffer_create(const struct idlora_device *device,
                             size_t bytes,
                             struct idlora_buffer **buffer);

// Where the buffer's first byte lies, as the matrices of a call take it: a pointer on "cpu", a device address elsewhere, which
// the host must not read.
int32_t idlora_buffer_address(const struct idlora_buffer *buffer,
                              void **address);

// Copies `bytes` bytes of host memory to the buffer, all of it, behind everything queued so far, and waits until that is done.
int32_t idlora_buffer_write(struct idlora_buffer *buffer,
                            const void *data,
                            size_t bytes);

// Copies the buffer, all of its `bytes` bytes, to host memory, behind everything queued so far. Waits, and tells what went wrong
// on the device before.
int32_t idlora_buffer_read(const struct idlora_buffer *buffer,
                           void *data,
                           size_t bytes);

// Frees a buffer. Null is none.
int32_t idlora_buffer_close(struct idlora_buffer *buffer);

// A workspace of `bytes` bytes on a device, as idlora_plan_workspace says. One serves every plan of the device's stream in
// turn, as large as the most demanding one needs. On "cpu" it holds nothing.
int32_t idlora_workspace_create(const struct idlora_device *device,
                                size_t bytes,
                                struct idlora_workspace **workspace);

// Frees a workspace, in the order of the device's stream. Null is none.
int32_t idlora_workspace_close(struct idlora_workspace *workspace);

// Fills in the defaults, which stand in brackets above. struct_size must be set.
int32_t idlora_config_default(struct idlora_config *config);

// Makes the adapter of module `name` from its base weight W [m, n] in host memory, elements of `dtype` (an idlora_dtype): clusters
// the rows, chooses r of each cluster, starts B and the gate. The clustering runs on `device`. The same input gives the same
// bits, whatever the number of threads. `report` may be null.
int32_t idlora_adapter_create(const struct idlora_device *device,
                              const char *name,
                              uint32_t dtype,
                              const struct idlora_matrix *w,
                              const struct idlora_config *config,
                              struct idlora_report *report,
                              struct idlora_adapter **adapter);

// What an adapter is and costs. struct_size of `info` must be set.
int32_t idlora_adapter_describe(const struct idlora_adapter *adapter, struct idlora_adapter_info *info);

// The configuration that an adapter was made with. struct_size of `config` must be set.
int32_t idlora_adapter_config(const struct idlora_adapter *adapter, struct idlora_config *config);

// Copies a trained tensor (an idlora_parameter) to `values`, host memory of `count` floats, which is all of it, row by row.
int32_t idlora_adapter_read(const struct idlora_adapter *adapter,
                            uint32_t parameter,
                            float *values,
                            size_t count);

// Overwrites a trained tensor (an idlora_parameter) with `count` floats of host memory, which is all of it, row by row: before
// idlora_save and idlora_merge, where a trainer holds B and the gate in memory of its own. NaN and infinity are refused.
int32_t idlora_adapter_write(struct idlora_adapter *adapter,
                             uint32_t parameter,
                             const float *values,
                             size_t count);

// Closes an adapter. Plans that were made of it stay. Null is none.
int32_t idlora_adapter_close(struct idlora_adapter *adapter);

// Whether W [m, n] in host memory is the very weight that the adapter was made from, to the bit and to the element type; if not,
// IDLORA_STATUS_DIGEST. One pass over it.
int32_t idlora_adapter_check_base(const struct idlora_adapter *adapter,
                                  uint32_t dtype,
                                  const struct idlora_matrix *w);

// Writes the update into the base weight W [m, n] in host memory, elements of `dtype`, so that the base layer alone gives the
// adapted output: with the adapter's own B and gate (idlora_adapter_write), static gates only. Runs on `device`.
int32_t idlora_merge(const struct idlora_device *device,
                     const struct idlora_adapter *adapter,
                     uint32_t dtype,
                     const struct idlora_matrix_mut *w);

// Undoes idlora_merge, up to rounding, with the very B and gate that were merged.
int32_t idlora_unmerge(const struct idlora_device *device,
                       const struct idlora_adapter *adapter,
                       uint32_t dtype,
                       const struct idlora_matrix_mut *w);

// Writes `count` adapters to the folder `directory`, which must not exist (its parent must), as one safetensors file in it. It
// either is all there at the end or does not exist. Names must differ, and all numbers must be finite.
int32_t idlora_save(const char *directory,
                    const struct idlora_adapter *const *adapters,
                    size_t count);

// Reads the adapters of the folder `directory`, in the order in which they were saved.
int32_t idlora_load(const char *directory, struct idlora_list **list);

// How many adapters a list has.
int32_t idlora_list_count(const struct idlora_list *list, size_t *count);

// The name of adapter `index`, UTF-8: the list's, and good until it is closed.
int32_t idlora_list_name(const struct idlora_list *list, size_t index, const char **name);

// The index of the adapter of module `name`.
int32_t idlora_list_find(const struct idlora_list *list, const char *name, size_t *index);

// A copy of adapter `index`, which is the caller's to close.
int32_t idlora_list_get(const struct idlora_list *list, size_t index, struct idlora_adapter **adapter);

// Closes a list. Null is none.
int32_t idlora_list_close(struct idlora_list *list);

// Plans an adapter's module on a device. `down` is an idlora_down, `bias` an idlora_bias. The plan copies what it needs; B
// and the gate's parameters come with every call.
int32_t idlora_plan_create(const struct idlora_device *device,
                           const struct idlora_adapter *adapter,
                           uint32_t down,
                           uint32_t bias,
                           struct idlora_plan **plan);

// The same for a module that the caller describes.
int32_t idlora_plan_module(const struct idlora_device *device,
                           const struct idlora_module *module,
                           uint32_t down,
                           uint32_t bias,
                           struct idlora_plan **plan);

// Bytes of workspace that both directions need for up to `tokens` tokens of elements of `dtype`; 0 on "cpu".
int32_t idlora_plan_workspace(const struct idlora_plan *plan, uint32_t dtype, size_t tokens, size_t *bytes);

// The adapted output of t tokens. On a device it is queued, and needs a workspace of the same device; on "cpu" `workspace` may
// be null. Nothing is allocated on the device, copied or waited for, so a CUDA graph can capture it after a first run.
int32_t idlora_forward(const struct idlora_plan *plan,
                       const struct idlora_forward_operands *operands,
                       struct idlora_workspace *workspace);

// The gradients of a forward. As idlora_forward.
int32_t idlora_backward(const struct idlora_plan *plan,
                        const struct idlora_backward_operands *operands,
                        struct idlora_workspace *workspace);

// Closes a plan. Null is none.
int32_t idlora_plan_close(struct idlora_plan *plan);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* IDLORA_H */
