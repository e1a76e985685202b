#include "vmcow/fork_lock.hpp"

#include <pthread.h>

#include <new>

namespace vmcow {

std::recursive_mutex& fork_lock() {
    // Never destroyed: slots and images may outlive every static object.
    static std::recursive_mutex* const lock = [] {
        auto* const made = new std::recursive_mutex;
        ::pthread_atfork([] { fork_lock().lock(); }, [] { fork_lock().unlock(); },
                         [] { new (&fork_lock()) std::recursive_mutex; });
        return made;
    }();
    return *lock;
}

}  // namespace vmcow
