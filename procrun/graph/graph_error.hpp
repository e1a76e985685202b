#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace procrun {

/// Why a graph cannot be run: what() is one line that names all that is wrong with it.
class GraphError : public std::invalid_argument {
public:
    explicit GraphError(std::vector<std::string> problems);

    [[nodiscard]] const std::vector<std::string>& problems() const noexcept { return problems_; }

private:
    std::vector<std::string> problems_;
};

}  // namespace procrun
