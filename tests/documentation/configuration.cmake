# Is docs/configuration.md what the program prints? PROGRAM, PAGE.
execute_process(COMMAND ${PROGRAM} config --markdown OUTPUT_VARIABLE printed RESULT_VARIABLE code)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "hybridmed config --markdown failed: ${code}")
endif()
file(READ ${PAGE} page)
if(NOT page STREQUAL printed)
  message(FATAL_ERROR "${PAGE} is not what the program prints; write it again with: "
                      "hybridmed config --markdown > docs/configuration.md")
endif()
