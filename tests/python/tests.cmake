# The Python side: the loader of exports, the prompt script, the yardstick of scripts/parity. They need the environment of
# scripts/python-env, which downloads torch on its first use; hence label long. tests/python/run FILE runs one by hand.
foreach(name test_tmd_wan test_embed_prompts test_parity)
  add_test(NAME python/${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/python/run ${name}
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(python/${name} PROPERTIES TIMEOUT 3600 LABELS "long" ENVIRONMENT "OMP_NUM_THREADS=1")
endforeach()

# The intervals of the toy study: the standard library alone.
add_test(NAME python/test_study COMMAND python3 ${CMAKE_CURRENT_SOURCE_DIR}/python/test_study.py)
set_tests_properties(python/test_study PROPERTIES TIMEOUT 300)
