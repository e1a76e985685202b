#include "vmcow/image/fork_lock.hpp"

#include <pthread.h>

#include <new>

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace vmcow {
namespace {

/// Makes the lock anew in a forked child. The thread sanitizer knows a lock by its address, so it is told that the copy
/// is free.
void make_anew() {
#if defined(__SANITIZE_THREAD__)
    __tsan_mutex_pre_unlock(&fork_lock(), __tsan_mutex_recursive_unlock);
    __tsan_mutex_post_unlock(&fork_lock(), 0);
#endif
    new (&fork_lock()) std::recursive_mutex;
}

}  // namespace

std::recursive_mutex& fork_lock() {
    // Never destroyed: slots and images may outlive every static object.
    static std::recursive_mutex* const lock = [] {
        auto* const made = new std::recursive_mutex;
        ::pthread_atfork([] { fork_lock().lock(); }, [] { fork_lock().unlock(); }, make_anew);
        return made;
    }();
    return *lock;
}

}  // namespace vmcow
