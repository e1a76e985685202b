#pragma once

#include <cstddef>
#include <string_view>

/// Defines `NAME_file()`: the bytes of the file at `path`, which become part of the program. A source that uses this
/// says so to the build, which knows where the file is and that the object file depends on it. Names are unique in a
/// program.
// NOLINTNEXTLINE(cppcoreguidelines-macro-usage): an asm takes no parameters
#define VMCOW_EMBEDDED_FILE(name, path)                                                         \
    asm(".pushsection .rodata\n"                                                                \
        ".global vmcow_file_" #name "_begin\n.global vmcow_file_" #name                         \
        "_end\n"                                                                                \
        "vmcow_file_" #name "_begin: .incbin \"" path "\"\nvmcow_file_" #name                   \
        "_end:\n"                                                                               \
        ".popsection\n");                                                                       \
    extern "C" const char vmcow_file_##name##_begin[]; /* NOLINT */                             \
    extern "C" const char vmcow_file_##name##_end[];   /* NOLINT */                             \
    static std::string_view name##_file() noexcept {                                            \
        return {vmcow_file_##name##_begin,                                                      \
                static_cast<std::size_t>(vmcow_file_##name##_end - vmcow_file_##name##_begin)}; \
    }
