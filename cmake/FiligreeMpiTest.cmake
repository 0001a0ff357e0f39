# filigree_mpi_test(name ranks target [args...] [EXPECT_FAILURE regex [SECONDS n] [EXIT code]])
#
# Runs `target` on `ranks` processes of this machine under mpirun. With EXPECT_FAILURE the job must end by itself within
# SECONDS (default 20) with a non-zero exit (EXIT, where given) and print a line that matches the regular expression.
set(FILIGREE_MPI_TEST_SCRIPT ${CMAKE_CURRENT_LIST_DIR}/FiligreeExpectFailure.cmake)

function(filigree_mpi_test name ranks target)
  cmake_parse_arguments(ARG "" "EXPECT_FAILURE;SECONDS;EXIT" "" ${ARGN})
  set(command ${MPIEXEC_EXECUTABLE} --oversubscribe ${MPIEXEC_NUMPROC_FLAG} ${ranks}
      $<TARGET_FILE:${target}> ${ARG_UNPARSED_ARGUMENTS})
  if(DEFINED ARG_EXPECT_FAILURE)
    if(NOT ARG_SECONDS)
      set(ARG_SECONDS 20)
    endif()
    set(command ${CMAKE_COMMAND} "-DMESSAGE=${ARG_EXPECT_FAILURE}" -DSECONDS=${ARG_SECONDS}
        "-DEXIT=${ARG_EXIT}" -P ${FILIGREE_MPI_TEST_SCRIPT} -- ${command})
  endif()
  add_test(NAME ${name} COMMAND ${command})
  # Root may run mpirun (containers); ranks may outnumber cores and then give way to each other; shared memory needs no
  # ptrace permission; InfiniBand is not searched for.
  set_tests_properties(${name} PROPERTIES LABELS "quick;mpi" TIMEOUT 120 PROCESSORS 2 ENVIRONMENT
    "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMPI_MCA_btl_vader_single_copy_mechanism=none;OMPI_MCA_rmaps_base_oversubscribe=1;OMPI_MCA_mpi_yield_when_idle=1;OMPI_MCA_btl=^openib;OMP_NUM_THREADS=1")
endfunction()
