// expect: use of deleted function 'void procrun::Graph::call(...)
// names: ChooseByStaticCast = procrun::detail::OverloadedFunction
// names: static_cast<R (*)(P...)>(name), or a lambda
#include "procrun/graph.hpp"

template <class T>
T twice(T number);
void f(procrun::Graph& graph) { graph.call("twice", twice, 1L); }
