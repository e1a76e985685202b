# Libraries that become part of a program rather than being looked for when it starts: most of the time that `procrun run`
# takes for a short pipeline would go into loading them. Debian has {fmt} as a shared library alone; its headers hold
# the whole of it, which this compiles once.
set(source "${PROJECT_BINARY_DIR}/fmt_library.cpp")
file(CONFIGURE OUTPUT "${source}" CONTENT [[
#include <fmt/format-inl.h>

// What its headers leave to the library.
template fmt::detail::dragonbox::decimal_fp<float> fmt::detail::dragonbox::to_decimal(float);
template fmt::detail::dragonbox::decimal_fp<double> fmt::detail::dragonbox::to_decimal(double);
template fmt::detail::thousands_sep_result<char> fmt::detail::thousands_sep_impl(fmt::detail::locale_ref);
template char fmt::detail::decimal_point_impl(fmt::detail::locale_ref);
]] @ONLY)
add_library(vmcow_fmt STATIC "${source}")
target_compile_features(vmcow_fmt PUBLIC cxx_std_20)
target_include_directories(vmcow_fmt SYSTEM PUBLIC $<TARGET_PROPERTY:fmt::fmt,INTERFACE_INCLUDE_DIRECTORIES>)
add_library(vmcow::fmt ALIAS vmcow_fmt)

# vmcow_static_library(NAME ARCHIVE FALLBACK): vmcow::NAME is ARCHIVE, or where that is not installed FALLBACK.
function(vmcow_static_library name archive fallback)
    find_library(VMCOW_STATIC_${name} ${archive})
    mark_as_advanced(VMCOW_STATIC_${name})
    add_library(vmcow_${name} INTERFACE)
    if(VMCOW_STATIC_${name})
        target_link_libraries(vmcow_${name} INTERFACE "${VMCOW_STATIC_${name}}")
    else()
        target_link_libraries(vmcow_${name} INTERFACE ${fallback})
        set(VMCOW_ALL_STATIC OFF PARENT_SCOPE)
    endif()
    add_library(vmcow::${name} ALIAS vmcow_${name})
endfunction()

set(VMCOW_ALL_STATIC ON)
vmcow_static_library(liburing liburing.a PkgConfig::liburing)
vmcow_static_library(xxhash libxxhash.a PkgConfig::xxhash)
if(VMCOW_SANITIZE)
    set(VMCOW_ALL_STATIC OFF)
endif()
