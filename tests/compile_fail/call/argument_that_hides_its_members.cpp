// expect: an argument that is no image goes as bytes: it is of a plain type, std::string, a standard container, pair,
// tuple, array, optional, variant, vmcow::Value, vmcow::Snapshot, or a struct of these; no pointer, reference or view,
// and a class that hides its members has to vouch for itself (vmcow::kVouched)
// names: ArgumentWith<1, const Money&, Money&, Money>
#include "procrun/pool.hpp"

class Money {
public:
    explicit Money(long cents) : cents_(cents) {}

private:
    long cents_;
};
void pay(const Money& money);
void f(procrun::Pool& pool, Money money) { static_cast<void>(pool.call(pay, money)); }
