// expect: use of deleted function 'const T& vmcow::Value<T>::read() const &&
// names: give the value a name first
#include "procrun/pool.hpp"
#include "vmcow/containers.hpp"
#include "vmcow/value.hpp"

void f(procrun::Pool& pool, const vmcow::Value<vmcow::vector<long>>& numbers) {
    for (long number : pool.apply([](vmcow::vector<long>& all) { all[0] = 1; }, numbers).value().read()) {
        static_cast<void>(number);
    }
}
