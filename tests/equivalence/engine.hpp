#pragma once

#include <memory>
#include <string>
#include <vector>

#include "procrun/pool.hpp"
#include "tests/equivalence/program.hpp"

namespace equivalence {

/// Something that runs programs: what it holds documents in, and how it calls functions.
class Engine {
public:
    explicit Engine(std::string name) : name_(std::move(name)) {}
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    virtual ~Engine() = default;

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    /// Throws: what the engine cannot do, as std::runtime_error.
    [[nodiscard]] virtual Trace run(const Program& program) = 0;

private:
    std::string name_;
};
using Engines = std::vector<std::unique_ptr<Engine>>;

/// Deep copies: what the others must agree with.
[[nodiscard]] std::unique_ptr<Engine> reference_engine();
/// The reference with a fault: variables that share see each other's changes.
[[nodiscard]] std::unique_ptr<Engine> broken_engine();

void add_whole_buffer_engines(Engines& engines);
void add_block_engines(Engines& engines);
void add_value_engines(Engines& engines, procrun::Pool& pool);
[[nodiscard]] inline Engines all_engines(procrun::Pool& pool) {
    Engines engines;
    add_whole_buffer_engines(engines);
    add_block_engines(engines);
    add_value_engines(engines, pool);
    return engines;
}

}  // namespace equivalence
