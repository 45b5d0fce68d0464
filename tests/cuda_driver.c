// A CUDA driver of paper: what `src/gpu/cuda` calls of libcuda, on the host's memory, as strict as the real one and stricter.
//
// Copies to the device, copies back, frees and launches are queued and done when somebody waits, at the latest moment that the
// real driver allows. Pointers must lie in live allocations, contexts must be current, images must be whole. Of the kernels it knows
// one: `norm_rows` of float, by the header of `kernels/norms.cu`; those of `kernels/lowrank*.cu` it takes and does nothing.
// cuEventElapsedTime_v2 is missing, as before CUDA 12.8.
//
// Between two events pass 0.25 ms for every launch between them. A stream is captured when a test says so (paper_capture).
// Set by the environment: PAPER_VERSION, PAPER_DEVICES, PAPER_CAPABILITY (90), PAPER_POOLS, PAPER_MEMORY (bytes), PAPER_REFUSE
// (c: no cubin loads, p: no PTX), PAPER_FAULT (launches do wrong), PAPER_UNTOLD (an attribute that is 0). At exit a report goes to PAPER_REPORT.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Status;
enum { OK, INVALID = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201,
       NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, NOT_SUPPORTED = 801, CAPTURE_IMPLICIT = 906 };

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

// What went on.
static int live_allocations, live_modules, live_events, contexts, launches, wrong;
// Calls that allocate, free, copy, wait, touch events or modules: everything that a step has no need of.
static int calls;
static void *last_stream;
static unsigned long largest_shared;
static size_t used;
static Status fault;
static int capture; // what cuStreamIsCapturing tells; 906: that it may not be asked

static void complain(const char *what) {
    wrong++;
    fprintf(stderr, "driver: %s\n", what);
}

static int context_of_paper, initialised;
static _Thread_local void *current;

static Status ready(void) {
    if (!initialised) complain("not initialised");
    if (current != &context_of_paper) {
        complain("the context is not current");
        return INVALID_CONTEXT;
    }
    return fault;
}

typedef struct Allocation {
    char *start;
    size_t bytes;
    struct Allocation *next;
} Allocation;
static Allocation *allocations;

static int inside(uint64_t at, size_t bytes) {
    for (Allocation *a = allocations; a; a = a->next)
        if (at >= (uint64_t)a->start && at + bytes <= (uint64_t)a->start + a->bytes) return 1;
    complain("outside every allocation");
    return 0;
}

static Status allocate(uint64_t *at, size_t bytes) {
    if (ready()) return fault ? fault : INVALID_CONTEXT;
    if (bytes == 0) return INVALID;
    if (bytes > (size_t)setting("PAPER_MEMORY", 1 << 28) - used) return OUT_OF_MEMORY;
    Allocation *a = malloc(sizeof *a);
    *a = (Allocation){memset(aligned_alloc(256, (bytes + 255) / 256 * 256), 0xA5, bytes), bytes, allocations};
    allocations = a;
    live_allocations++;
    used += bytes;
    *at = (uint64_t)a->start;
    return OK;
}

static void release(uint64_t at) {
    for (Allocation **a = &allocations; *a; a = &(*a)->next)
        if ((uint64_t)(*a)->start == at) {
            Allocation *gone = *a;
            *a = gone->next;
            live_allocations--;
            used -= gone->bytes;
            memset(gone->start, 0x5A, gone->bytes);
            free(gone->start);
            free(gone);
            return;
        }
    complain("freed what was not allocated");
}

// The queue.
typedef struct { uint64_t rows, cols, ld; } Shape;
typedef struct { int kind; uint64_t a, b; size_t bytes; Shape shape; uint64_t c; } Work;
enum { TO_DEVICE, TO_HOST, SET, FREE, NORM_ROWS };
static Work queue[4096];
static int queued;

static Status enqueue(Work work) {
    if (ready()) return fault ? fault : INVALID_CONTEXT;
    if (queued == 4096) return INVALID;
    queue[queued++] = work;
    return OK;
}

static void norm_rows(Work w) {
    Shape s = w.shape;
    if (!inside(w.a, ((s.rows - 1) * s.ld + s.cols) * 4) || !inside(w.b, s.rows * 4) || !inside(w.c, 8)) return;
    for (uint64_t i = 0; i < s.rows; i++) {
        double sum = 0;
        for (uint64_t j = 0; j < s.cols; j++) {
            double x = ((float *)w.a)[i * s.ld + j];
            uint64_t place = i * s.cols + j;
            if (!isfinite(x) && place < *(uint64_t *)w.c) *(uint64_t *)w.c = place;
            sum += x * x;
        }
        ((float *)w.b)[i] = (float)sqrt(sum);
    }
}

static Status wait_for_all(void) {
    for (int i = 0; i < queued && !fault; i++) {
        Work w = queue[i];
        switch (w.kind) {
        case TO_DEVICE: if (inside(w.a, w.bytes)) memcpy((void *)w.a, (void *)w.b, w.bytes); break;
        case TO_HOST: if (inside(w.b, w.bytes)) memcpy((void *)w.a, (void *)w.b, w.bytes); break;
        case SET: if (inside(w.a, w.bytes)) memset((void *)w.a, (int)w.b, w.bytes); break;
        case FREE: release(w.a); break;
        case NORM_ROWS:
            if (setting("PAPER_FAULT", 0)) fault = ILLEGAL_ADDRESS;
            else norm_rows(w);
        }
    }
    queued = 0;
    return fault;
}

static void report(void) {
    FILE *out = fopen(getenv("PAPER_REPORT"), "w");
    for (int i = 0; i < queued; i++) // what nobody waits for any more
        if (queue[i].kind == FREE && !fault) release(queue[i].a);
    fprintf(out, "allocations %d\nmodules %d\nevents %d\ncontexts %d\nlaunches %d\nshared %lu\nwrong %d\n", live_allocations,
            live_modules, live_events, contexts, launches, largest_shared, wrong);
    fclose(out);
}

// Driver and devices.
Status cuInit(unsigned flags) {
    if (!initialised && getenv("PAPER_REPORT")) atexit(report);
    initialised = flags == 0;
    return setting("PAPER_DEVICES", 1) ? OK : NO_DEVICE;
}
Status cuDriverGetVersion(int *version) { return *version = (int)setting("PAPER_VERSION", 12020), OK; }
Status cuDeviceGetCount(int *count) { return *count = (int)setting("PAPER_DEVICES", 1), OK; }
Status cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal < setting("PAPER_DEVICES", 1) ? OK : INVALID_DEVICE;
}
Status cuDeviceGetName(char *name, int bytes, int device) { return snprintf(name, (size_t)bytes, "Paper %d", device), OK; }
Status cuDeviceTotalMem_v2(size_t *bytes, int device) { return (void)device, *bytes = 1 << 30, OK; }
Status cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    int capability = (int)setting("PAPER_CAPABILITY", 90);
    if (attribute == setting("PAPER_UNTOLD", 0)) return *value = 0, OK;
    switch (attribute) { // those of an H100, but for the number of multiprocessors
    case 13: *value = 1980000; return OK; // clock, kHz
    case 16: *value = 7; return OK; // multiprocessors
    case 36: *value = 2619000; return OK; // clock of memory, kHz
    case 37: *value = 5120; return OK; // bits of its bus
    case 38: *value = 50 << 20; return OK; // second cache
    case 39: *value = 2048; return OK; // threads of a multiprocessor
    case 75: *value = capability / 10; return OK;
    case 76: *value = capability % 10; return OK;
    case 81: *value = 228 << 10; return OK; // shared memory of a multiprocessor
    case 97: *value = 232448; return OK; // shared memory of a block, opt-in
    case 106: *value = 32; return OK; // blocks of a multiprocessor
    case 115: *value = (int)setting("PAPER_POOLS", 1); return OK;
    }
    return INVALID;
}
Status cuGetErrorName(Status error, const char **name) { return *name = error == 700 ? "PAPER_ILLEGAL" : "PAPER_ERROR", OK; }
Status cuGetErrorString(Status error, const char **text) { return (void)error, *text = "in the driver's words", OK; }

// Contexts.
Status cuDevicePrimaryCtxRetain(void **context, int device) { return (void)device, contexts++, *context = &context_of_paper, OK; }
Status cuDevicePrimaryCtxRelease_v2(int device) { return (void)device, contexts--, OK; }
Status cuCtxGetCurrent(void **context) { return *context = current, OK; }
Status cuCtxSetCurrent(void *context) { return current = context, OK; }
Status cuCtxSynchronize(void) { return ready() ? INVALID_CONTEXT : wait_for_all(); }

// Streams and events; everything is in one queue.
Status cuStreamCreate(void **stream, unsigned flags) { return (void)flags, *stream = malloc(1), ready(); }
Status cuStreamDestroy_v2(void *stream) { return free(stream), OK; }
Status cuStreamSynchronize(void *stream) { return (void)stream, calls++, ready() ? (fault ? fault : INVALID_CONTEXT) : wait_for_all(); }
Status cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return (void)stream, calls++, (void)event, (void)flags, ready(); }
Status cuStreamIsCapturing(void *stream, int *status) {
    (void)stream;
    return *status = capture, capture == CAPTURE_IMPLICIT ? CAPTURE_IMPLICIT : ready();
}

typedef struct { unsigned flags; int launches; } Event; // launches before it was recorded, -1: never
Status cuEventCreate(void **event, unsigned flags) {
    Event *made = malloc(sizeof *made);
    *made = (Event){flags, -1};
    return calls++, *event = made, live_events++, ready();
}
Status cuEventDestroy_v2(void *event) { return free(event), live_events--, OK; }
Status cuEventRecord(Event *event, void *stream) { return calls++, (void)stream, event->launches = launches, ready(); }
Status cuEventSynchronize(void *event) { return calls++, (void)event, ready() ? INVALID_CONTEXT : wait_for_all(); }
Status cuEventElapsedTime(float *milliseconds, Event *start, Event *end) {
    if (start->flags || end->flags) complain("an event without timing");
    if (start->launches < 0 || end->launches < start->launches) complain("events out of order");
    return *milliseconds = 0.25f * (float)(end->launches - start->launches), queued ? 600 : OK;
}

// Memory.
Status cuMemAllocAsync(uint64_t *at, size_t bytes, void *stream) { return calls++, (void)stream, allocate(at, bytes); }
Status cuMemAlloc_v2(uint64_t *at, size_t bytes) { return calls++, allocate(at, bytes); }
Status cuMemFreeAsync(uint64_t at, void *stream) { return calls++, (void)stream, enqueue((Work){.kind = FREE, .a = at}); }
Status cuMemFree_v2(uint64_t at) { return calls++, wait_for_all(), release(at), OK; }
Status cuMemsetD8Async(uint64_t at, unsigned char byte, size_t bytes, void *stream) {
    return calls++, (void)stream, enqueue((Work){.kind = SET, .a = at, .b = byte, .bytes = bytes});
}
Status cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
    return calls++, (void)stream, enqueue((Work){.kind = TO_DEVICE, .a = to, .b = (uint64_t)from, .bytes = bytes});
}
Status cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream) {
    return calls++, (void)stream, enqueue((Work){.kind = TO_HOST, .a = (uint64_t)to, .b = from, .bytes = bytes});
}

// Modules.
typedef struct { char name[64]; int allowed; } Function;
typedef struct { int count; Function functions[16]; } Module;

Status cuModuleLoadDataEx(void **module, const char *image, unsigned count, int *options, void **values) {
    calls++;
    if (ready()) return INVALID_CONTEXT;
    if ((uintptr_t)image % 8) complain("an image that is not aligned");
    int cubin = !memcmp(image, "\177ELF", 4);
    const char *refused = getenv("PAPER_REFUSE");
    if (refused && strchr(refused, cubin ? 'c' : 'p')) {
        if (count == 2 && options[0] == 5 && options[1] == 6) snprintf(values[0], (size_t)values[1], "ptxas: says why");
        return INVALID_IMAGE;
    }
    if (!cubin && !strstr(image, ".entry norm_rows(") && !strstr(image, ".entry lowrank_")) return INVALID_IMAGE;
    *module = calloc(1, sizeof(Module));
    live_modules++;
    return OK;
}
Status cuModuleUnload(void *module) { return free(module), live_modules--, OK; }
Status cuModuleGetFunction(void **function, Module *module, const char *name) {
    calls++;
    if (ready()) return INVALID_CONTEXT;
    if ((strncmp(name, "norm_", 5) && strncmp(name, "lowrank_", 8)) || module->count == 16) return NOT_FOUND;
    Function *found = &module->functions[module->count++];
    snprintf(found->name, sizeof found->name, "%s", name);
    found->allowed = 49152 - 1024; // it has some static shared memory
    return *function = found, OK;
}
Status cuFuncGetAttribute(int *value, int attribute, Function *f) { return calls++, *value = f->allowed, attribute == 8 ? OK : INVALID; }
Status cuFuncSetAttribute(Function *f, int attribute, int value) {
    calls++;
    if (attribute != 8 || value > 232448 - 1024) return INVALID;
    return f->allowed = value, OK;
}
Status cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Function *f, int threads, size_t shared) {
    if ((long)shared > f->allowed) return INVALID;
    int by_threads = 2048 / threads, by_shared = shared ? (int)(233472 / shared) : 32;
    return *blocks = by_threads < by_shared ? by_threads : by_shared, OK;
}
Status cuLaunchKernel(Function *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                      void *stream, void **args, void **extra) {
    if (ready()) return fault ? fault : INVALID_CONTEXT;
    if ((long)shared > f->allowed || gx == 0 || extra) return INVALID;
    launches++;
    if (shared > largest_shared) largest_shared = shared;
    last_stream = stream;
    if (!strncmp(f->name, "lowrank_", 8)) return args[0] ? OK : INVALID;
    if (strcmp(f->name, "norm_rows")) return NOT_SUPPORTED;
    Work work = {.kind = NORM_ROWS, .a = *(uint64_t *)args[0], .b = *(uint64_t *)args[1], .c = *(uint64_t *)args[2]};
    memcpy(&work.shape, args[3], sizeof work.shape);
    if (gx != (work.shape.rows + 7) / 8 || gy != 1 || gz != 1 || bx != 32 || by != 8 || bz != 1) complain("the launch's shape");
    return enqueue(work);
}

// What a test asks, and sets, while it runs.
void paper_capture(int status) { capture = status; }
int paper_calls(void) { return calls; }
int paper_launches(void) { return launches; }
void *paper_stream(void) { return last_stream; }
