tmd_mpi_test(comm/agree_mpi_test DEPENDS comm)
tmd_mpi_test(comm/algorithms_mpi_test DEPENDS comm)
tmd_test(comm/bulk_copy_test DEPENDS comm)
tmd_test(comm/fake_communicator_test DEPENDS comm)
tmd_test(comm/journal_test DEPENDS comm)
tmd_mpi_test(comm/mpi_communicator_mpi_test DEPENDS comm)
tmd_test(comm/mpi_runtime_test DEPENDS comm)
tmd_test(comm/reduction_test DEPENDS comm)
tmd_mpi_test(comm/self_check_mpi_test DEPENDS comm)
tmd_test(comm/single_communicator_test DEPENDS comm)
tmd_mpi_test(comm/stopped_peer_mpi_test DEPENDS comm)
tmd_test(comm/watchdog_test DEPENDS comm)

# tmd_ending_test(NAME PROGRAM CODE [WORD]): PROGRAM on three ranks, of which one leaves while the others are blocked;
# mpirun must end them and return CODE.
function(tmd_ending_test name program code)
  if(NOT TARGET comm_${program})
    add_executable(comm_${program} comm/${program}.cpp)
    target_link_libraries(comm_${program} PRIVATE tmd_comm torch_cpu spdlog::spdlog)
    target_precompile_headers(comm_${program} REUSE_FROM tmd_pch)
  endif()
  add_test(NAME comm/${name} COMMAND sh -c
    "\"$1\" -n 3 --oversubscribe --bind-to none \"$2\" $4; test $? -eq $3" sh
    ${MPIEXEC_EXECUTABLE} $<TARGET_FILE:comm_${program}> ${code} ${ARGN})
  set_tests_properties(comm/${name} PROPERTIES TIMEOUT 60 LABELS "mpi" PROCESSORS 3 ENVIRONMENT "${test_mpi_environment}")
endfunction()

tmd_ending_test(abort_program abort_program 76)
tmd_ending_test(killed_peer/messages killed_peer_program 137 messages)
tmd_ending_test(killed_peer/window killed_peer_program 137 window)

# NCCL and the CUDA runtime without a GPU (support/nccl_stand_in/stand_in.h). Where the real ones are there, the stand-in is held
# against their headers instead: what it defines with another signature does not compile.
set(stand_in support/nccl_stand_in)
set(stand_in_sources ${stand_in}/communicators.cpp ${stand_in}/device.cpp ${stand_in}/family.cpp ${stand_in}/operations.cpp)
if(TMD_CUDA)
  add_library(tmd_nccl_stand_in_check OBJECT ${stand_in_sources})
  target_link_libraries(tmd_nccl_stand_in_check PRIVATE tmd_comm torch_cpu spdlog::spdlog)
  target_precompile_headers(tmd_nccl_stand_in_check REUSE_FROM tmd_pch)
  # scripts/gpu-check starts it on a rank for each device.
  tmd_mpi_test(comm/nccl_device_mpi_test DEPENDS comm RANKS 1 LABELS gpu)
else()
  set(backend base/cuda_runtime.cpp comm/nccl_communicator.cpp comm/nccl_launch_thread.cpp comm/nccl_library.cpp comm/nccl_messages.cpp
    comm/nccl_operation.cpp comm/nccl_runtime.cpp)
  list(TRANSFORM backend PREPEND ${PROJECT_SOURCE_DIR}/)
  # Objects: they are linked in the place of the *_none.cpp of the libraries.
  add_library(tmd_nccl_stand_in OBJECT ${stand_in_sources} ${stand_in}/memory.cpp ${backend})
  target_include_directories(tmd_nccl_stand_in SYSTEM BEFORE PUBLIC ${stand_in}/include)
  target_link_libraries(tmd_nccl_stand_in PUBLIC tmd_comm torch_cpu spdlog::spdlog)
  target_precompile_headers(tmd_nccl_stand_in REUSE_FROM tmd_pch)

  # What tmd_over_devices adds to a test of the engine: a device for each rank.
  add_library(tmd_device_world OBJECT ${stand_in}/device_world.cpp)
  target_link_libraries(tmd_device_world PUBLIC tmd_nccl_stand_in tmd_test_support)
  target_precompile_headers(tmd_device_world REUSE_FROM tmd_pch)

  tmd_mpi_test(comm/nccl_communicator_mpi_test DEPENDS nccl_stand_in comm)
  tmd_mpi_test(comm/nccl_misuse_mpi_test DEPENDS nccl_stand_in comm)
  tmd_ending_test(nccl_stopped_peer nccl_ending_program 76 stopped)
  target_link_libraries(comm_nccl_ending_program PRIVATE tmd_nccl_stand_in)
  tmd_ending_test(nccl_killed_peer nccl_ending_program 137 killed)
  tmd_ending_test(nccl_hanging_abort nccl_ending_program 76 hanging)
  tmd_ending_test(nccl_left_open nccl_ending_program 76 left_open)
endif()

# tmd_over_devices(FOLDER/NAME DEPENDS folder... RANKS ... [FILTER ...]): a test under mpirun that stands above once more, with all that the
# engine communicates between devices of the stand-in. Not where the real ones are: scripts/gpu-check trains on those.
function(tmd_over_devices path)
  if(TMD_CUDA)
    return()
  endif()
  cmake_parse_arguments(arg "" "FILTER" "DEPENDS;RANKS" ${ARGN})
  string(REPLACE "/" "_" plain ${path})
  set(target ${plain}_over_devices)
  if(NOT arg_FILTER)
    set(arg_FILTER "*")
  endif()
  add_executable(${target} $<TARGET_OBJECTS:${plain}>)
  list(TRANSFORM arg_DEPENDS PREPEND tmd_)
  target_link_libraries(${target} PRIVATE tmd_device_world tmd_nccl_stand_in ${arg_DEPENDS} GTest::gtest)
  tmd_mpi_runs(${path}/over_devices ${target} RANKS ${arg_RANKS} ARGUMENTS "--gtest_filter=${arg_FILTER}")
endfunction()
