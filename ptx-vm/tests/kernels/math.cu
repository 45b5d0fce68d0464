// One function of libdevice per kernel, compiled with and without --use_fast_math.
#define KERNEL(name, expression)                                                                                      \
    extern "C" __global__ void name##_of(const float *xs, const float *ys, float *out, int n) {                       \
        int i = blockIdx.x * blockDim.x + threadIdx.x;                                                                \
        if (i < n) {                                                                                                  \
            const float x = xs[i];                                                                                    \
            [[maybe_unused]] const float y = ys[i];                                                                   \
            out[i] = expression;                                                                                      \
        }                                                                                                             \
    }
KERNEL(exp, expf(x))
KERNEL(log, logf(x))
KERNEL(tanh, tanhf(x))
KERNEL(erf, erff(x))
KERNEL(sin, sinf(x))
KERNEL(pow, powf(x, y))
KERNEL(rsqrt, rsqrtf(x))
KERNEL(sqrt, sqrtf(x))
KERNEL(quotient, x / y)
