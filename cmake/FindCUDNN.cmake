# cuDNN of NVIDIA's packages, of the toolkit's folder, or of the PyPI wheel nvidia-cudnn-cu13, and the headers of its
# frontend, of the PyPI wheel nvidia-cudnn-frontend. CUDNN_ROOT and CUDNN_FRONTEND_ROOT say where else to look; launch/setup.sh
# puts the frontend into build/cudnn_frontend.
#
#   CUDNN_FOUND, CUDNN_VERSION, CUDNN_INCLUDE_DIR, CUDNN_FRONTEND_INCLUDE_DIR, CUDNN_FRONTEND_VERSION, CUDNN_LIBRARY
#   CUDNN::CUDNN  headers and library
find_path(CUDNN_INCLUDE_DIR cudnn.h HINTS ${CUDNN_ROOT} ENV CUDNN_ROOT ${CUDAToolkit_INCLUDE_DIRS} PATHS /usr/local/cuda
          PATH_SUFFIXES include)
find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 HINTS ${CUDNN_ROOT} ENV CUDNN_ROOT ${CUDAToolkit_LIBRARY_DIR}
             PATHS /usr/local/cuda PATH_SUFFIXES lib lib64)
find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h HINTS ${CUDNN_FRONTEND_ROOT} ENV CUDNN_FRONTEND_ROOT
          PATHS ${CMAKE_SOURCE_DIR}/build/cudnn_frontend PATH_SUFFIXES include)

# "1.2.3" from the lines `#define PREFIX_MAJOR 1` and so on of a header, which also names other things.
function(filigree_version_of header prefix result)
  set(version "")
  foreach(part MAJOR MINOR "PATCH(LEVEL|_VERSION)?")
    file(STRINGS ${header} line REGEX "define ${prefix}_${part}(_VERSION)? +[0-9]+")
    string(REGEX REPLACE ".* ([0-9]+).*" "\\1" number "${line}")
    list(APPEND version ${number})
  endforeach()
  list(JOIN version "." version)
  set(${result} ${version} PARENT_SCOPE)
endfunction()
if(CUDNN_INCLUDE_DIR)
  filigree_version_of(${CUDNN_INCLUDE_DIR}/cudnn_version.h CUDNN CUDNN_VERSION)
endif()
if(CUDNN_FRONTEND_INCLUDE_DIR)
  filigree_version_of(${CUDNN_FRONTEND_INCLUDE_DIR}/cudnn_frontend_version.h CUDNN_FRONTEND CUDNN_FRONTEND_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CUDNN REQUIRED_VARS CUDNN_LIBRARY CUDNN_INCLUDE_DIR CUDNN_FRONTEND_INCLUDE_DIR
                                  VERSION_VAR CUDNN_VERSION)
mark_as_advanced(CUDNN_INCLUDE_DIR CUDNN_FRONTEND_INCLUDE_DIR CUDNN_LIBRARY)
if(CUDNN_FOUND AND NOT TARGET CUDNN::CUDNN)
  add_library(CUDNN::CUDNN UNKNOWN IMPORTED)
  set_target_properties(CUDNN::CUDNN PROPERTIES IMPORTED_LOCATION ${CUDNN_LIBRARY}
                        INTERFACE_INCLUDE_DIRECTORIES "${CUDNN_INCLUDE_DIR};${CUDNN_FRONTEND_INCLUDE_DIR}"
                        INTERFACE_LINK_LIBRARIES CUDA::nvrtc)  # the frontend holds kernels as text
endif()
