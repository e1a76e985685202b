# The C library of the launcher: musl, with which it is 21 KiB and starts in 0.2 ms, or the compiler's own, with which it is
# 700 KiB, all of which are written to a memfd, and takes 0.5. The headers are the compiler's in both cases: what the launcher
# uses of them is the kernel's.
find_library(VMCOW_MUSL libc.a PATHS "/usr/lib/${CMAKE_SYSTEM_PROCESSOR}-linux-musl" NO_DEFAULT_PATH)
mark_as_advanced(VMCOW_MUSL)

# vmcow_embedded_launcher(NAME SOURCES … INTO LIBRARY SOURCE): a small static executable, and the source file of a library
# that takes its bytes in (.incbin of LAUNCHER_FILE). It is never built with sanitizers: it shares its memory with what it
# starts.
function(vmcow_embedded_launcher name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;INTO")
    list(GET arg_INTO 0 library)
    list(GET arg_INTO 1 source)
    get_target_property(options project_options INTERFACE_COMPILE_OPTIONS)
    list(FILTER options EXCLUDE REGEX "sanitize")

    add_executable(${name} ${arg_SOURCES})
    target_compile_features(${name} PRIVATE cxx_std_20)
    target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}")
    target_compile_options(${name} PRIVATE ${options}
        -O2 -g0 -fno-exceptions -fno-rtti -fno-asynchronous-unwind-tables -fno-stack-protector -ffunction-sections
        -fdata-sections)
    target_link_options(${name} PRIVATE -static -s -Wl,--gc-sections)
    if(VMCOW_MUSL)
        cmake_path(GET VMCOW_MUSL PARENT_PATH musl)
        target_link_options(${name} PRIVATE -nostdlib "${musl}/crt1.o" "${musl}/crti.o")
        target_link_libraries(${name} PRIVATE "${VMCOW_MUSL}" gcc "${musl}/crtn.o")
    endif()
    # A name that is known here: the assembler's input is no dependency that a compiler finds.
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}")
    set(file "${CMAKE_CURRENT_BINARY_DIR}/${name}")
    set_property(SOURCE ${source} APPEND PROPERTY COMPILE_DEFINITIONS "LAUNCHER_FILE=\"${file}\"")
    set_property(SOURCE ${source} APPEND PROPERTY OBJECT_DEPENDS "${file}")
    add_dependencies(${library} ${name})
endfunction()
