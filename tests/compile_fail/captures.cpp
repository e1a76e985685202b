// expect: a pool calls a function or a lambda whose captures are trivially copyable, because they go to another process
// as bytes: give it the rest as arguments
#include <string>

#include "procrun/pool.hpp"

void f(procrun::Pool& pool, std::string text) {
    static_cast<void>(pool.call([text] { return static_cast<int>(text.size()); }));
}
