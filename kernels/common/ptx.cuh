// Instructions that CUDA C++ has no name for without its headers: one function each, and all inline PTX of the kernels.
#pragma once

// cvt.f32.f16: the exact value of an IEEE binary16.
__device__ __forceinline__ float cvt_f32_f16(unsigned short bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}
