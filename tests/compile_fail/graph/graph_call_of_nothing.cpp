// expect: a call of a function that returns nothing is an effect: graph.effect(...)
#include "procrun/graph.hpp"

void print(long number);
void f(procrun::Graph& graph) { graph.call("print", print, 1L); }
