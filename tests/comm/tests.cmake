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
