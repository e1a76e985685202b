#include "vmcow/meter/watch/sibling_copies.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

namespace vmcow::meter {
namespace {

struct ChildChunk {
    const PageStates::Chunk* chunk;
    ProcessSample* sample;
};

/// Whether the child still shares the old page with others after the parent made a copy for itself.
bool is_left_to_several(const PageStates::Chunk& chunk, std::size_t index) {
    const PageWriter writer = chunk.lineage(index).copied_by;
    if (writer != PageWriter::parent && writer != PageWriter::unknown) return false;
    const PageSeen page = chunk.pair(index).now;
    return page.present && !page.exclusive && !page.huge;
}

void count(ProcessSample& sample, std::uint64_t page) {
    const auto behind =
        std::upper_bound(sample.mappings.begin(), sample.mappings.end(), page * kPageBytes,
                         [](std::uint64_t address, const MappingSample& mapping) { return address < mapping.start; });
    if (behind != sample.mappings.begin()) std::prev(behind)->figures.copied_with_sibling += PageCount{1};
    sample.figures.copied_with_sibling += PageCount{1};
}

void count_chunk(std::uint64_t number, std::span<const ChildChunk> children) {
    std::vector<std::uint32_t> frames;  // of the pages counted at one address; 0 if the kernel does not tell
    for (std::size_t i = 0; i < PageStates::kChunkPages; ++i) {
        frames.clear();
        for (const ChildChunk& child : children) {
            if (!is_left_to_several(*child.chunk, i)) continue;
            const std::uint32_t frame = child.chunk->pair(i).now.frame;
            if (std::find(frames.begin(), frames.end(), frame) != frames.end()) {
                count(*child.sample, number * PageStates::kChunkPages + i);
            } else {
                frames.push_back(frame);
            }
        }
    }
}

}  // namespace

void count_sibling_copies(std::span<const CountedProcess> children) {
    if (children.size() < 2) return;
    std::map<std::uint64_t, std::vector<ChildChunk>> chunks;
    for (const CountedProcess& child : children) {
        for (const ChunkCopies& copies : child.sample->copies) {
            const PageStates::Chunk* const chunk = child.process->pages().find(copies.chunk);
            if (chunk != nullptr) chunks[copies.chunk].push_back({chunk, child.sample});
        }
    }
    for (const auto& [number, sharers] : chunks) {
        if (sharers.size() > 1) count_chunk(number, sharers);
    }
}

}  // namespace vmcow::meter
