#include "procrun/graph/graph_error.hpp"

#include <utility>

namespace procrun {
namespace {

std::string one_line(const std::vector<std::string>& problems) {
    std::string text = "graph: ";
    for (const std::string& problem : problems) {
        if (&problem != &problems.front()) text += "; ";
        text += problem;
    }
    return text;
}

}  // namespace

GraphError::GraphError(std::vector<std::string> problems)
    : std::invalid_argument(one_line(problems)), problems_(std::move(problems)) {}

}  // namespace procrun
