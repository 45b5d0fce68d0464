// Euclidean norms of the columns of a row-major matrix. A block of 32×8 threads takes 32 columns; each thread a chain
// of every eighth row, and the eight chains are added in order.
extern "C" __global__ void column_norms(const float *__restrict__ a, int rows, int columns, float *norms) {
    __shared__ float chains[8][32];
    int column = blockIdx.x * 32 + threadIdx.x;
    float sum = 0.0f;
    if (column < columns)
        for (int row = threadIdx.y; row < rows; row += 8) {
            float x = a[row * columns + column];
            sum = fmaf(x, x, sum);
        }
    chains[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && column < columns) {
        for (int i = 1; i < 8; ++i) sum += chains[i][threadIdx.x];
        norms[column] = sqrtf(sum);
    }
}
