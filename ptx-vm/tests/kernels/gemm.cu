// C = A·B in f32, row major, of any shape: tiles of 32×32 in shared memory, a block of 32×8 threads, four rows each.
// Every element is one chain of fused multiply-adds in the order of k.
enum { TILE = 32, STEP = 8, ROWS = TILE / STEP };

extern "C" __global__ void gemm(const float *__restrict__ a, const float *__restrict__ b, float *__restrict__ c, int m,
                                int n, int k) {
    __shared__ float left[TILE][TILE + 1], right[TILE][TILE];
    int column = blockIdx.x * TILE + threadIdx.x, top = blockIdx.y * TILE;
    float sum[ROWS] = {};
    for (int start = 0; start < k; start += TILE) {
        for (int r = 0; r < ROWS; ++r) {
            int row = threadIdx.y + STEP * r, along = start + threadIdx.x;
            left[row][threadIdx.x] = top + row < m && along < k ? a[(top + row) * k + along] : 0.0f;
            right[row][threadIdx.x] = start + row < k && column < n ? b[(start + row) * n + column] : 0.0f;
        }
        __syncthreads();
        for (int i = 0; i < TILE; ++i)
            for (int r = 0; r < ROWS; ++r)
                sum[r] = fmaf(left[threadIdx.y + STEP * r][i], right[i][threadIdx.x], sum[r]);
        __syncthreads();
    }
    for (int r = 0; r < ROWS; ++r) {
        int row = top + threadIdx.y + STEP * r;
        if (row < m && column < n) c[row * n + column] = sum[r];
    }
}
