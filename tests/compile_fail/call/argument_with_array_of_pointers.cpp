// expect: an argument that is no image goes as bytes: it is of a plain type, std::string, a standard container, pair,
// tuple, array, optional, variant, vmcow::Value, vmcow::Snapshot, or a struct of these; no pointer, reference or view,
// and a class that hides its members has to vouch for itself (vmcow::kVouched)
// names: ArgumentWith<3, Table, Table&, const char*>
#include "procrun/pool.hpp"

struct Table {
    unsigned rows : 4;
    const char* names[2][8];
};
void print(int from, int to, Table table);
void f(procrun::Pool& pool, Table table) { static_cast<void>(pool.call(print, 1, 2, table)); }
