# cmake -D COMPILER=… -D INCLUDE=… -D SOURCE=… -P compile_fail.cmake
#
# Passes when the compiler refuses SOURCE with one failed static assertion, and no other error, and the sentence is the
# one that the source's comment has behind "// expect: ". A source that expects "nothing" has to compile: without it, all the
# others could fail for a reason of their own.
file(STRINGS "${SOURCE}" lines REGEX "^// ")
list(JOIN lines " " expected)
string(REPLACE " // " " " expected "${expected}")
if(NOT expected MATCHES "^// expect: ")
    message(FATAL_ERROR "${SOURCE}: does not begin with '// expect: '")
endif()
string(REGEX REPLACE "^// expect: " "" expected "${expected}")

execute_process(
    COMMAND "${COMPILER}" -std=c++20 "-I${INCLUDE}" -fsyntax-only -fdiagnostics-color=never "${SOURCE}"
    RESULT_VARIABLE status ERROR_VARIABLE said)

if(expected STREQUAL "nothing")
    if(NOT status EQUAL 0)
        message(FATAL_ERROR "${SOURCE} does not compile:\n${said}")
    endif()
    return()
endif()
if(status EQUAL 0)
    message(FATAL_ERROR "${SOURCE} compiles")
endif()
string(REGEX MATCHALL "error: " errors "${said}")
string(REGEX MATCHALL "error: static assertion failed: [^\n]*" failed "${said}")
list(LENGTH errors error_count)
if(NOT error_count EQUAL 1)
    message(FATAL_ERROR "${SOURCE}: ${error_count} errors, one is wanted:\n${said}")
endif()
if(NOT failed STREQUAL "error: static assertion failed: ${expected}")
    message(FATAL_ERROR "${SOURCE}: wanted '${expected}', got '${failed}'")
endif()
