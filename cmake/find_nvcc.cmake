# Which CUDA compiler a build takes, of those that are there; also a script, which prints it:
#   cmake -P cmake/find_nvcc.cmake
# The one that CMAKE_CUDA_COMPILER or CUDACXX names; else an installed one (CUDA_PATH, /usr/local/cuda, PATH) that is not
# too old; else the one that `./trireme build --cuda` fetched into .cuda. Sets
#   TRIREME_NVCC          its path; empty: there is none
#   TRIREME_NVCC_TOO_OLD  one that is not taken, with its version; empty: there is none
set(TRIREME_CUDA_VERSION_MIN 12.8)  # The first that knows sm_120.
get_filename_component(TRIREME_CUDA_FETCHED ${CMAKE_CURRENT_LIST_DIR}/../.cuda/nvidia/cu13 ABSOLUTE)

function(trireme_nvcc_version nvcc result)
  set(version 0)
  execute_process(COMMAND ${nvcc} --version OUTPUT_VARIABLE text ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed AND text MATCHES "release ([0-9]+\\.[0-9]+)")
    set(version ${CMAKE_MATCH_1})
  endif()
  set(${result} ${version} PARENT_SCOPE)
endfunction()

function(trireme_find_nvcc)
  if(CMAKE_CUDA_COMPILER)
    set(places ${CMAKE_CUDA_COMPILER})
  elseif(DEFINED ENV{CUDACXX})
    set(places $ENV{CUDACXX})
  else()
    find_program(in_path nvcc NO_CACHE)
    set(places $ENV{CUDA_PATH}/bin/nvcc /usr/local/cuda/bin/nvcc ${in_path} ${TRIREME_CUDA_FETCHED}/bin/nvcc)
  endif()
  set(too_old "")
  set(found "")
  foreach(nvcc IN LISTS places)
    if(found OR NOT EXISTS ${nvcc})
      continue()
    endif()
    trireme_nvcc_version(${nvcc} version)
    if(version VERSION_GREATER_EQUAL TRIREME_CUDA_VERSION_MIN)
      set(found ${nvcc})
    elseif(NOT too_old)
      set(too_old "${nvcc} (${version})")
    endif()
  endforeach()
  set(TRIREME_NVCC "${found}" PARENT_SCOPE)
  set(TRIREME_NVCC_TOO_OLD "${too_old}" PARENT_SCOPE)
endfunction()

trireme_find_nvcc()
if(CMAKE_SCRIPT_MODE_FILE STREQUAL CMAKE_CURRENT_LIST_FILE)
  execute_process(COMMAND ${CMAKE_COMMAND} -E echo "${TRIREME_NVCC}")
endif()
