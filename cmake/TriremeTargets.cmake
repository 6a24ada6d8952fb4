# Three verbs cover every target of the project; a module's CMakeLists.txt uses nothing else.
#   trireme_library(<module> [SOURCES ...] [PUBLIC_DEPS ...] [DEPS ...])     no SOURCES: headers only
#   trireme_binary(<program> MAIN <file> DEPS ...)
#   trireme_test(<file>_test.cc ... DEPS ... [LABELS ...] [TIMEOUT s] [OPTIMIZED] [ONE_THREAD])  one executable and one ctest per file
#     ONE_THREAD: no two threads of the tests, or of what they test, touch the same; left out of preset tsan, which finds nothing there
find_program(TRIREME_CCACHE ccache)
if(TRIREME_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The sloppiness is what ccache asks for before it caches a file that uses a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${TRIREME_CCACHE})
endif()
find_program(TRIREME_MOLD mold)
if(TRIREME_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

add_library(trireme_compile INTERFACE)
target_compile_features(trireme_compile INTERFACE cxx_std_20)
# Of C++ alone: nvcc refuses some, and what it makes of a .cu file breaks others.
foreach(option -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
        -Wno-missing-field-initializers)  # Designated initializers leave defaults out on purpose.
  target_compile_options(trireme_compile INTERFACE $<$<COMPILE_LANGUAGE:CXX>:${option}>)
endforeach()
target_include_directories(trireme_compile INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(trireme_compile INTERFACE TRIREME_VERSION="${PROJECT_VERSION}")
target_link_libraries(trireme_compile INTERFACE Threads::Threads)

# Parsing the same headers is half of a sanitizer build. The product of the other builds goes without, so that a missing
# #include shows; GoogleTest's headers are precompiled in all.
option(TRIREME_PRECOMPILE "Precompile the commonest headers" OFF)
function(trireme_precompile set)
  add_library(trireme_precompiled_${set} STATIC ${PROJECT_SOURCE_DIR}/cmake/precompiled.cc)
  target_link_libraries(trireme_precompiled_${set} PRIVATE trireme_compile)
  target_precompile_headers(trireme_precompiled_${set} PRIVATE ${ARGN})
endfunction()
if(TRIREME_PRECOMPILE)
  set(common_headers <absl/status/statusor.h> <absl/strings/str_cat.h> <absl/strings/str_format.h> <absl/types/span.h>
      <functional> <map> <memory> <optional> <string> <thread> <variant> <vector>)
  trireme_precompile(product ${common_headers})
endif()
# What is tested is optimized and looked at for undefined behaviour, the test need not be.
set(test_options -O0)
if(CMAKE_BUILD_TYPE STREQUAL "Asan")
  list(APPEND test_options -fno-sanitize=undefined)
endif()
if(TRIREME_TESTS)
  trireme_precompile(test <gmock/gmock.h> <gtest/gtest.h> ${common_headers})
  target_link_libraries(trireme_precompiled_test PRIVATE GTest::gtest_main)
  target_compile_options(trireme_precompiled_test PRIVATE ${test_options})
endif()

function(trireme_precompiled target set)
  if(TARGET trireme_precompiled_${set})
    target_precompile_headers(${target} REUSE_FROM trireme_precompiled_${set})
    # gcc 12 forgets which headers are the system's, and its false alarms in <string> appear.
    target_compile_options(${target} PRIVATE -Wno-array-bounds -Wno-restrict -Wno-stringop-overflow)
  endif()
endfunction()

# trireme_inner_loops(<file>...)      In the sanitizers' builds. With every check of undefined behaviour gcc 12 takes up to
# twenty minutes for such a file, and what it makes runs at a tenth of the speed; -O1 inlines too little. What is read or
# written beyond its memory is found as before. gcc crashes where the precompiled headers have another -O.
function(trireme_inner_loops)
  if(CMAKE_BUILD_TYPE MATCHES "Asan|Tsan")
    set_property(SOURCE ${ARGN} APPEND PROPERTY COMPILE_OPTIONS -O2)
    set_source_files_properties(${ARGN} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  endif()
  if(CMAKE_BUILD_TYPE STREQUAL "Asan")
    set_property(SOURCE ${ARGN} APPEND PROPERTY COMPILE_OPTIONS -fno-sanitize-address-use-after-scope
                 -fno-sanitize=undefined -fsanitize=shift,signed-integer-overflow)
  endif()
endfunction()

function(trireme_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;PUBLIC_DEPS;DEPS" ${ARGN})
  if(arg_SOURCES)
    add_library(trireme_${name} STATIC ${arg_SOURCES})
    target_link_libraries(trireme_${name} PUBLIC trireme_compile ${arg_PUBLIC_DEPS} PRIVATE ${arg_DEPS})
    trireme_precompiled(trireme_${name} product)
  else()
    add_library(trireme_${name} INTERFACE)
    target_link_libraries(trireme_${name} INTERFACE trireme_compile ${arg_PUBLIC_DEPS})
  endif()
  add_library(trireme::${name} ALIAS trireme_${name})
endfunction()

# Every program lands in build/<preset>/bin, so that each finds its siblings beside itself.
function(trireme_binary name)
  cmake_parse_arguments(arg "" "MAIN" "DEPS" ${ARGN})
  add_executable(${name} ${arg_MAIN})
  target_link_libraries(${name} PRIVATE trireme_compile ${arg_DEPS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
  install(TARGETS ${name})
endfunction()

function(trireme_test)
  if(NOT TRIREME_TESTS)
    return()
  endif()
  cmake_parse_arguments(arg "OPTIMIZED;ONE_THREAD" "TIMEOUT" "DEPS;LABELS" ${ARGN})
  if(arg_ONE_THREAD AND CMAKE_BUILD_TYPE STREQUAL "Tsan")
    return()
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  if(CMAKE_BUILD_TYPE MATCHES "Asan|Tsan")
    math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 5")
  endif()
  foreach(file IN LISTS arg_UNPARSED_ARGUMENTS)
    get_filename_component(name ${file} NAME_WE)
    add_executable(${name} ${file})
    target_link_libraries(${name} PRIVATE trireme_compile ${arg_DEPS} GTest::gtest_main)
    if(NOT arg_OPTIMIZED)  # Most of the time is the test's own.
      target_compile_options(${name} PRIVATE ${test_options})
      trireme_precompiled(${name} test)
    endif()
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/test)
    add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}" PROCESSORS 2)
  endforeach()
endfunction()
