#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

namespace tests {

/// Random pipeline texts of the program `show` (show_stage.cpp), with everything that is hard to read: quotes,
/// continued lines, numbers and signs that touch, tildes, equals signs, blanks, empty words. The file that is read is
/// `in`; a file that is written has another name in each stage.
class PipelineTexts {
public:
    /// Which pieces a text is made of.
    enum class Kind {
        plain,  ///< all shells agree on the meaning, unless pieces that touch become something else
        wild,   ///< also text that only some shells know, or that must be refused
    };

    explicit PipelineTexts(std::uint64_t seed) : random_(seed) {}

    [[nodiscard]] std::string next(Kind kind);

private:
    [[nodiscard]] bool one_in(std::size_t n) { return below(n) == 0; }
    [[nodiscard]] std::size_t below(std::size_t n) { return random_() % n; }
    template <std::size_t kCount>
    [[nodiscard]] std::string one_of(const std::string_view (&pieces)[kCount]) {
        return std::string(pieces[below(kCount)]);
    }

    [[nodiscard]] std::string blanks();
    [[nodiscard]] std::string word();
    [[nodiscard]] std::string file_name();
    [[nodiscard]] std::string redirection();
    [[nodiscard]] std::string stage(bool is_last);

    std::mt19937_64 random_;
    bool wild_ = false;
    std::size_t number_ = 0;  ///< the number of the stage
};

}  // namespace tests
