# Real jobs of the built program, driven by Python: python3 tests/e2e/resume.py CASE runs one case by hand.
foreach(script same_losses resume bad_input readme demo)
  add_test(NAME e2e/${script} COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/e2e/${script}.py
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(e2e/${script} PROPERTIES TIMEOUT 2400 LABELS e2e PROCESSORS 2 ENVIRONMENT "TMD=$<TARGET_FILE:tmd>")
endforeach()
