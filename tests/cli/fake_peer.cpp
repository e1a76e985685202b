// A peer of `vmcow compare` whose name selects its behaviour: "right.peer" does what a peer should do.
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

namespace {

std::uint64_t read_number() {
    std::uint64_t number = 0;
    if (!std::cin.read(reinterpret_cast<char*>(&number), sizeof number)) std::exit(10);
    return number;
}

/// Uses the format alone (vmcow/meter/compare/peer_workload.hpp).
std::uint64_t checksum_of_workload() {
    std::array<char, 8> magic{};
    std::cin.read(magic.data(), magic.size());
    if (std::string(magic.data(), magic.size()) != "vmcowcmp" || read_number() != 1) std::exit(11);
    std::vector<std::uint64_t> words(read_number());
    const std::uint64_t children = read_number();
    const std::uint64_t writes = read_number();
    const std::uint64_t reads = read_number();
    if (children == 0) std::exit(12);
    for (std::uint64_t x = 1; x <= words.size(); ++x) words[x - 1] = x ^ x << 21 ^ x << 42;
    for (std::uint64_t i = 0; i < writes; ++i) {
        std::uint64_t& word = words.at(read_number());
        const std::uint64_t mask = read_number();
        word = (word & ~mask) | read_number();
    }
    std::uint64_t checksum = 0;
    for (std::uint64_t i = 0; i < reads; ++i) checksum = (checksum << 5 | checksum >> 59) ^ words.at(read_number());
    if (std::cin.get() != std::char_traits<char>::eof()) std::exit(13);
    return checksum;
}

void answer(std::uint64_t checksum, const char* write_seconds, const char* copied) {
    std::printf(
        "{\"build_seconds\": 0.5, \"hand_over_seconds\": 0.25, \"write_seconds\": %s, \"read_seconds\": 2e-3,\n"
        " \"memory_before_bytes\": 4096, \"memory_after_bytes\": null, \"copied_bytes\": %s,\n"
        " \"checksum\": \"%016llx\", \"about\": \"as it should be\"}\n",
        write_seconds, copied, static_cast<unsigned long long>(checksum));
}

/// Two processes that do not end. The file that FAKE_PEER_PID names gets the pid of the second one.
[[noreturn]] void hang() {
    const pid_t second = ::fork();
    if (second > 0) std::ofstream(std::getenv("FAKE_PEER_PID")) << second << std::flush;
    for (;;) ::pause();
}

int run(const std::string& name) {
    if (name == "hang") hang();
    if (name == "killed") std::raise(SIGKILL);
    if (name == "garbage") std::puts("Notice: undefined \x1b[31mindex");
    if (name == "endless") {
        while (std::puts("more") >= 0) continue;
    }
    if (name == "status") {
        std::fputs("first\nlast words\n", stderr);
        return 3;
    }
    const std::uint64_t checksum = checksum_of_workload();
    if (name == "right") answer(checksum, "1e-3", "8192");
    if (name == "wrong") answer(checksum + 1, "1e-3", "0");
    if (name == "negative") answer(checksum, "-1", "0");
    if (name == "fraction") answer(checksum, "1", "0.5");
    if (name == "text") answer(checksum, "\"1\"", "0");
    return 0;
}

}  // namespace

int main(int, char** argv) { return run(std::filesystem::path(argv[0]).stem().string()); }
