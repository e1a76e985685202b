# The language, the warnings and the sanitizers, as one target that every target of ours links privately: a program that
# uses the libraries gets none of it.
add_library(project_options INTERFACE)
target_compile_features(project_options INTERFACE cxx_std_20)
target_compile_options(project_options INTERFACE
    -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wold-style-cast -Wundef)
if(VMCOW_WERROR)
    target_compile_options(project_options INTERFACE -Werror)
endif()
# A function is looked up by the dynamic linker when it is first called, and a forked child that calls one first copies
# the pages that this writes to. Looked up at the start, they cost a child nothing: a sixth of a forked call.
target_link_options(project_options INTERFACE -Wl,-z,now)
if(VMCOW_SANITIZE)
    target_compile_options(project_options INTERFACE
        -fsanitize=${VMCOW_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    # The check of virtual tables opens a pipe for every new one: with no descriptor left it fails good objects.
    if(VMCOW_SANITIZE MATCHES undefined)
        target_compile_options(project_options INTERFACE -fno-sanitize=vptr)
    endif()
    target_link_options(project_options INTERFACE -fsanitize=${VMCOW_SANITIZE})
endif()

# vmcow_unity(TARGET [APART SOURCE…]): compiles the sources of a library or a command a dozen at a time, where VMCOW_UNITY
# says so: most of the time that a source takes goes into the headers that it shares with its neighbours. Those APART
# give something of their own a name that another source of the target uses as well.
function(vmcow_unity target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "APART")
    set_target_properties(${target} PROPERTIES UNITY_BUILD ${VMCOW_UNITY} UNITY_BUILD_BATCH_SIZE 12)
    set_source_files_properties(${arg_APART} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

# vmcow_library(NAME SOURCES … HEADERS …): the static library of one folder, with the alias vmcow::NAME. Every header is
# also compiled alone, by the target `all_verify_interface_header_sets`.
function(vmcow_library name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;HEADERS;LINKS")
    add_library(${name} STATIC ${arg_SOURCES})
    add_library(vmcow::${name} ALIAS ${name})
    target_sources(${name} PUBLIC
        FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}" FILES ${arg_HEADERS})
    target_compile_features(${name} PUBLIC cxx_std_20)
    target_link_libraries(${name} PUBLIC ${arg_LINKS} PRIVATE $<BUILD_INTERFACE:project_options>)
    set_target_properties(${name} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
endfunction()
