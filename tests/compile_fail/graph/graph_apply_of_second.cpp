// expect: only the first argument of a graph's apply or of map_parts comes back changed: take the others as const T& or
// std::span<const T>, or, to change a copy, as T
// names: Argument<2, std::span<long int>
#include <span>

#include "procrun/graph.hpp"

void copy(std::span<long> to, std::span<long> from);
void f(procrun::Graph& graph, procrun::GraphEdge<vmcow::Value<long[]>> a, procrun::GraphEdge<vmcow::Value<long[]>> b) {
    graph.apply("copy", copy, a, b);
}
