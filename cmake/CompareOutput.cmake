# Runs PROGRAM and compares what it prints with the file EXPECTED.
execute_process(COMMAND ${PROGRAM} OUTPUT_VARIABLE printed RESULT_VARIABLE code)
if(printed MATCHES "SKIPPED" AND DEFINED ENV{HYBRIDMED_REQUIRE_CUDA})
  message(FATAL_ERROR "no CUDA device, and one is required here")
endif()
file(READ ${EXPECTED} expected)
if(NOT code EQUAL 0 OR NOT printed STREQUAL expected)
  message(FATAL_ERROR "exit code ${code}\n--- expected\n${expected}--- printed\n${printed}")
endif()
