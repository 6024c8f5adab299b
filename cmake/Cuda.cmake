# What the preset gpu builds with besides the rest: the CUDA toolkit (nvcc, runtime), NCCL, and the CUDA half of LibTorch.
#
# Included before the languages of the other targets are set up. A machine without a GPU compiles and links all of it; the
# program then runs on its CPU and says that it found no device.

# Each of these as machine code, and as PTX, which newer devices compile when they load it.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80 90 100)
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)  # LibTorch loads the shared one: two in a process would not know of each other
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)  # CMake 3.25 knows no C++20 for nvcc 13
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
find_package(CUDAToolkit 13 REQUIRED)

# Draws and element functions must give the host's bits: no contraction on either side.
set(tmd_cuda_options --fmad=false -Xcompiler=-ffp-contract=off -Xcompiler=-fPIC)

# Of the toolkit, or of the wheel beside LibTorch.
set(nccl_hints ${CUDAToolkit_LIBRARY_ROOT} ${CUDAToolkit_TARGET_DIR} ${TMD_LIBTORCH}/nvidia/nccl)
find_path(TMD_NCCL_INCLUDE nccl.h HINTS ${nccl_hints} PATH_SUFFIXES include REQUIRED)
find_library(TMD_NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${nccl_hints} PATH_SUFFIXES lib lib64 REQUIRED)
add_library(tmd_nccl INTERFACE)
target_include_directories(tmd_nccl SYSTEM INTERFACE ${TMD_NCCL_INCLUDE})
target_link_libraries(tmd_nccl INTERFACE ${TMD_NCCL_LIBRARY})

foreach(name c10_cuda torch_cuda)
  if(NOT EXISTS ${torch_lib}/lib${name}.so)
    message(FATAL_ERROR "${torch_lib} has no lib${name}.so: this LibTorch is built for CPUs.\n"
      "hint: scripts/setup --preset gpu fetches one with CUDA")
  endif()
  add_library(torch::${name} SHARED IMPORTED)
  set_target_properties(torch::${name} PROPERTIES IMPORTED_LOCATION ${torch_lib}/lib${name}.so)
endforeach()

# No symbol of libtorch_cuda is called by name: its operators register themselves when it is loaded. What it needs itself lies in
# wheels beside it (scripts/setup fetches those that the toolkit lacks) and in the toolkit, whose folder only a path in the
# program that also holds for its libraries reaches: DT_RPATH, the old kind.
get_filename_component(cuda_lib ${CUDA_cudart_LIBRARY} DIRECTORY)
set(cuda_folders ${torch_lib} ${cuda_lib})
foreach(folder cudnn nvshmem nccl cusparselt cu13)
  list(APPEND cuda_folders ${TMD_LIBTORCH}/nvidia/${folder}/lib)
endforeach()
list(JOIN cuda_folders : cuda_folders)
target_link_libraries(torch_cpu INTERFACE
  -Wl,--push-state,--no-as-needed torch::torch_cuda torch::c10_cuda -Wl,--pop-state)
target_include_directories(torch_cpu SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
target_link_options(torch_cpu INTERFACE LINKER:--disable-new-dtags LINKER:-rpath,${cuda_folders} LINKER:-rpath-link,${cuda_folders})
