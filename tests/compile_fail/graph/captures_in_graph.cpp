// expect: what a lambda captures would go to another process as bytes, where references and pointers lead nowhere: give
// it as arguments, or say by procrun::by_bytes(lambda) that bytes are all there is to it
// names: Function<
#include "procrun/graph.hpp"

void f(procrun::Graph& graph, long& seen) {
    graph.effect(
        "note", [&](long number) { seen = number; }, 1L);
}
