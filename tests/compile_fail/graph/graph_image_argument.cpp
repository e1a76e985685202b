// expect: an image is given to a graph as an input, and to its calls as that edge
#include <span>

#include "procrun/graph.hpp"

long sum(std::span<const long> values);
void f(procrun::Graph& graph, const vmcow::Snapshot& image) { static_cast<void>(graph.call("sum", sum, image)); }
