tmd_mpi_test(model/mesh_parity_mpi_test DEPENDS model RANKS 1 2 3 4 8)
tmd_mpi_test(model/weights_file_mpi_test DEPENDS model)
tmd_mpi_test(model/discriminator_mpi_test DEPENDS model)
tmd_test(model/discriminator_test DEPENDS model)
tmd_test(model/fused_ops_test DEPENDS model)
tmd_test(model/taew_test DEPENDS model)
tmd_test(model/tmd_student_test DEPENDS model)
tmd_test(model/wan_config_test DEPENDS model)
tmd_test(model/wan_dit_test DEPENDS model)
tmd_test(model/wan_golden_test DEPENDS model)
tmd_test(model/wan_names_test DEPENDS model)
tmd_test(model/wan_ops_test DEPENDS model)
tmd_test(model/wan_vae_test DEPENDS model)
tmd_test(model/wan_weights_test DEPENDS model)
tmd_test(model/weight_check_test DEPENDS model)
tmd_test(model/weights_file_test DEPENDS model)

# The same tests with the builds of the kernels for lesser machines (sharding/cpu_kernels.h).
foreach(set default avx2)
  add_test(NAME model/fused_ops_test/${set} COMMAND model_fused_ops_test WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(model/fused_ops_test/${set} PROPERTIES TIMEOUT 300
    ENVIRONMENT "OMP_NUM_THREADS=1;ATEN_CPU_CAPABILITY=${set}")
endforeach()

# A tool, not a test: times of one block. Built by its name.
add_executable(block_times EXCLUDE_FROM_ALL model/block_times.cpp)
target_link_libraries(block_times PRIVATE tmd_model torch_cpu spdlog::spdlog)
target_precompile_headers(block_times REUSE_FROM tmd_pch)
