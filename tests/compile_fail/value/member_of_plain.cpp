// expect: a member is for a value with containers; of plain bytes, pass a part()
#include "vmcow/value.hpp"

struct Point {
    double x, y;
};
void f(const vmcow::Value<Point>& point) { static_cast<void>(point.member(&Point::x)); }
