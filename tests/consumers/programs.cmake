# The programs that every consumer project builds once it has hybridmed's targets.
set(sources "${CMAKE_CURRENT_LIST_DIR}")

get_target_property(flags hybridmed::hybridmed INTERFACE_COMPILE_OPTIONS)
if(flags)
  message(FATAL_ERROR "hybridmed forces compiler options on its users: ${flags}")
endif()

add_executable(core "${sources}/main.cpp")
target_link_libraries(core PRIVATE hybridmed::hybridmed)
target_compile_options(core PRIVATE -Wall -Wextra -Werror)

if(TARGET hybridmed::io)
  add_executable(components "${sources}/components.cpp")
  target_link_libraries(components PRIVATE hybridmed::io)
  target_compile_options(components PRIVATE -Wall -Wextra -Werror)
  if(TARGET hybridmed::data)
    target_link_libraries(components PRIVATE hybridmed::data)
    target_compile_definitions(components PRIVATE CONSUMER_DATA)
  endif()
endif()
