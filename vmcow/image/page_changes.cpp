#include "vmcow/page_changes.hpp"

namespace vmcow {

PageChanges& PageChanges::operator+=(const PageChanges& other) {
    copied += other.copied;
    identical += other.identical;
    changed_bytes += other.changed_bytes;
    return *this;
}

}  // namespace vmcow
