# The Wan transformer against diffusers on tiny random models; `scripts/parity` alone also runs large ones. It needs the
# environment of scripts/python-env, which downloads torch on its first use; hence label long.
add_test(NAME parity/quick COMMAND ${PROJECT_SOURCE_DIR}/scripts/parity --quick --tmd $<TARGET_FILE:tmd>
  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
set_tests_properties(parity/quick PROPERTIES TIMEOUT 3600 LABELS "long" PROCESSORS 2 RUN_SERIAL ON)
