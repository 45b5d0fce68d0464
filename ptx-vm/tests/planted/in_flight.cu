// Data of a `cp.async` touched before it is waited for. `out` and `work` hold 64 words; 64 threads, each copies one word.

#define COPY(to, from) \
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from) : "memory")
#define COMMIT() asm volatile("cp.async.commit_group;" ::: "memory")
#define WAIT(pending) asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory")
#define WAIT_ALL() asm volatile("cp.async.wait_all;" ::: "memory")

extern "C" __global__ void read_early_buggy(unsigned* out, unsigned* work) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    COPY(&tile[i], work + i);
    COMMIT();
    out[i] = tile[i]; // BUG
    WAIT(0);
}

extern "C" __global__ void read_early_clean(unsigned* out, unsigned* work) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    COPY(&tile[i], work + i);
    COMMIT();
    WAIT(0);
    out[i] = tile[i];
}

// Three groups; the second is read while two may be pending.
extern "C" __global__ void too_few_buggy(unsigned* out, unsigned* work) {
    __shared__ unsigned stage[3][64];
    unsigned i = threadIdx.x;
    COPY(&stage[0][i], work + i);
    COMMIT();
    COPY(&stage[1][i], work + (i ^ 1));
    COMMIT();
    COPY(&stage[2][i], work + (i ^ 2));
    COMMIT();
    WAIT(2);
    out[i] = stage[0][i];
    out[i] += stage[1][i]; // BUG
    WAIT(0);
    out[i] += stage[2][i];
}

extern "C" __global__ void too_few_clean(unsigned* out, unsigned* work) {
    __shared__ unsigned stage[3][64];
    unsigned i = threadIdx.x;
    COPY(&stage[0][i], work + i);
    COMMIT();
    COPY(&stage[1][i], work + (i ^ 1));
    COMMIT();
    COPY(&stage[2][i], work + (i ^ 2));
    COMMIT();
    WAIT(2);
    out[i] = stage[0][i];
    WAIT(1);
    out[i] += stage[1][i];
    WAIT(0);
    out[i] += stage[2][i];
}

// `wait_group` waits for committed groups only; `wait_all` for everything.
extern "C" __global__ void not_committed_buggy(unsigned* out, unsigned* work) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    COPY(&tile[i], work + i);
    WAIT(0);
    out[i] = tile[i]; // BUG
}

extern "C" __global__ void not_committed_clean(unsigned* out, unsigned* work) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    COPY(&tile[i], work + i);
    WAIT_ALL();
    out[i] = tile[i];
}

extern "C" __global__ void overwrite_source_buggy(unsigned* out, unsigned* work) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    COPY(&tile[i], work + i);
    COMMIT();
    work[i] = 7; // BUG
    WAIT(0);
    out[i] = tile[i] & 0;
}

extern "C" __global__ void overwrite_source_clean(unsigned* out, unsigned* work) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    COPY(&tile[i], work + i);
    COMMIT();
    WAIT(0);
    work[i] = 7;
    out[i] = tile[i] & 0;
}

// The thread itself is in its rights to read the source, not to write the target.
extern "C" __global__ void overwrite_target_buggy(unsigned* out, unsigned* work) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    COPY(&tile[i], work + i);
    COMMIT();
    tile[i] = work[i]; // BUG
    WAIT(0);
    out[i] = tile[i];
}

extern "C" __global__ void overwrite_target_clean(unsigned* out, unsigned* work) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    COPY(&tile[i], work + i);
    COMMIT();
    unsigned value = work[i];
    WAIT(0);
    tile[i] = value;
    out[i] = tile[i];
}

// A barrier completes no copies, and a neighbour's are as unsafe as one's own. What arrives after the read also races
// with it.
extern "C" __global__ void barrier_only_buggy(unsigned* out, unsigned* work) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    COPY(&tile[i], work + i); // OR SharedRace
    COMMIT();
    __syncthreads();
    out[i] = tile[i ^ 31]; // BUG
    WAIT(0); // OR SharedRace
}

extern "C" __global__ void barrier_only_clean(unsigned* out, unsigned* work) {
    __shared__ unsigned tile[64];
    unsigned i = threadIdx.x;
    COPY(&tile[i], work + i);
    COMMIT();
    WAIT(0);
    __syncthreads();
    out[i] = tile[i ^ 31];
}

extern "C" __global__ void matrix_buggy(unsigned* out, unsigned* work) {
    __shared__ alignas(16) unsigned tile[64];
    unsigned i = threadIdx.x, value, row = (unsigned)__cvta_generic_to_shared(tile + i / 32 * 32 + i % 8 * 4);
    COPY(&tile[i], work + i); // OR SharedRace
    COMMIT();
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(value) : "r"(row) : "memory"); // BUG
    WAIT(0); // OR SharedRace
    out[i] = value;
}

extern "C" __global__ void matrix_clean(unsigned* out, unsigned* work) {
    __shared__ alignas(16) unsigned tile[64];
    unsigned i = threadIdx.x, value, row = (unsigned)__cvta_generic_to_shared(tile + i / 32 * 32 + i % 8 * 4);
    COPY(&tile[i], work + i);
    COMMIT();
    WAIT(0);
    __syncwarp();
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(value) : "r"(row) : "memory");
    out[i] = value;
}
