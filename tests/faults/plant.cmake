# Copies SOURCE to TARGET with FROM, which must stand there exactly once, replaced by TO.
file(READ ${SOURCE} text)
string(FIND "${text}" "${FROM}" first)
string(FIND "${text}" "${FROM}" last REVERSE)
if(first EQUAL -1 OR NOT first EQUAL last)
  message(FATAL_ERROR "the fault's line must stand exactly once in ${SOURCE}:\n${FROM}")
endif()
string(REPLACE "${FROM}" "${TO}" text "${text}")
file(WRITE ${TARGET} "${text}")
