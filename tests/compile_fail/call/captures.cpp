// expect: what a lambda captures would go to another process as bytes, where references and pointers lead nowhere: give
// it as arguments, or say by procrun::by_bytes(lambda) that bytes are all there is to it
// names: Function<f(procrun::Pool&, std::string)::<lambda()>
#include <string>

#include "procrun/pool.hpp"

void f(procrun::Pool& pool, std::string text) {
    static_cast<void>(pool.call([text] { return static_cast<int>(text.size()); }));
}
