# Flags reach targets only through these interface targets.

option(TMD_WERROR "Warnings are errors" ON)
set(TMD_SANITIZE "" CACHE STRING "Sanitizers of the asan and tsan presets, as -fsanitize takes them")

add_library(tmd_warnings INTERFACE)
# GCC 12 sees overlaps and overreads inside its own std::string (bugs 105329, 105651, 105762).
set(tmd_warning_options -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion
  -Wno-array-bounds -Wno-restrict -Wno-stringop-overflow -Wno-stringop-overread)
if(TMD_WERROR)
  list(APPEND tmd_warning_options -Werror)
endif()
target_compile_options(tmd_warnings INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${tmd_warning_options}>")

add_library(tmd_sanitize INTERFACE)
if(TMD_SANITIZE)
  target_compile_options(tmd_sanitize INTERFACE -fsanitize=${TMD_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(tmd_sanitize INTERFACE -fsanitize=${TMD_SANITIZE})
endif()

# Numbers may not depend on how the compiler contracts a*b+c: draws and losses must agree over builds.
add_library(tmd_numerics INTERFACE)
target_compile_options(tmd_numerics INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)

# Everything is compiled with -fPIC, executables too: they share the precompiled header of the libraries, and CMake's own
# switch would give them -fPIE.
add_library(tmd_flags INTERFACE)
target_compile_options(tmd_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fPIC> "$<$<COMPILE_LANGUAGE:CUDA>:${tmd_cuda_options}>")
target_include_directories(tmd_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_include_directories(tmd_flags SYSTEM BEFORE INTERFACE ${CMAKE_BINARY_DIR}/include_first)
target_compile_definitions(tmd_flags INTERFACE TMD_VERSION="${PROJECT_VERSION}")
target_link_libraries(tmd_flags INTERFACE tmd_warnings tmd_sanitize tmd_numerics Threads::Threads)

# One precompiled header for every target that sees tensors: ATen costs 8 s a file without it. Templates that its headers leave to
# be instantiated cost every file again (GCC), so autograd's, which few files include and which cost another 1.3 s, are not in it.
add_library(tmd_pch STATIC ${PROJECT_SOURCE_DIR}/cmake/pch.cpp)
target_link_libraries(tmd_pch PUBLIC tmd_flags torch_cpu)
target_precompile_headers(tmd_pch PRIVATE
  <ATen/ATen.h>
  <algorithm> <array> <chrono> <cstdint> <filesystem> <functional> <map> <memory> <optional>
  <span> <string> <utility> <vector> <spdlog/fmt/fmt.h>)
target_link_libraries(tmd_pch PUBLIC spdlog::spdlog)

# tmd_library(FOLDER [TENSORS] SOURCES ... DEPENDS ... [EXTERNAL ...])
#   TENSORS: sources see ATen, and use the shared precompiled header.
function(tmd_library folder)
  cmake_parse_arguments(arg "TENSORS" "" "SOURCES;DEPENDS;EXTERNAL" ${ARGN})
  add_library(tmd_${folder} STATIC ${arg_SOURCES})
  target_link_libraries(tmd_${folder} PUBLIC tmd_flags)
  foreach(dependency ${arg_DEPENDS})
    target_link_libraries(tmd_${folder} PUBLIC tmd_${dependency})
  endforeach()
  target_link_libraries(tmd_${folder} PUBLIC ${arg_EXTERNAL})
  if(arg_TENSORS)
    target_link_libraries(tmd_${folder} PUBLIC torch_cpu spdlog::spdlog)
    target_precompile_headers(tmd_${folder} REUSE_FROM tmd_pch)
  endif()
endfunction()

# tmd_kernels(FOLDER SOURCE...): compiles each SOURCE into the folder's library three times, with TMD_KERNELS=plain, avx2 and
# avx512, and with the flags of that instruction set; sharding/cpu_kernels.h chooses at run time, so that one build runs on
# every machine. The sources see no torch and follow the rules of base/vec.h. On other processors than x86-64 all three are
# the plain build.
function(tmd_kernels folder)
  set(flags_plain "")
  set(flags_avx2 "")
  set(flags_avx512 "")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    set(flags_avx2 -mavx2)
    set(flags_avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512)
  endif()
  foreach(set plain avx2 avx512)
    add_library(tmd_${folder}_${set} OBJECT ${ARGN})
    target_link_libraries(tmd_${folder}_${set} PRIVATE tmd_flags)
    target_compile_options(tmd_${folder}_${set} PRIVATE -O3 -fno-math-errno -fno-trapping-math -Wno-psabi ${flags_${set}})
    target_compile_definitions(tmd_${folder}_${set} PRIVATE TMD_KERNELS=${set})
    target_sources(tmd_${folder} PRIVATE $<TARGET_OBJECTS:tmd_${folder}_${set}>)
  endforeach()
endfunction()
