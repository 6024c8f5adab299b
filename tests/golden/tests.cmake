add_executable(check_case golden/check_case.cpp golden/case_runner.cpp golden/comparison.cpp golden/golden_case.cpp)
target_link_libraries(check_case PRIVATE tmd_workers torch_cpu spdlog::spdlog)
target_precompile_headers(check_case REUSE_FROM tmd_pch)

# The golden case on one rank and sharded, in both element types.
foreach(dtype f64 f32)
  foreach(ranks 1 2 3 4)
    add_test(NAME golden/gated-m2n2h2/${dtype}/ranks_${ranks}
      COMMAND ${MPIEXEC_EXECUTABLE} -n ${ranks} --oversubscribe --bind-to none $<TARGET_FILE:check_case>
              ${CMAKE_CURRENT_SOURCE_DIR}/golden/gated-m2n2h2 --dtype ${dtype})
    set_tests_properties(golden/gated-m2n2h2/${dtype}/ranks_${ranks} PROPERTIES TIMEOUT 300 LABELS "mpi" PROCESSORS ${ranks}
      ENVIRONMENT "OMP_NUM_THREADS=1;OMPI_MCA_mpi_yield_when_idle=1;PMIX_MCA_gds=hash;OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
  endforeach()
endforeach()

# On every mesh of up to 4 ranks that its two heads allow, beyond those above: replicate,shard,sequence,tensor.
foreach(mesh 2,1,1,1 2,2,1,1 2,1,1,1,two_level 2,2,1,1,two_level 2,1,1,2,two_level 1,1,2,1 1,1,1,2 1,2,2,1 1,2,1,2 2,1,2,1 2,1,1,2)
  string(REPLACE ",two_level" "" plain ${mesh})
  string(REPLACE "," ";" extents ${plain})
  set(ranks 1)
  foreach(extent ${extents})
    math(EXPR ranks "${ranks} * ${extent}")
  endforeach()
  string(REPLACE "," "x" name ${mesh})
  foreach(dtype f64 f32)
    add_test(NAME golden/gated-m2n2h2/${dtype}/mesh_${name}
      COMMAND ${MPIEXEC_EXECUTABLE} -n ${ranks} --oversubscribe --bind-to none $<TARGET_FILE:check_case>
              ${CMAKE_CURRENT_SOURCE_DIR}/golden/gated-m2n2h2 --dtype ${dtype} --mesh ${mesh})
    set_tests_properties(golden/gated-m2n2h2/${dtype}/mesh_${name} PROPERTIES TIMEOUT 300 LABELS "mpi" PROCESSORS ${ranks}
      ENVIRONMENT "OMP_NUM_THREADS=1;OMPI_MCA_mpi_yield_when_idle=1;PMIX_MCA_gds=hash;OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
  endforeach()
endforeach()

add_test(NAME golden/check_fails
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/golden/check_fails.py $<TARGET_FILE:check_case>
          ${CMAKE_CURRENT_SOURCE_DIR}/golden/gated-m2n2h2)
set_tests_properties(golden/check_fails PROPERTIES TIMEOUT 300
  ENVIRONMENT "OMP_NUM_THREADS=1;PMIX_MCA_gds=hash;OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
