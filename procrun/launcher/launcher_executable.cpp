#include "procrun/launcher/launcher_executable.hpp"

// LAUNCHER_FILE: the executable of target procrun_launcher, in quotes.
asm(".pushsection .rodata\n"
    ".balign 16\n"
    ".hidden kProcrunLauncherBegin, kProcrunLauncherEnd\n"
    ".globl kProcrunLauncherBegin, kProcrunLauncherEnd\n"
    "kProcrunLauncherBegin:\n"
    ".incbin \"" LAUNCHER_FILE
    "\"\n"
    "kProcrunLauncherEnd:\n"
    ".byte 0\n"
    ".popsection\n");

namespace procrun::detail {
namespace {

extern "C" {
extern const std::byte kProcrunLauncherBegin[];
extern const std::byte kProcrunLauncherEnd[];
}

}  // namespace

std::span<const std::byte> launcher_executable() noexcept { return {kProcrunLauncherBegin, kProcrunLauncherEnd}; }

}  // namespace procrun::detail
