// Instructions that CUDA C++ has no name for without its headers: one function each, and all inline PTX of the kernels.
#pragma once

// No instruction: the same value, which the compiler does not know. What follows from it is computed where it is used, again in
// every pass of a loop, and takes no register in between.
__device__ __forceinline__ unsigned opaque(unsigned x) {
    asm volatile("" : "+r"(x));
    return x;
}

// cvt.f32.f16: the exact value of an IEEE binary16.
__device__ __forceinline__ float cvt_f32_f16(unsigned short bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

// cvt.rn.f16.f32: rounded to binary16, to nearest even.
__device__ __forceinline__ unsigned short cvt_rn_f16_f32(float x) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

// cvt.rn.f16x2.f32: two values rounded to binary16, `high` in the upper half.
__device__ __forceinline__ unsigned cvt_rn_f16x2_f32(float high, float low) {
    unsigned bits;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

// cvt.rn.bf16x2.f32: two values rounded to bfloat16, `high` in the upper half.
__device__ __forceinline__ unsigned cvt_rn_bf16x2_f32(float high, float low) {
    unsigned bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
    return bits;
}

// red.release.gpu.add: what this thread wrote, or saw written, before it is seen by whoever acquires the sum.
__device__ __forceinline__ void red_release_add(unsigned *at, unsigned x) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(__cvta_generic_to_global(at)), "r"(x) : "memory");
}

// ld.acquire.gpu: what its writer released is seen by all that follows.
__device__ __forceinline__ unsigned ld_acquire(const unsigned *at) {
    unsigned x;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(x) : "l"(__cvta_generic_to_global(at)) : "memory");
    return x;
}

// atom.acq_rel.gpu.inc: counts up to `top` and then from 0 again, and returns the count before. What this thread wrote, read or
// saw before is before what follows in whoever counts on.
__device__ __forceinline__ unsigned atom_inc_acq_rel(unsigned *at, unsigned top) {
    unsigned before;
    asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(__cvta_generic_to_global(at)), "r"(top)
                 : "memory");
    return before;
}

// cp.async: 16 bytes to shared memory past the registers, of which the first `bytes` are read and the rest are zero. Both
// addresses are multiples of 16.
__device__ __forceinline__ void cp_async_16(void *to, const void *from, unsigned bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)),
                 "l"(__cvta_generic_to_global(from)), "r"(bytes)
                 : "memory");
}

// The same with all 16 bytes read.
__device__ __forceinline__ void cp_async_16(void *shared, const void *global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"((unsigned)__cvta_generic_to_shared(shared)),
                 "l"(__cvta_generic_to_global(global))
                 : "memory");
}

// Closes a group of this thread's copies, perhaps an empty one.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most PENDING of this thread's groups are under way; what others copied takes a barrier as well.
template <int PENDING> __device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// cp.async.wait_all: this thread's copies are done; a barrier makes them seen by others.
__device__ __forceinline__ void cp_async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// st.global.v2.f32: two neighbours at once, aligned to 8 bytes; the compiler would part them beside scalar stores of the same.
__device__ __forceinline__ void st_global_v2_f32(float *to, float x, float y) {
    asm volatile("st.global.v2.f32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "f"(x), "f"(y) : "memory");
}

// st.global.v4.b32: 16 bytes at once, aligned to as many; the compiler would part them, too.
__device__ __forceinline__ void st_global_v4(void *to, const uint4 &x) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)), "r"(x.x), "r"(x.y), "r"(x.z),
                 "r"(x.w)
                 : "memory");
}

// ldmatrix.x4: four 8x8 matrices of 16 bits in shared memory; lane i has the address of row i%8 of matrix i/8.
__device__ __forceinline__ uint4 ldmatrix_x4(const void *shared) {
    uint4 a;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a.x), "=r"(a.y), "=r"(a.z), "=r"(a.w)
                 : "r"((unsigned)__cvta_generic_to_shared(shared))
                 : "memory");
    return a;
}

// ldmatrix.x4.trans: the same, transposed.
__device__ __forceinline__ uint4 ldmatrix_x4_trans(const void *shared) {
    uint4 a;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a.x), "=r"(a.y), "=r"(a.z), "=r"(a.w)
                 : "r"((unsigned)__cvta_generic_to_shared(shared))
                 : "memory");
    return a;
}

// mma.sync m16n8k16: sums [16, 8] += a [16, 16] · b [8, 16]ᵀ, products exact, into float. With g = lane/4 and q = lane%4, a lane
// holds of a the columns 2q, 2q+1 of rows g and g+8, then 2q+8, 2q+9 of the same; of b, rows like a's columns, column g; of
// the sums, columns 2q, 2q+1 of rows g and g+8.
__device__ __forceinline__ void mma_f16(float (&sums)[4], const uint4 &a, unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma_bf16(float (&sums)[4], const uint4 &a, unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}
