// expect: a value holds plain types, containers of vmcow/containers.hpp and vmcow/heap/, and structs of these: what it
// points to would be nowhere in another process, and a class that hides its members has to vouch for itself
// (vmcow::kVouched)
// names: ContentOfValue<Account, Account>
#include "vmcow/containers.hpp"
#include "vmcow/value.hpp"

class Account {
public:
    long cents() const { return cents_; }

private:
    long cents_ = 0;
    vmcow::string owner_;
};
void f() { vmcow::Value<Account> value; }
