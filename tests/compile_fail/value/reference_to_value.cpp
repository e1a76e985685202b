// expect: a value that is no image is taken by value or as const T&, because what the function writes to it would be
// lost: pass an image, or return the value
#include <string>

#include "procrun/pool.hpp"

void grow(std::string& text);
void f(procrun::Pool& pool, std::string text) { static_cast<void>(pool.call(grow, text)); }
