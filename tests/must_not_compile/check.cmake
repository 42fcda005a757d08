# One misuse of a policy: CASE must compile with HYBRIDMED_CONTROL defined, where the misuse is
# mended, and without it must fail with the sentence of its first comment, "// expects: ...".
# -DCASE=file.cpp -DCXX=compiler -DFLAGS=options separated by commas
# With -DCOMPLETE=the library's include folder instead: every sentence in its static_asserts is the
# expectation of some case.
cmake_minimum_required(VERSION 3.22)

function(expectation case result)
  file(READ "${case}" text)
  if(NOT text MATCHES "^// expects: ([^\n]+(\n// [^\n]+)*)")
    message(FATAL_ERROR "${case}: the first line is not '// expects: ...'")
  endif()
  string(REPLACE "\n// " " " sentence "${CMAKE_MATCH_1}")
  set(${result} "${sentence}" PARENT_SCOPE)
endfunction()

if(DEFINED COMPLETE)
  set(expected)
  file(GLOB cases "${CMAKE_CURRENT_LIST_DIR}/*.cpp")
  foreach(case IN LISTS cases)
    expectation("${case}" sentence)
    string(APPEND expected "${sentence}\n")
  endforeach()
  set(found 0)
  file(GLOB_RECURSE headers "${COMPLETE}/hybridmed/*.hpp")
  foreach(header IN LISTS headers)
    file(READ "${header}" text)
    string(REPLACE ";" "<semicolon>" text "${text}")
    # A sentence may be cut into several literals.
    string(REGEX REPLACE "\"[ \n]+\"" "" text "${text}")
    string(REGEX MATCHALL "\"hybridmed: [^\"]*\"" sentences "${text}")
    foreach(sentence IN LISTS sentences)
      string(REPLACE "\"" "" sentence "${sentence}")
      string(REPLACE "<semicolon>" ";" sentence "${sentence}")
      math(EXPR found "${found} + 1")
      string(FIND "${expected}" "${sentence}\n" at)
      if(at EQUAL -1)
        message(SEND_ERROR "${header}: no case expects \"${sentence}\"")
      endif()
    endforeach()
  endforeach()
  if(found EQUAL 0)
    message(FATAL_ERROR "${COMPLETE}: no policy sentence found")
  endif()
  return()
endif()

expectation("${CASE}" sentence)
string(REPLACE "," ";" FLAGS "${FLAGS}")
set(ENV{LC_ALL} C)
set(compile ${CXX} ${FLAGS} -std=c++20 -fsyntax-only -fmessage-length=0)

execute_process(COMMAND ${compile} -DHYBRIDMED_CONTROL "${CASE}"
                RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(NOT code EQUAL 0)
  message(FATAL_ERROR "${CASE}: the control, which uses the policy rightly, does not compile\n"
                      "${output}")
endif()
execute_process(COMMAND ${compile} "${CASE}"
                RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(code EQUAL 0)
  message(FATAL_ERROR "${CASE}: compiles, but must not")
endif()
string(FIND "${output}" "${sentence}" at)
if(at EQUAL -1)
  message(FATAL_ERROR "${CASE}: the compiler's output lacks \"${sentence}\"\n${output}")
endif()
