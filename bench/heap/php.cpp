#include "bench/heap/php.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>

namespace bench {
namespace {

constexpr int kRepetitions = 15;

struct ClosePipe {
    void operator()(FILE* file) const noexcept { ::pclose(file); }
};

/// The output of `command`, run by the shell.
std::string output_of(const std::string& command) {
    const std::unique_ptr<FILE, ClosePipe> pipe(::popen(command.c_str(), "re"));
    if (pipe == nullptr) throw std::system_error(errno, std::generic_category(), "popen");
    std::string text;
    std::array<char, 4096> some{};
    while (const std::size_t got = std::fread(some.data(), 1, some.size(), pipe.get())) text.append(some.data(), got);
    return text;
}

/// The seconds of each of `rounds` first writes, after three that do not count.
std::vector<double> first_writes(std::size_t count, int rounds) {
    const std::string script = R"(
        [, $count, $rounds] = $argv;
        $base = range(0, $count - 1);
        for ($round = -3; $round < $rounds; ++$round) {
            $copy = $base;
            $begin = hrtime(true);
            $copy[7] = 1;
            $end = hrtime(true);
            if ($base[7] !== 7 || $copy[7] !== 1) exit(1);
            if ($round >= 0) echo $end - $begin, "\n";
            unset($copy);
        }
    )";
    const std::string numbers = std::to_string(count) + " " + std::to_string(rounds);
    const std::string text = output_of("php -n -r '" + script + "' " + numbers);
    std::vector<double> seconds;
    for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) {
        seconds.push_back(std::strtod(text.c_str() + at, nullptr) * 1e-9);
    }
    if (seconds.size() != static_cast<std::size_t>(rounds)) throw std::runtime_error("php failed: times are missing");
    return seconds;
}

}  // namespace

void add_php_rows(const BenchSizes& sizes) {
    if (output_of("command -v php").empty()) return;
    const std::size_t count = std::min<std::size_t>(1'000'000, sizes.value_bytes / sizeof(std::uint64_t));
    add_row("php/first_write_fresh", sizes, kRepetitions,
            [count, left = std::vector<double>()](benchmark::State& state, bool& /*warm*/) mutable {
                if (left.empty()) left = first_writes(count, kRepetitions);
                for (auto _ : state) state.SetIterationTime(left.back());
                left.pop_back();
            });
}

}  // namespace bench
