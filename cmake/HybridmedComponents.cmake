# The components of hybridmed and what each needs; used by the build and by the installed package:
# a component is there where its packages are, on the machine that builds with it.

# Makes hybridmed::SHORT and sets hybridmed_target to the name to give properties to. In an
# installed package (HYBRIDMED_IMPORTED) the target is imported and no other name is taken; in the
# build it can be part of an export of the project that embeds hybridmed.
macro(hybridmed_component short)
  if(HYBRIDMED_IMPORTED)
    set(hybridmed_target hybridmed::${short})
    add_library(${hybridmed_target} INTERFACE IMPORTED)
  else()
    set(hybridmed_target hybridmed_${short})
    if("${short}" STREQUAL "hybridmed")
      set(hybridmed_target hybridmed)
    endif()
    add_library(${hybridmed_target} INTERFACE)
    add_library(hybridmed::${short} ALIAS ${hybridmed_target})
    set_target_properties(${hybridmed_target} PROPERTIES EXPORT_NAME ${short})
    if(HYBRIDMED_INSTALL)
      install(TARGETS ${hybridmed_target} EXPORT hybridmedTargets)
    endif()
  endif()
  if(NOT "${short}" STREQUAL "hybridmed")
    target_link_libraries(${hybridmed_target} INTERFACE hybridmed::hybridmed)
  endif()
endmacro()

# hybridmed_optional(SHORT TARGET PACKAGE...): the component SHORT where all of its targets are
# there, else what is absent. Only for hybridmed_add_components, whose caller gets that text.
macro(hybridmed_optional short)
  if(NOT TARGET hybridmed::${short})
    set(needs ${ARGN})
    set(targets)
    set(absent)
    while(needs)
      list(POP_FRONT needs target package)
      list(APPEND targets ${target})
      if(NOT TARGET ${target})
        list(APPEND absent "${package}")
      endif()
    endwhile()
    if(absent)
      list(JOIN absent ", " absent)
      set(HYBRIDMED_ABSENT_${short} "${absent}" PARENT_SCOPE)
    else()
      hybridmed_component(${short})
      target_link_libraries(${hybridmed_target} INTERFACE ${targets})
    endif()
  endif()
endmacro()

# Finds the packages behind the components.
macro(hybridmed_find_packages)
  find_package(Eigen3 3.4 QUIET NO_MODULE)
  find_package(Threads QUIET)
  # Debian's own package file of oneDNN asks for OpenCL, which the CPU library does not need: look
  # for the library itself.
  find_path(HYBRIDMED_DNNL_INCLUDE_DIR dnnl.h)
  find_library(HYBRIDMED_DNNL_LIBRARY dnnl)
  mark_as_advanced(HYBRIDMED_DNNL_INCLUDE_DIR HYBRIDMED_DNNL_LIBRARY)
  if(HYBRIDMED_DNNL_INCLUDE_DIR AND HYBRIDMED_DNNL_LIBRARY AND NOT TARGET hybridmed_dnnl::dnnl)
    add_library(hybridmed_dnnl::dnnl UNKNOWN IMPORTED GLOBAL)
    set_target_properties(hybridmed_dnnl::dnnl PROPERTIES
      IMPORTED_LOCATION "${HYBRIDMED_DNNL_LIBRARY}"
      INTERFACE_INCLUDE_DIRECTORIES "${HYBRIDMED_DNNL_INCLUDE_DIR}"
      INTERFACE_COMPILE_DEFINITIONS HYBRIDMED_WITH_ONEDNN)
  endif()
  find_package(nlohmann_json 3.9 QUIET)
  find_package(PNG QUIET)
  find_package(JPEG QUIET)
  find_package(xtensor QUIET)
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(UTF8PROC QUIET IMPORTED_TARGET GLOBAL libutf8proc)
    pkg_check_modules(CAIRO QUIET IMPORTED_TARGET GLOBAL cairo)
  endif()
endmacro()

# Makes the targets of the core and of the components whose packages are found; INCLUDE holds the
# headers. What another needs is in HYBRIDMED_ABSENT_<component>, the core being
# HYBRIDMED_ABSENT_hybridmed. May be called again where more has become known.
function(hybridmed_add_components include)
  foreach(component hybridmed onednn io data picture)
    unset(HYBRIDMED_ABSENT_${component} PARENT_SCOPE)
  endforeach()
  hybridmed_find_packages()
  if(NOT TARGET Eigen3::Eigen)
    set(HYBRIDMED_ABSENT_hybridmed "Eigen 3.4 (Debian: libeigen3-dev)" PARENT_SCOPE)
    return()
  endif()
  if(NOT TARGET hybridmed::hybridmed)
    hybridmed_component(hybridmed)
    target_include_directories(${hybridmed_target} INTERFACE "${include}")
    target_compile_features(${hybridmed_target} INTERFACE cxx_std_20)
    target_link_libraries(${hybridmed_target} INTERFACE Eigen3::Eigen)
    if(TARGET Threads::Threads)  # of the std::thread executor and the data loader
      target_link_libraries(${hybridmed_target} INTERFACE Threads::Threads)
    endif()
  endif()
  if(DEFINED HYBRIDMED_ONEDNN AND NOT HYBRIDMED_ONEDNN)
    set(HYBRIDMED_ABSENT_onednn "HYBRIDMED_ONEDNN=ON" PARENT_SCOPE)
  else()
    hybridmed_optional(onednn hybridmed_dnnl::dnnl "oneDNN (Debian: libdnnl-dev)")
  endif()
  hybridmed_optional(io nlohmann_json::nlohmann_json "nlohmann/json (Debian: nlohmann-json3-dev)")
  hybridmed_optional(data
    hybridmed::io "the component io"
    PNG::PNG "libpng (Debian: libpng-dev)"
    JPEG::JPEG "libjpeg (Debian: libjpeg62-turbo-dev)"
    xtensor "xtensor (Debian: libxtensor-dev)"
    PkgConfig::UTF8PROC "utf8proc (Debian: libutf8proc-dev pkg-config)")
  hybridmed_optional(picture PkgConfig::CAIRO "cairo (Debian: libcairo2-dev pkg-config)")
endfunction()

# Looks for what hybridmed::cuda needs; HYBRIDMED_ABSENT_cuda says what is absent, if anything. nvcc
# comes first: the toolkit is the one beside it.
macro(hybridmed_find_cuda)
  set(HYBRIDMED_ABSENT_cuda)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      # Machine code for these, and PTX, which everything newer compiles when it starts.
      set(CMAKE_CUDA_ARCHITECTURES 80 90)
    endif()
    if(NOT DEFINED CMAKE_CUDA_RUNTIME_LIBRARY)
      set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
    endif()
    enable_language(CUDA)
    find_package(CUDAToolkit QUIET)
    if(NOT TARGET CUDA::cublas OR NOT TARGET CUDA::cublasLt)
      string(CONCAT HYBRIDMED_ABSENT_cuda "cuBLAS and cuBLASLt, which were not found beside nvcc "
             "(${CMAKE_CUDA_COMPILER}): install that part of the CUDA Toolkit")
    endif()
  else()
    string(CONCAT HYBRIDMED_ABSENT_cuda "nvcc, which was not found: install the CUDA Toolkit and "
           "put nvcc on PATH (or set CMAKE_CUDA_COMPILER)")
  endif()
endmacro()

# hybridmed::cuda: the kernels under INCLUDE, compiled by nvcc into one static library. The sources
# are installed beside the headers, so a project that uses an installed hybridmed compiles them too,
# for its own architectures.
function(hybridmed_add_cuda include)
  # CMake before 3.26 does not know that nvcc takes C++20: -std is an option below, and CMake must
  # not add one of its own after it.
  cmake_policy(PUSH)
  cmake_policy(SET CMP0128 NEW)
  add_library(hybridmed_cuda STATIC
    "${include}/hybridmed/backend/cuda/context.cu"
    "${include}/hybridmed/backend/cuda/memory.cu"
    "${include}/hybridmed/backend/cuda/blocks.cu"
    "${include}/hybridmed/backend/cuda/staging.cu"
    "${include}/hybridmed/backend/cuda/update.cu"
    "${include}/hybridmed/backend/cuda/replay.cu"
    "${include}/hybridmed/backend/cuda/elementwise.cu"
    "${include}/hybridmed/backend/cuda/rows.cu"
    "${include}/hybridmed/backend/cuda/attention.cu"
    "${include}/hybridmed/backend/cuda/attention_backward.cu"
    "${include}/hybridmed/backend/cuda/attention_bf16.cu"
    "${include}/hybridmed/backend/cuda/attention_bf16_backward.cu"
    "${include}/hybridmed/backend/cuda/losses.cu"
    "${include}/hybridmed/backend/cuda/layer_norm.cu"
    "${include}/hybridmed/backend/cuda/local_alignment.cu"
    "${include}/hybridmed/backend/cuda/local_alignment_bf16.cu"
    "${include}/hybridmed/backend/cuda/token_alignment.cu"
    "${include}/hybridmed/backend/cuda/generation.cu"
    "${include}/hybridmed/backend/cuda/order.cu"
    "${include}/hybridmed/backend/cuda/gather.cu"
    "${include}/hybridmed/backend/cuda/convolution.cu"
    "${include}/hybridmed/backend/cuda/products.cu")
  cmake_policy(POP)
  # Not the standard that the project sets for its own sources.
  set_property(TARGET hybridmed_cuda PROPERTY CUDA_STANDARD)
  add_library(hybridmed::cuda ALIAS hybridmed_cuda)
  target_include_directories(hybridmed_cuda PUBLIC "${include}")
  target_compile_features(hybridmed_cuda INTERFACE cxx_std_20)
  set(options -std=c++20 --extended-lambda --expt-relaxed-constexpr -lineinfo)
  target_compile_options(hybridmed_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${options}>")
  set_target_properties(hybridmed_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Shared
                        POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(hybridmed_cuda PUBLIC CUDA::cudart CUDA::cublas CUDA::cublasLt)
endfunction()
