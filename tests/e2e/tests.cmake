# Real jobs of the built program, driven by Python: python3 tests/e2e/resume.py CASE runs one case by hand.
# tmd_e2e_test(NAME SCRIPT [CASES ...] [LABELS ...]): without CASES all of the script.
function(tmd_e2e_test name script)
  cmake_parse_arguments(arg "" "" "CASES;LABELS" ${ARGN})
  add_test(NAME e2e/${name}
    COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/e2e/${script}.py ${arg_CASES}
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(e2e/${name} PROPERTIES TIMEOUT 3600 LABELS "e2e;${arg_LABELS}" PROCESSORS 2 RUN_SERIAL ON
    ENVIRONMENT "TMD=$<TARGET_FILE:tmd>")
endfunction()

tmd_e2e_test(same_losses same_losses)
tmd_e2e_test(resume resume)
# A sample of the table of faults, another one every day; all of it: scripts/test --full, or faults.py --full.
tmd_e2e_test(faults faults LABELS fault)
tmd_e2e_test(all_faults faults CASES --full LABELS "fault;long")
tmd_e2e_test(bad_input bad_input)
tmd_e2e_test(plan plan)
tmd_e2e_test(verbs verbs)
tmd_e2e_test(doctor doctor)
tmd_e2e_test(exports exports)
tmd_e2e_test(readme readme)
tmd_e2e_test(demo demo CASES wrong_folder quick_demo damaged_teacher)
# The README's second command as it stands, and with the teacher trained from nothing.
tmd_e2e_test(whole_demo demo CASES whole_demo LABELS long)
tmd_e2e_test(full_demo demo CASES full_demo LABELS long)
