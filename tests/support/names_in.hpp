#pragma once

#include <filesystem>
#include <set>
#include <string>

namespace tests {

/// The names of all that lies in a folder, hidden files too.
[[nodiscard]] inline std::set<std::string> names_in(const std::filesystem::path& folder) {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) names.insert(entry.path().filename());
    return names;
}

}  // namespace tests
