// expect: an argument of a pool call is an image, or trivially copyable (no pointer), std::string, or a std::vector,
// std::pair or std::tuple of these, and converts to the parameter's type
#include "procrun/pool.hpp"

int length(const char* text);
void f(procrun::Pool& pool) { static_cast<void>(pool.call(length, "text")); }
