// Engines of vmcow/heap structures that share as a whole, in one thread and with started calls in another thread.
#include <condition_variable>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "tests/equivalence/interpreter.hpp"
#include "tests/equivalence/whole_structures.hpp"

namespace equivalence {
namespace {

using OneThread = Whole<vmcow::heap::Options{.counted = true}, std::allocator>;
using Threads = Whole<vmcow::heap::Options{.sharing = vmcow::heap::Sharing::threads}, std::allocator>;

using Changed = std::pair<Document<Threads>, Trace>;

/// A thread that runs one task after the other.
class Worker {
public:
    Worker() : thread_([this] { run(); }) {}
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;
    ~Worker() {
        give({});
        thread_.join();
    }
    /// A task without a function ends the thread.
    void give(std::packaged_task<Changed()> task) {
        const std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
        given_.notify_one();
    }

private:
    void run() {
        for (;;) {
            std::unique_lock lock(mutex_);
            given_.wait(lock, [this] { return !tasks_.empty(); });
            std::packaged_task<Changed()> task = std::move(tasks_.front());
            tasks_.pop_front();
            lock.unlock();
            if (!task.valid()) return;
            task();
        }
    }

    std::mutex mutex_;
    std::condition_variable given_;
    std::deque<std::packaged_task<Changed()>> tasks_;
    std::thread thread_;
};

/// Started calls run in another thread, on documents that share memory with variables that change meanwhile.
class ThreadMachine : public PlainMachine<Threads> {
public:
    using Pending = std::pair<Started, std::future<Changed>>;

    explicit ThreadMachine(Worker& worker) : worker_(&worker) {}

    [[nodiscard]] Pending start(Started what, Variable variable, const Ops& ops) const {
        std::packaged_task<Changed()> task([what, document = std::move(variable), ops]() mutable {
            Trace seen = what == Started::look ? look_at(document) : change(document, ops);
            return Changed(std::move(document), std::move(seen));
        });
        Pending pending{what, task.get_future()};
        worker_->give(std::move(task));
        return pending;
    }
    [[nodiscard]] Trace collect(Pending pending, Variable& to) const {
        auto [document, seen] = pending.second.get();
        if (pending.first == Started::apply) to = std::move(document);
        return std::move(seen);
    }

private:
    Worker* worker_;
};

class ThreadEngine : public Engine {
public:
    using Engine::Engine;
    [[nodiscard]] Trace run(const Program& program) override {
        ThreadMachine machine(worker_);
        return Interpreter<ThreadMachine>(machine).run(program);
    }

private:
    Worker worker_;
};

}  // namespace

void add_whole_buffer_engines(Engines& engines) {
    engines.push_back(std::make_unique<MachineEngine<PlainMachine<OneThread>>>("whole-buffer"));
    engines.push_back(std::make_unique<ThreadEngine>("whole-buffer, threads"));
}

}  // namespace equivalence
