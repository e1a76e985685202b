#include "vmcow/meter/stacks/lineage_judge.hpp"

namespace vmcow::meter {
namespace {

PageWriter writer_of_copy(const WatchedProcess& process, std::uint64_t page) {
    const PageStates::Chunk* const chunk = process.pages().find(page / PageStates::kChunkPages);
    return chunk == nullptr ? PageWriter::none : chunk->lineage(page % PageStates::kChunkPages).copied_by;
}

}  // namespace

FaultVerdict LineageJudge::verdict(pid_t pid, std::uint64_t page) const {
    const WatchedProcess* const process = family_.find(pid);
    if (process == nullptr) return FaultVerdict::not_settled;
    const PageWriter own = writer_of_copy(*process, page);
    if (own == PageWriter::child || own == PageWriter::unknown) return FaultVerdict::copied;
    for (const WatchedProcess* const child : family_.children_of(pid)) {
        const PageWriter writer = writer_of_copy(*child, page);
        if (writer == PageWriter::parent || writer == PageWriter::unknown) return FaultVerdict::copied;
    }
    return FaultVerdict::not_copied;
}

bool LineageJudge::has_private_page(pid_t pid, std::uint64_t page) const {
    const WatchedProcess* const process = family_.find(pid);
    if (process == nullptr) return false;
    const PagePair pair = process->pages().pair(page);
    return pair.before.exists() || pair.now.exists();
}

}  // namespace vmcow::meter
