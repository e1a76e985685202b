// expect: a pool calls a function or a lambda whose parameter types are all named: no template, no auto, no overloaded
// operator()
#include "procrun/pool.hpp"

void f(procrun::Pool& pool) {
    static_cast<void>(pool.call([](auto value) { return value; }, 1));
}
