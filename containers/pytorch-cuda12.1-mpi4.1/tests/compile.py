"""nvcc compiles a kernel and links it with the libraries that torch and the toolkit share.

The program runs without a GPU: it only asks the libraries for their versions.
"""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

LIBRARIES = ("cublas", "cufft", "curand", "cusolver", "cusparse", "nvrtc")
SOURCE = """
#include <cstdio>
#include <cublas_v2.h>
#include <cufft.h>
#include <curand.h>
#include <cusolverDn.h>
#include <cusparse.h>
#include <nvrtc.h>

__global__ void twice(float *numbers) { numbers[threadIdx.x] *= 2; }

int main() {
    int cublas = 0, cufft = 0, curand = 0, cusolver = 0, cusparse = 0, major = 0, minor = 0;
    if (cublasGetProperty(MAJOR_VERSION, &cublas) || cufftGetProperty(MAJOR_VERSION, &cufft)
        || curandGetProperty(MAJOR_VERSION, &curand) || cusolverGetProperty(MAJOR_VERSION, &cusolver)
        || cusparseGetProperty(MAJOR_VERSION, &cusparse) || nvrtcVersion(&major, &minor))
        return 1;
    std::printf("cuBLAS %d, cuFFT %d, cuRAND %d, cuSOLVER %d, cuSPARSE %d, NVRTC %d.%d\\n",
                cublas, cufft, curand, cusolver, cusparse, major, minor);
    return reinterpret_cast<void *>(twice) == nullptr;
}
"""

with TemporaryDirectory() as folder:
    source, program = Path(folder, "program.cu"), Path(folder, "program")
    source.write_text(SOURCE)
    subprocess.run(["nvcc", "-o", program, source, *(f"-l{name}" for name in LIBRARIES)], check=True)
    subprocess.run([program], check=True)
