# Jobs of slurm/train.sbatch on a Slurm cluster of four hosts that cluster.sh makes on this machine. Skipped, with the reason,
# where that cannot be: `tests/slurm/cluster.sh possible`. python3 tests/slurm/hosts.py CASE runs one case by hand.
foreach(script launch interruptions hosts)
  add_test(NAME slurm/${script} COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/slurm/${script}.py
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(slurm/${script} PROPERTIES TIMEOUT 1200 LABELS "slurm" PROCESSORS 2 RUN_SERIAL ON
    SKIP_RETURN_CODE 77 ENVIRONMENT "TMD=$<TARGET_FILE:tmd>")
endforeach()

# These need no Slurm.
add_test(NAME slurm/script COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/slurm/script.py
  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
set_tests_properties(slurm/script PROPERTIES TIMEOUT 600 LABELS "slurm" ENVIRONMENT "TMD=$<TARGET_FILE:tmd>")
add_test(NAME slurm/requeue_rules COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/slurm/requeue_rules.sh)
set_tests_properties(slurm/requeue_rules PROPERTIES TIMEOUT 120 LABELS "slurm")
