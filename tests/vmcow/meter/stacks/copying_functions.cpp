// A program whose functions copy a known number of pages each, for the tests of `vmcow watch --stacks`.
//
//     copying_functions WHAT [PAGES]
//
// The program forks a child that shares PAGES pages. WHAT says which pages are then copied, and by whom:
//     "functions"  half of them by write_first, a quarter by write_second, a quarter by inlined_write
//     "generated"  all of them by machine code made at run time, which a perf map names generated_write
//     "unnamed"    all of them by machine code made at run time, without a perf map
//     "parent"     all of them by write_first in the parent
//     "new"        none of them; write_first allocates as many pages
// Each step waits for a byte on standard input and answers with a line: "ready PID ADDRESS", "forked PID", "written",
// "over".
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "vmcow/sys/process/signal_process.hpp"

namespace {

constexpr std::size_t kPage = 4096;

void await_byte() {
    char byte = 0;
    if (::read(STDIN_FILENO, &byte, 1) != 1) ::_exit(3);
}

void say(const std::string& line) {
    const std::string text = line + "\n";
    if (::write(STDOUT_FILENO, text.data(), text.size()) != static_cast<ssize_t>(text.size())) ::_exit(4);
}

}  // namespace

__attribute__((noinline)) void write_first(char* memory, std::size_t pages) {
    for (std::size_t i = 0; i < pages; ++i) memory[i * kPage + 17] = 'a';
}

__attribute__((noinline)) void write_second(char* memory, std::size_t pages) {
    for (std::size_t i = 0; i < pages; ++i) memory[i * kPage + 99] = 'b';
}

__attribute__((always_inline)) inline void inlined_write(char* memory, std::size_t pages) {
    for (std::size_t i = 0; i < pages; ++i) memory[i * kPage + 5] = 'c';
}

__attribute__((noinline)) void call_inlined(char* memory, std::size_t pages) { inlined_write(memory, pages); }

__attribute__((noinline)) void write_all(char* memory, std::size_t pages) {
    write_first(memory, pages / 2);
    write_second(memory + pages / 2 * kPage, pages / 4);
    call_inlined(memory + (pages / 2 + pages / 4) * kPage, pages - pages / 2 - pages / 4);
}

namespace {

using Code = void (*)(char* memory, std::size_t pages);

/// for (; pages != 0; --pages, memory += 4096) *memory = 1;
Code generate() {
    constexpr unsigned char kCode[] = {0x48, 0x85, 0xf6,                          // test rsi, rsi
                                       0x74, 0x0f,                                // je end
                                       0xc6, 0x07, 0x01,                          // again: mov byte [rdi], 1
                                       0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00,  // add rdi, 4096
                                       0x48, 0xff, 0xce,                          // dec rsi
                                       0x75, 0xf1,                                // jne again
                                       0xc3};                                     // end: ret
    void* const memory = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) ::_exit(5);
    std::memcpy(memory, kCode, sizeof(kCode));
    if (::mprotect(memory, kPage, PROT_READ | PROT_EXEC) != 0) ::_exit(5);
    return reinterpret_cast<Code>(memory);
}

std::string map_path() { return "/tmp/perf-" + std::to_string(::getpid()) + ".map"; }

void write_map(Code code) {
    std::FILE* const file = std::fopen(map_path().c_str(), "wxe");
    if (file == nullptr) ::_exit(6);
    std::fprintf(file, "not a line of a map\n%llx 17 generated_write\n",
                 static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(code)));
    if (std::fclose(file) != 0) ::_exit(6);
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "functions";
    const std::size_t pages = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 256;
    const std::size_t bytes = pages * kPage;
    void* const mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED || ::madvise(mapped, bytes, MADV_NOHUGEPAGE) != 0) return 7;
    auto* const memory = static_cast<char*>(mapped);
    if (what != "new") std::memset(memory, 1, bytes);
    const bool is_generated = what == "generated" || what == "unnamed";
    const Code code = is_generated ? generate() : nullptr;
    if (what == "generated") write_map(code);

    say("ready " + std::to_string(::getpid()) + " " + std::to_string(reinterpret_cast<std::uintptr_t>(memory)));
    await_byte();
    const pid_t child = ::fork();
    if (child < 0) return 8;
    if (child != 0) say("forked " + std::to_string(child));
    const bool writes = (child == 0) != (what == "parent");
    if (writes) {
        await_byte();
        if (is_generated) {
            code(memory, pages);
        } else if (what == "parent" || what == "new") {
            write_first(memory, pages);
        } else {
            write_all(memory, pages);
        }
        say("written");
        await_byte();
        if (child == 0) ::_exit(0);
        vmcow::sys::signal_process(child, SIGKILL);
    } else if (child == 0) {
        for (;;) ::pause();
    }
    ::waitpid(child, nullptr, 0);
    if (what == "generated") ::unlink(map_path().c_str());
    say("over");
    return 0;
}
