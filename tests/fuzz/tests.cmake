# The targets of scripts/fuzz, compiled as ordinary programs and fed with the corpus, so that they stay alive.
foreach(target safetensors_header safetensors_index wan_config)
  add_executable(fuzz_${target} fuzz/${target}_fuzz.cpp fuzz/run_corpus.cpp)
  target_link_libraries(fuzz_${target} PRIVATE tmd_model torch_cpu spdlog::spdlog)
  target_precompile_headers(fuzz_${target} REUSE_FROM tmd_pch)
  add_test(NAME fuzz/${target} COMMAND fuzz_${target} ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${target})
  set_tests_properties(fuzz/${target} PROPERTIES TIMEOUT 300)
endforeach()
