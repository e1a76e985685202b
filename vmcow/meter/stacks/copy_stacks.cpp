#include "vmcow/meter/stacks/copy_stacks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

namespace vmcow::meter {
namespace {

std::string folded_name(const std::string& name) {
    std::string folded = name;
    for (char& letter : folded) {
        if (letter == ';') letter = ':';
        if (static_cast<unsigned char>(letter) < ' ' || letter == 127) letter = '?';
    }
    return folded;
}

}  // namespace

std::vector<FunctionCopies> copies_by_function(const std::map<CallChain, std::uint64_t>& copies, Symbols& symbols) {
    using Key = std::tuple<std::string, std::string, std::optional<std::string>, std::optional<int>>;
    std::map<Key, std::uint64_t> pages_of;
    std::uint64_t total = 0;
    for (const auto& [chain, pages] : copies) {
        const CodeName& name = symbols.names_at(chain.front(), false).front();
        pages_of[{name.function, name.object, name.file, name.line}] += pages;
        total += pages;
    }
    std::vector<FunctionCopies> functions;
    for (const auto& [key, pages] : pages_of) {
        const auto& [function, object, file, line] = key;
        functions.push_back({{.function = function, .object = object, .file = file, .line = line},
                             pages,
                             static_cast<double>(pages) / static_cast<double>(total)});
    }
    std::stable_sort(functions.begin(), functions.end(),
                     [](const FunctionCopies& a, const FunctionCopies& b) { return a.copied_pages > b.copied_pages; });
    return functions;
}

std::string folded_stacks(const std::map<CallChain, std::uint64_t>& copies, Symbols& symbols,
                          const std::string& program) {
    std::map<std::string, std::uint64_t> lines;
    for (const auto& [chain, pages] : copies) {
        std::string line = folded_name(program);
        for (std::size_t i = chain.size(); i-- > 0;) {
            const std::vector<CodeName>& names = symbols.names_at(chain[i], i > 0);
            for (auto name = names.rbegin(); name != names.rend(); ++name) line += ';' + folded_name(name->function);
        }
        lines[line] += pages;
    }
    std::string text;
    for (const auto& [line, pages] : lines) text += fmt::format("{} {}\n", line, pages);
    return text;
}

std::vector<std::string> notes_on(const SampledFaults& faults) {
    std::vector<std::string> notes;
    const auto note = [&](std::uint64_t count, const char* what) {
        if (count > 0) notes.push_back(fmt::format("{} {}", count, what));
    };
    note(
        faults.inferred,
        "copies were made by or beside processes that ended before their pages were looked at, and are counted because "
        "the page was one that the relatives shared");
    note(faults.unsettled,
         "page faults happened in processes that ended before their pages were looked at: whether they copied is "
         "unknown");
    note(faults.dropped, "page faults were dropped, because there was no room until the next look: shorten --interval");
    note(faults.shortened, "page faults are counted without their callers: there were too many different call chains");
    note(faults.lost_records, "records of perf events were lost, because the processes were faster than this command");
    return notes;
}

}  // namespace vmcow::meter
