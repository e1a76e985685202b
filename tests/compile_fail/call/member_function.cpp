// expect: a pool does not call a member function: give it a lambda that takes the object, as in [](const Shop& shop,
// int day) { return shop.total(day); }
// names: Function<long int (Shop::*)(int) const>
#include "procrun/pool.hpp"

struct Shop {
    long prices[7];
    long total(int day) const;
};
void f(procrun::Pool& pool, const Shop& shop) { static_cast<void>(pool.call(&Shop::total, shop, 1)); }
