add_executable(check_case golden/check_case.cpp golden/case_runner.cpp golden/comparison.cpp golden/golden_case.cpp)
target_link_libraries(check_case PRIVATE tmd_workers torch_cpu spdlog::spdlog)
target_precompile_headers(check_case REUSE_FROM tmd_pch)
