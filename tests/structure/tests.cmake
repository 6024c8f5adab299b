find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME structure/layers COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/structure/check_layers.py ${PROJECT_SOURCE_DIR})
add_test(NAME structure/registered
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/structure/check_registered.py ${PROJECT_SOURCE_DIR})

# Each header compiles alone; headers.txt lists them for the check.
file(GLOB headers RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS
  ${PROJECT_SOURCE_DIR}/base/*.h ${PROJECT_SOURCE_DIR}/comm/*.h ${PROJECT_SOURCE_DIR}/sharding/*.h
  ${PROJECT_SOURCE_DIR}/model/*.h ${PROJECT_SOURCE_DIR}/method/*.h ${PROJECT_SOURCE_DIR}/data/*.h
  ${PROJECT_SOURCE_DIR}/evaluation/*.h ${PROJECT_SOURCE_DIR}/workers/*.h ${PROJECT_SOURCE_DIR}/checkpoint/*.h
  ${PROJECT_SOURCE_DIR}/configs/*.h ${PROJECT_SOURCE_DIR}/orchestrator/*.h)
list(JOIN headers "\n" header_list)
file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/headers.txt CONTENT "${header_list}\n")
add_test(NAME structure/headers_alone
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/structure/check_headers.py ${PROJECT_SOURCE_DIR} ${CMAKE_BINARY_DIR})
set_tests_properties(structure/headers_alone PROPERTIES TIMEOUT 900 PROCESSORS 2)
