// expect: captures that go as bytes are trivially copyable: give a string, a container or a value as an argument
// names: ByBytes<f(procrun::Pool&, std::string)::<lambda()>
#include <string>

#include "procrun/pool.hpp"

void f(procrun::Pool& pool, std::string text) {
    static_cast<void>(pool.call(procrun::by_bytes([text] { return static_cast<int>(text.size()); })));
}
