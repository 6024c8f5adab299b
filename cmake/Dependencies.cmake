# Finds every library that tmd is built on and gives each one imported target.
#
# LibTorch is taken, in this order, from
#   -DTMD_LIBTORCH=DIR   a folder that holds torch/include and torch/lib (an unpacked PyPI wheel,
#                        or the site-packages folder of a Python that has torch),
#   $TMD_LIBTORCH        the same as an environment variable,
#   the cache of scripts/setup.
# find_package(Torch) is not used: it asks for the whole CUDA toolkit even for a CPU build.

set(TMD_TORCH_VERSION 2.11.0)

if(NOT DEFINED TMD_LIBTORCH)
  if(DEFINED ENV{TMD_LIBTORCH})
    set(default_libtorch $ENV{TMD_LIBTORCH})
  elseif(DEFINED ENV{TMD_CACHE})
    set(default_libtorch $ENV{TMD_CACHE}/libtorch-${TMD_TORCH_VERSION})
  elseif(DEFINED ENV{XDG_CACHE_HOME})
    set(default_libtorch $ENV{XDG_CACHE_HOME}/tmd/libtorch-${TMD_TORCH_VERSION})
  else()
    set(default_libtorch $ENV{HOME}/.cache/tmd/libtorch-${TMD_TORCH_VERSION})
  endif()
  set(TMD_LIBTORCH ${default_libtorch} CACHE PATH "Folder with torch/include and torch/lib")
endif()
set(torch_include ${TMD_LIBTORCH}/torch/include)
set(torch_lib ${TMD_LIBTORCH}/torch/lib)
if(NOT EXISTS ${torch_include}/ATen/ATen.h OR NOT EXISTS ${torch_lib}/libtorch_cpu.so)
  message(FATAL_ERROR "No LibTorch in ${TMD_LIBTORCH}.\n"
    "hint: run scripts/setup, or name your own with -DTMD_LIBTORCH=DIR (DIR/torch/lib/libtorch_cpu.so)")
endif()

foreach(name c10 torch_cpu)
  add_library(torch::${name} SHARED IMPORTED)
  set_target_properties(torch::${name} PROPERTIES
    IMPORTED_LOCATION ${torch_lib}/lib${name}.so
    INTERFACE_INCLUDE_DIRECTORIES "${torch_include};${torch_include}/torch/csrc/api/include"
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${torch_include};${torch_include}/torch/csrc/api/include")
endforeach()
# libtorch_cpu needs libcudart and libcupti even where no device is used; the wheels lie beside torch/.
add_library(torch_cpu INTERFACE)
target_link_libraries(torch_cpu INTERFACE torch::torch_cpu torch::c10)
target_link_options(torch_cpu INTERFACE
  "LINKER:-rpath,${torch_lib}" "LINKER:-rpath-link,${torch_lib}:${TMD_LIBTORCH}/nvidia/cu13/lib")

# The OpenMP runtime that libtorch_cpu itself loads: a second one would have threads of its own. Other compilers would bring
# theirs, and the thread sanitizer does not see how this one synchronises: there our own loops run on one thread.
add_library(torch_openmp INTERFACE)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT "${TMD_SANITIZE}" MATCHES "thread")
  target_compile_options(torch_openmp INTERFACE -fopenmp)
  if(EXISTS ${torch_lib}/libgomp.so.1)
    target_link_libraries(torch_openmp INTERFACE ${torch_lib}/libgomp.so.1)
  else()
    target_link_libraries(torch_openmp INTERFACE gomp)
  endif()
endif()

find_package(Threads REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
find_package(spdlog REQUIRED)
find_package(fmt REQUIRED)
# LibTorch brings headers of another fmt, which would win over the system's and not fit its library: a folder
# that holds the system's alone stands first in the search.
get_target_property(fmt_include fmt::fmt INTERFACE_INCLUDE_DIRECTORIES)
list(GET fmt_include 0 fmt_include)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/include_first)
file(CREATE_LINK ${fmt_include}/fmt ${CMAKE_BINARY_DIR}/include_first/fmt SYMBOLIC)
find_package(nlohmann_json REQUIRED)
find_package(Boost 1.74 REQUIRED COMPONENTS program_options)
find_package(PNG REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(webp REQUIRED IMPORTED_TARGET libwebp libwebpmux)
find_path(RANDOM123_INCLUDE Random123/philox.h REQUIRED)

# The serial C library: thread-safe, and enough for static files that are read by processes.
set(HDF5_PREFER_PARALLEL OFF)
find_package(HDF5 REQUIRED COMPONENTS C)

find_program(TMD_CCACHE ccache)
if(TMD_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${TMD_CCACHE})
endif()
find_program(TMD_MOLD mold)
if(TMD_MOLD)
  add_link_options($<$<NOT:$<LINK_LANGUAGE:CUDA>>:-fuse-ld=mold>)
endif()
