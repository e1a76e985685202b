# cmake -D COMPILER=… -D INCLUDE=… -D SOURCE=… -P compile_fail.cmake
#
# Passes when the compiler refuses SOURCE with exactly one error: the failed static assertion, or the use of a deleted
# function, that follows "// expect: " in the source. The message must also contain each text that follows "// names: ",
# such as the number and the type of an argument. A source that expects "nothing" must compile: without such a source, all
# the others could fail for some other reason. A source that expects "warning: " and a sentence must compile with exactly
# one warning, which contains that sentence.

# CMake splits lists at semicolons and joins elements between brackets, so both are replaced in every text.
function(without_list_signs variable text)
    string(REPLACE ";" "," text "${text}")
    string(REPLACE "[" "(" text "${text}")
    string(REPLACE "]" ")" text "${text}")
    set(${variable} "${text}" PARENT_SCOPE)
endfunction()

cmake_policy(SET CMP0007 NEW)  # empty lines are elements of a list
file(READ "${SOURCE}" text)
without_list_signs(text "${text}")
string(REPLACE "\n" ";" lines "${text}")
list(FILTER lines INCLUDE REGEX "^// ")
set(names "${lines}")
list(FILTER names INCLUDE REGEX "^// names: ")
list(TRANSFORM names REPLACE "^// names: " "")
list(FILTER lines EXCLUDE REGEX "^// names: ")
list(JOIN lines " " expected)
string(REPLACE " // " " " expected "${expected}")
if(NOT expected MATCHES "^// expect: ")
    message(FATAL_ERROR "${SOURCE}: does not begin with '// expect: '")
endif()
string(REGEX REPLACE "^// expect: " "" expected "${expected}")

execute_process(
    COMMAND "${CMAKE_COMMAND}" -E env LC_ALL=C
            "${COMPILER}" -std=c++20 -Wall "-I${INCLUDE}" -fsyntax-only -fdiagnostics-color=never "${SOURCE}"
    RESULT_VARIABLE status ERROR_VARIABLE said)
without_list_signs(said "${said}")

if(expected STREQUAL "nothing")
    if(NOT status EQUAL 0)
        message(FATAL_ERROR "${SOURCE} does not compile:\n${said}")
    endif()
    return()
endif()
if(expected MATCHES "^warning: ")
    string(REGEX REPLACE "^warning: " "" expected "${expected}")
    string(REGEX MATCHALL "warning: " warnings "${said}")
    list(LENGTH warnings warning_count)
    string(FIND "${said}" "${expected}" found)
    if(NOT status EQUAL 0 OR NOT warning_count EQUAL 1 OR found EQUAL -1)
        message(FATAL_ERROR "${SOURCE}: wanted one warning, '${expected}', got:\n${said}")
    endif()
    return()
endif()
if(status EQUAL 0)
    message(FATAL_ERROR "${SOURCE} compiles")
endif()
string(REGEX MATCHALL "error: [^\n]*" errors "${said}")
list(LENGTH errors error_count)
if(NOT error_count EQUAL 1)
    message(FATAL_ERROR "${SOURCE}: ${error_count} errors, one is wanted:\n${said}")
endif()
if(expected MATCHES "^use of deleted function")
    string(FIND "${errors}" "error: ${expected}" at)
elseif(errors STREQUAL "error: static assertion failed: ${expected}")
    set(at 0)
else()
    set(at -1)
endif()
if(at EQUAL -1)
    message(FATAL_ERROR "${SOURCE}: wanted '${expected}', got '${errors}'")
endif()
foreach(name IN LISTS names)
    string(FIND "${said}" "${name}" at)
    if(at EQUAL -1)
        message(FATAL_ERROR "${SOURCE}: the message does not name '${name}':\n${said}")
    endif()
endforeach()
