# What -DTRIREME_CUDA=ON adds: the language, its runtime and libraries, and
#   trireme_cuda_program(<program>)     finds cuBLASLt and NCCL when it starts
# Which toolkit: find_nvcc.cmake. CMAKE_CUDA_ARCHITECTURES, or CUDAARCHS in the environment, names the GPUs.
include(${CMAKE_CURRENT_LIST_DIR}/find_nvcc.cmake)
if(NOT TRIREME_NVCC)
  set(remedy "install a newer one, name one by -DCMAKE_CUDA_COMPILER=.../nvcc, or run ./trireme build --cuda, which fetches one")
  if(TRIREME_NVCC_TOO_OLD)
    message(FATAL_ERROR "TRIREME_CUDA=ON needs a CUDA toolkit of ${TRIREME_CUDA_VERSION_MIN} or later, ${TRIREME_NVCC_TOO_OLD} is older: ${remedy}")
  endif()
  message(FATAL_ERROR "TRIREME_CUDA=ON needs a CUDA toolkit of ${TRIREME_CUDA_VERSION_MIN} or later, there is none: ${remedy}")
endif()
set(CMAKE_CUDA_COMPILER ${TRIREME_NVCC})
if(TRIREME_NVCC STREQUAL "${TRIREME_CUDA_FETCHED}/bin/nvcc")
  set(CUDAToolkit_ROOT ${TRIREME_CUDA_FETCHED})
endif()
# A100, H100 and their like; B200 and what is younger than sm_120 get their code from the driver.
if(NOT CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90 120-virtual)
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
if(TRIREME_CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${TRIREME_CCACHE})
endif()
enable_language(CUDA)
string(APPEND CMAKE_CUDA_FLAGS " -std=c++20")  # CMake 3.25 does not know that nvcc has it.
find_package(CUDAToolkit ${TRIREME_CUDA_VERSION_MIN} REQUIRED)
math(EXPR TRIREME_CUDA_RUNTIME_VERSION "${CUDAToolkit_VERSION_MAJOR} * 1000 + ${CUDAToolkit_VERSION_MINOR} * 10")
message(STATUS "CUDA ${CUDAToolkit_VERSION}, ${TRIREME_NVCC}, for ${CMAKE_CUDA_ARCHITECTURES}")

# CMake takes the toolkit's own folder for one that every loader knows, and writes no path to it.
function(trireme_cuda_program program)
  set_property(TARGET ${program} APPEND PROPERTY BUILD_RPATH ${CUDAToolkit_LIBRARY_DIR})
  if(CUDAToolkit_ROOT STREQUAL TRIREME_CUDA_FETCHED)
    set_property(TARGET ${program} APPEND PROPERTY BUILD_RPATH ${TRIREME_CUDA_FETCHED}/../nccl/lib)
  endif()
endfunction()
