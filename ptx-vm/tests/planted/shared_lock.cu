// Locks and flags in shared memory: missing fences. 64 threads. Which holder of a lock comes second depends on the schedule,
// but all of them run the line that is told.

// A lock in shared memory among warps. A fence on one side only is not enough.
extern "C" __global__ void lock_buggy(unsigned* out) {
    __shared__ unsigned lock, sum;
    unsigned i = threadIdx.x;
    if (i == 0) lock = sum = 0;
    __syncthreads();
    if (i % 32 == 0) {
        while (atomicCAS(&lock, 0u, 1u) != 0) {
        }
        sum += i + 1; // BUG
        atomicExch(&lock, 0u);
    }
    __syncthreads();
    if (i == 0) out[0] = sum;
}

extern "C" __global__ void lock_clean(unsigned* out) {
    __shared__ unsigned lock, sum;
    unsigned i = threadIdx.x;
    if (i == 0) lock = sum = 0;
    __syncthreads();
    if (i % 32 == 0) {
        while (atomicCAS(&lock, 0u, 1u) != 0) {
        }
        __threadfence_block();
        sum += i + 1;
        __threadfence_block();
        atomicExch(&lock, 0u);
    }
    __syncthreads();
    if (i == 0) out[0] = sum;
}

// The holder's writes are not published.
extern "C" __global__ void unlock_buggy(unsigned* out) {
    __shared__ unsigned lock, sum;
    unsigned i = threadIdx.x;
    if (i == 0) lock = sum = 0;
    __syncthreads();
    if (i % 32 == 0) {
        while (atomicCAS(&lock, 0u, 1u) != 0) {
        }
        __threadfence_block();
        sum += i + 1; // BUG
        atomicExch(&lock, 0u);
    }
    __syncthreads();
    if (i == 0) out[0] = sum;
}

// Every lane takes the lock, and frees it by a volatile store.
extern "C" __global__ void unlock_clean(unsigned* out) {
    __shared__ unsigned lock, sum;
    unsigned i = threadIdx.x;
    if (i == 0) lock = sum = 0;
    __syncthreads();
    for (bool done = false; !done;) {
        if (atomicCAS(&lock, 0u, 1u) == 0) {
            __threadfence_block();
            sum += i + 1;
            __threadfence_block();
            *(volatile unsigned*)&lock = 0;
            done = true;
        }
    }
    __syncthreads();
    if (i == 0) out[0] = sum;
}

#define LOCK(order, old, lock) \
    asm volatile("atom." order ".cta.shared.cas.b32 %0, [%1], 0, 1;" : "=r"(old) : "r"((unsigned)__cvta_generic_to_shared(lock)) : "memory")
#define UNLOCK(order, lock) \
    asm volatile("st." order ".cta.shared.u32 [%0], 0;" ::"r"((unsigned)__cvta_generic_to_shared(lock)) : "memory")

// The same by the order of the accesses to the lock.
extern "C" __global__ void ordered_lock_buggy(unsigned* out) {
    __shared__ unsigned lock, sum;
    unsigned i = threadIdx.x, old;
    if (i == 0) lock = sum = 0;
    __syncthreads();
    if (i % 32 == 0) {
        do LOCK("relaxed", old, &lock);
        while (old != 0);
        sum += i + 1; // BUG
        UNLOCK("release", &lock);
    }
    __syncthreads();
    if (i == 0) out[0] = sum;
}

extern "C" __global__ void ordered_lock_clean(unsigned* out) {
    __shared__ unsigned lock, sum;
    unsigned i = threadIdx.x, old;
    if (i == 0) lock = sum = 0;
    __syncthreads();
    if (i % 32 == 0) {
        do LOCK("acquire", old, &lock);
        while (old != 0);
        sum += i + 1;
        UNLOCK("release", &lock);
    }
    __syncthreads();
    if (i == 0) out[0] = sum;
}

// Warp 0 hands a tile to warp 1 by a flag, and forgets to publish it.
extern "C" __global__ void flag_buggy(unsigned* out) {
    __shared__ unsigned tile[32], flag;
    unsigned i = threadIdx.x;
    if (i == 0) flag = 0;
    __syncthreads();
    if (i < 32) {
        tile[i] = i;
        __syncwarp();
        if (i == 0) *(volatile unsigned*)&flag = 1;
    } else {
        while (*(volatile unsigned*)&flag == 0) {
        }
        __threadfence_block();
        out[i] = tile[63 - i]; // BUG
    }
}

extern "C" __global__ void flag_clean(unsigned* out) {
    __shared__ unsigned tile[32], flag;
    unsigned i = threadIdx.x;
    if (i == 0) flag = 0;
    __syncthreads();
    if (i < 32) {
        tile[i] = i;
        __syncwarp();
        __threadfence_block();
        if (i == 0) *(volatile unsigned*)&flag = 1;
    } else {
        while (*(volatile unsigned*)&flag == 0) {
        }
        __threadfence_block();
        out[i] = tile[63 - i];
    }
}

// Warp 1 sees the flag and forgets the fence before the tile.
extern "C" __global__ void unfenced_buggy(unsigned* out) {
    __shared__ unsigned tile[32], flag;
    unsigned i = threadIdx.x;
    if (i == 0) flag = 0;
    __syncthreads();
    if (i < 32) {
        tile[i] = i;
        __syncwarp();
        __threadfence_block();
        if (i == 0) *(volatile unsigned*)&flag = 1;
    } else {
        while (*(volatile unsigned*)&flag == 0) {
        }
        out[i] = tile[63 - i]; // BUG
    }
}

// One lane looks and fences for its warp.
extern "C" __global__ void unfenced_clean(unsigned* out) {
    __shared__ unsigned tile[32], flag;
    unsigned i = threadIdx.x;
    if (i == 0) flag = 0;
    __syncthreads();
    if (i < 32) {
        tile[i] = i;
        __syncwarp();
        __threadfence_block();
        if (i == 0) *(volatile unsigned*)&flag = 1;
    } else {
        if (i == 32) {
            while (*(volatile unsigned*)&flag == 0) {
            }
            __threadfence_block();
        }
        __syncwarp();
        out[i] = tile[63 - i];
    }
}
