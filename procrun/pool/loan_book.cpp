#include "procrun/pool/loan_book.hpp"

#include <memory>
#include <utility>

#include "procrun/pool/pool_core.hpp"

namespace procrun::detail {

WorkerLoan::WorkerLoan(std::weak_ptr<PoolCore> core, const WorkerHandle* worker) noexcept
    : core_(std::move(core)), worker_(worker) {}

void WorkerLoan::recall_by(Deadline deadline) noexcept {
    if (const auto core = core_.lock(); core && core->is_mine()) core->reclaim_from(worker_, deadline);
}

void recall_moved(const WorkerHandle& worker, ErasedCall& call) {
    call.loan.reset();  // the loan of a worker that has missed this call
    for (ImageArgument& image : call.images) {
        if (!image.moved) continue;
        const std::shared_ptr<vmcow::Loan> loan = vmcow::ArenaAccess::take_loan(*image.moved);
        if (!loan) continue;
        if (loan->holder() == &worker) {
            call.loan = loan;
        } else if (auto* const of_pool = dynamic_cast<WorkerLoan*>(loan.get())) {
            of_pool->recall_by(call.options.deadline);
        } else {
            loan->recall();
        }
    }
}

bool lend_moved(PoolCore& core, const WorkerHandle& worker, ErasedCall& call, ErasedResult& result) {
    bool lends = false;
    for (ChangedImage& changed : result.changed) {
        if (!changed.moved_back) continue;
        if (!call.loan) call.loan = std::make_shared<WorkerLoan>(core.weak_from_this(), &worker);
        vmcow::ArenaAccess::set_loan(*changed.moved_back, call.loan);
        lends = true;
    }
    call.loan.reset();
    return lends;
}

void LoanBook::add(const PoolLock&, const WorkerHandle* worker) { writers_.insert(worker); }

void LoanBook::remove(const PoolLock&, const WorkerHandle* worker) noexcept {
    writers_.erase(worker);
    changed_.notify_all();
}

void LoanBook::note_idle(const PoolLock&, const WorkerHandle* worker) noexcept {
    if (writers_.contains(worker)) changed_.notify_all();
}

bool LoanBook::has(const PoolLock&, const WorkerHandle* worker) const noexcept { return writers_.contains(worker); }

}  // namespace procrun::detail
