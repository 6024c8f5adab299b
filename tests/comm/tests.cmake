tmd_mpi_test(comm/agree_mpi_test DEPENDS comm)
tmd_test(comm/fake_communicator_test DEPENDS comm)
tmd_test(comm/journal_test DEPENDS comm)
tmd_mpi_test(comm/mpi_communicator_mpi_test DEPENDS comm)
tmd_test(comm/mpi_runtime_test DEPENDS comm)
tmd_test(comm/reduction_test DEPENDS comm)
tmd_mpi_test(comm/self_check_mpi_test DEPENDS comm)
tmd_test(comm/single_communicator_test DEPENDS comm)

# mpirun must return the code that one rank aborts with, though the others are blocked.
add_executable(comm_abort_program comm/abort_program.cpp)
target_link_libraries(comm_abort_program PRIVATE tmd_comm torch_cpu spdlog::spdlog)
target_precompile_headers(comm_abort_program REUSE_FROM tmd_pch)
add_test(NAME comm/abort_program COMMAND sh -c
  "\"$1\" -n 3 --oversubscribe --bind-to none \"$2\"; test $? -eq 76" sh
  ${MPIEXEC_EXECUTABLE} $<TARGET_FILE:comm_abort_program>)
set_tests_properties(comm/abort_program PROPERTIES TIMEOUT 60 LABELS "mpi" PROCESSORS 3
  ENVIRONMENT "OMP_NUM_THREADS=1;OMPI_MCA_mpi_yield_when_idle=1;PMIX_MCA_gds=hash;OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
