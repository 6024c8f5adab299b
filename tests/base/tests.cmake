tmd_test(base/file_test DEPENDS base)
tmd_test(base/hash_test DEPENDS base)
tmd_test(base/hdf5_test DEPENDS base)
tmd_test(base/folder_test DEPENDS base)
tmd_test(base/publish_test DEPENDS base)
tmd_test(base/safetensors_test DEPENDS base)
tmd_test(base/safetensors_set_test DEPENDS base)
tmd_test(base/streamed_file_test DEPENDS base)
tmd_test(base/strict_json_test DEPENDS base)
tmd_test(base/printable_test DEPENDS base)
tmd_test(base/bounded_queue_test DEPENDS base)
tmd_test(base/philox_test DEPENDS base)
tmd_gpu_test(base/philox_gpu_test)
tmd_test(base/host_memory_test DEPENDS base)
tmd_test(base/input_file_test DEPENDS base)

# The sources of device code as C++ on an emulated grid: the folder in front of the search path has a launch() that plays
# blocks and threads on the host. With the preset gpu the same files go through nvcc into the libraries.
set(device_sources base/philox_device.cu model/fused_device_gate.cu model/fused_device_norm.cu model/fused_device_rms.cu
  sharding/device_kernels.cu)
list(TRANSFORM device_sources PREPEND ${PROJECT_SOURCE_DIR}/)
set_source_files_properties(${device_sources} PROPERTIES LANGUAGE CXX)
add_library(emulated_device OBJECT ${device_sources} support/emulated_device/host_memory.cpp)
target_include_directories(emulated_device BEFORE PUBLIC support/emulated_device)
target_link_libraries(emulated_device PUBLIC tmd_base)

# tmd_on_emulated_device(FOLDER/NAME): the device kernels that the test calls are those.
function(tmd_on_emulated_device path)
  string(REPLACE "/" "_" target ${path})
  target_include_directories(${target} BEFORE PRIVATE support/emulated_device)
  target_link_libraries(${target} PRIVATE emulated_device)
endfunction()

# tmd_with_device_kernels(FOLDER/NAME DEPENDS folder... [RANKS N] [FILTER ...]): a test that stands above once more, with every tensor as if on a device:
# what chooses between host and device (sharding/kernel_place.cpp) is replaced, and the kernels are those of the emulated grid. Cases
# that hold the host's instruction sets against each other are left out: a device adds the channels of a row in another order.
function(tmd_with_device_kernels path)
  cmake_parse_arguments(arg "" "FILTER" "DEPENDS;RANKS" ${ARGN})
  string(REPLACE "/" "_" target ${path}_with_device_kernels)
  string(REPLACE "/" "_" plain ${path})
  add_executable(${target} $<TARGET_OBJECTS:${plain}> support/emulated_device/kernel_place.cpp)
  list(TRANSFORM arg_DEPENDS PREPEND tmd_)
  target_link_libraries(${target} PRIVATE emulated_device ${arg_DEPENDS} GTest::gtest torch_cpu spdlog::spdlog)
  target_precompile_headers(${target} REUSE_FROM tmd_pch)
  set(command ${target})
  set(environment ${test_environment})
  if(arg_RANKS)
    target_link_libraries(${target} PRIVATE tmd_test_support)
    set(command ${MPIEXEC_EXECUTABLE} -n ${arg_RANKS} --oversubscribe --bind-to none $<TARGET_FILE:${target}>)
    set(environment ${test_mpi_environment})
  else()
    target_link_libraries(${target} PRIVATE GTest::gtest_main)
  endif()
  add_test(NAME ${path}/device_kernels COMMAND ${command} "--gtest_filter=${arg_FILTER}-*instruction_sets*" WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${path}/device_kernels PROPERTIES TIMEOUT ${test_timeout} ENVIRONMENT "${environment}")
endfunction()

# tmd_on_device(FOLDER/NAME DEPENDS folder...): the same test once more with the libraries' kernels, on a device; it fails where
# there is none. Preset gpu.
function(tmd_on_device path)
  if(NOT TMD_CUDA)
    return()
  endif()
  cmake_parse_arguments(arg "" "" "DEPENDS" ${ARGN})
  string(REPLACE "/" "_" target ${path}_on_device)
  add_executable(${target} ${path}.cpp support/emulated_device/managed_memory.cpp)
  target_include_directories(${target} BEFORE PRIVATE support/emulated_device)
  list(TRANSFORM arg_DEPENDS PREPEND tmd_)
  target_link_libraries(${target} PRIVATE ${arg_DEPENDS} GTest::gtest GTest::gtest_main torch_cpu spdlog::spdlog CUDA::cudart)
  target_precompile_headers(${target} REUSE_FROM tmd_pch)
  add_test(NAME ${path}/device COMMAND ${target} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${path}/device PROPERTIES LABELS gpu TIMEOUT 300
    ENVIRONMENT "OMP_NUM_THREADS=1;CUDA_LAUNCH_BLOCKING=1")
endfunction()

tmd_test(base/device_kernels_test DEPENDS base)
tmd_on_emulated_device(base/device_kernels_test)
