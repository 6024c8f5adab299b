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
tmd_e2e_test(methods methods)
tmd_e2e_test(resume resume)
# A sample of the table of faults, another one every day; all of it: scripts/test --full, or faults.py --full.
tmd_e2e_test(faults faults LABELS fault)
tmd_e2e_test(all_faults faults CASES --full LABELS "fault;long")
tmd_e2e_test(bad_input bad_input)
tmd_e2e_test(plan plan)
tmd_e2e_test(verbs verbs)
tmd_e2e_test(judging judging)
tmd_e2e_test(doctor doctor)
tmd_e2e_test(exports exports)
# With a program that compares latents.
add_executable(e2e_latents_program e2e/latents_program.cpp)
target_link_libraries(e2e_latents_program PRIVATE tmd_data torch_cpu spdlog::spdlog)
target_precompile_headers(e2e_latents_program REUSE_FROM tmd_pch)
tmd_e2e_test(synth synth)
# Writes the latents that scripts/gpu-check trains on.
add_executable(e2e_synthetic_latents e2e/synthetic_latents.cpp)
target_link_libraries(e2e_synthetic_latents PRIVATE tmd_data torch_cpu spdlog::spdlog)
target_precompile_headers(e2e_synthetic_latents REUSE_FROM tmd_pch)
tmd_e2e_test(gpu_check gpu_check)
tmd_e2e_test(readme readme)
tmd_e2e_test(demo demo CASES wrong_folder quick_demo damaged_teacher)
# All of what the scripts above take a sample of, another one every day: scripts/test --full, or --full by hand.
foreach(script doctor exports gpu_check judging methods plan resume same_losses synth verbs)
  tmd_e2e_test(all_${script} ${script} CASES --full LABELS long)
endforeach()
# The README's second command as it stands, and with the teacher trained from nothing.
tmd_e2e_test(whole_demo demo CASES whole_demo LABELS long)
tmd_e2e_test(full_demo demo CASES full_demo LABELS long)
# The preset gpu, which needs nvcc and no device: everything of it that scripts/gpu-check runs is built.
add_test(NAME e2e/gpu_build COMMAND ${PROJECT_SOURCE_DIR}/scripts/test --gpu-build WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
set_tests_properties(e2e/gpu_build PROPERTIES TIMEOUT 7200 LABELS "e2e;long" PROCESSORS 2 RUN_SERIAL ON SKIP_RETURN_CODE 69)
