#pragma once

#include <type_traits>
#include <utility>

namespace procrun {

/// A callable object that goes to another process as its bytes: see `by_bytes`.
template <class F>
class ByBytes {
    static_assert(
        std::is_trivially_copyable_v<F>,
        "captures that go as bytes are trivially copyable: give a string, a container or a value as an argument");

public:
    using Function = F;

    explicit ByBytes(F function) : function_(std::move(function)) {}

    template <class... A>
    decltype(auto) operator()(A&&... arguments) {
        return function_(std::forward<A>(arguments)...);
    }

private:
    F function_;
};

/// Vouches that the captures of a lambda can be sent as bytes. A pool or a graph needs that, because its functions run
/// in processes that were forked earlier. The compiler does not show what is captured, so that you have to know.
///
///     pool.call(procrun::by_bytes([factor](double value) { return factor * value; }), 4.0);
///
/// Pre: no capture is a reference, a pointer, a view or a span, nor `this`: in the other process they lead to memory
///      that has other contents, or none.
template <class F>
[[nodiscard]] ByBytes<F> by_bytes(F function) {
    return ByBytes<F>(std::move(function));
}

}  // namespace procrun
