#pragma once

#include <memory>
#include <string>
#include <vector>

#include "procrun/pool.hpp"
#include "tests/equivalence/program.hpp"

namespace equivalence {

/// Runs programs: an engine decides how documents are held and how functions are called.
class Engine {
public:
    explicit Engine(std::string name) : name_(std::move(name)) {}
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    virtual ~Engine() = default;

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    /// Throws: std::runtime_error -- what the engine cannot do.
    [[nodiscard]] virtual Trace run(const Program& program) = 0;

private:
    std::string name_;
};
using Engines = std::vector<std::unique_ptr<Engine>>;

/// The engine of deep copies, with which the others must agree.
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
