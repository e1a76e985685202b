#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include "vmcow/image_file.hpp"
#include "vmcow/image_heap.hpp"
#include "vmcow/plain_bytes.hpp"
#include "vmcow/value_image.hpp"
#include "vmcow/value_part.hpp"

namespace vmcow {

/// A container that takes its memory from the image that it lies in.
template <class T>
concept ImageContainer = requires {
    typename T::allocator_type;
    requires std::same_as<typename T::allocator_type, allocator<typename T::allocator_type::value_type>>;
};

namespace detail {

struct NoElement {};
template <class T>
struct Element {
    using Type = NoElement;
};
template <class T>
requires requires { typename T::value_type; }
struct Element<T> {
    using Type = typename T::value_type;
};
template <class T>
using ElementOf = typename Element<T>::Type;

/// What an image begins with whose object has parts elsewhere in it: the heap follows.
///
///     | header | heap: the object, and all that its containers hold |
struct ValueHeader {
    static constexpr std::uint64_t kMagic = 0x31'65'75'6c'61'56'6d'76;  // "vmValue1"

    std::uint64_t magic = kMagic;
    std::uint64_t type = 0;
    std::uint64_t object = 0;  ///< where the object lies
    std::uint64_t reserved[5] = {};
};
static_assert(sizeof(ValueHeader) == 64);

[[nodiscard]] inline ImageHeap& heap_of(std::byte* image) noexcept {
    return *std::launder(reinterpret_cast<ImageHeap*>(image + sizeof(ValueHeader)));
}
/// Throws: std::system_error -- EBADMSG: an image that begins like this has no object of that type.
void check_object(const std::byte* first_page, std::uint64_t extent_bytes, std::uint64_t type, std::size_t bytes,
                  std::size_t alignment);
/// Throws: std::system_error -- EBADMSG: the file holds a value of another type. 0 is unknown.
void check_type(const std::filesystem::path& path, std::uint64_t found, std::uint64_t wanted);
/// Throws: std::system_error -- EBADMSG: that is no number of elements of `each` bytes.
[[noreturn]] void refuse_size(std::uint64_t extent_bytes, std::size_t each);
/// Makes the header and the heap of an image that is still empty.
void begin_image(Arena& arena, std::uint64_t type);

/// What every value has: its image, shared with other handles. `Self` is the value, an object or an array of type T.
template <class Self, class T>
class ValueFace {
public:
    using Type = T;

    /// The image of a value of this type, from wherever it came.
    /// Throws: std::system_error -- EBADMSG: it holds no T.
    [[nodiscard]] static Self from_snapshot(Snapshot snapshot) { return of_image(std::move(snapshot)); }
    /// As above, but what is wrong is found when the value is first read or edited: until then another process may have
    /// the arena.
    [[nodiscard]] static Self from_arena(Arena arena) { return of_image(std::move(arena)); }

    /// Saves the value in one file; `load` is the way back. See `save_image`, whose option `type` is this value's.
    /// Throws: std::system_error, with the path; the old file is as it was.
    SaveReport save(const std::filesystem::path& path, SaveOptions options = {}) const {
        options.type = type();
        return save_image(snapshot(), path, options);
    }
    /// Maps a value that was saved, O(1): see `load_image`.
    /// Throws: std::system_error, with the path; EBADMSG: it is a value of another type.
    [[nodiscard]] static Self load(const std::filesystem::path& path, const LoadOptions& options = {}) {
        LoadedImage loaded = load_image(path, options);
        check_type(path, loaded.type, type());
        return from_snapshot(std::move(loaded.snapshot));
    }

    /// The value as it is now, as an image. Cost: see ValueImage::snapshot.
    [[nodiscard]] Snapshot snapshot() const { return handle_->snapshot(); }
    /// No other value shares the image.
    [[nodiscard]] bool is_unique() const noexcept { return handle_.is_unique(); }
    [[nodiscard]] std::uint64_t extent_bytes() const { return handle_->extent_bytes(); }
    /// What editing has copied since the value became private or, if that was later, was last taken as a snapshot.
    /// Cost: a page scan.
    [[nodiscard]] PageChanges changes() const { return handle_->changes(); }
    /// A number for the type, the same in every program that the same compiler has made.
    [[nodiscard]] static std::uint64_t type() noexcept { return typeid(T).hash_code(); }
    [[nodiscard]] const ValueHandle& handle() const noexcept { return handle_; }

protected:
    /// The value is made by `of_image`, not by its constructors.
    struct OfImage {};

    ValueFace() = default;
    explicit ValueFace(ValueHandle handle) noexcept : handle_(std::move(handle)) {}

    ValueHandle handle_;

private:
    template <class Image>
    static Self of_image(Image image) {
        return Self(OfImage{},
                    ValueHandle(std::make_unique<ValueImage>(std::move(image), ValueOptions{}, &Self::check)));
    }
};

}  // namespace detail

/// A T in an image of its own: copied in O(1), whatever its size, within a process and to another one.
///
///     struct Doc { vmcow::string title; vmcow::vector<int> words; };
///
///     vmcow::Value<Doc> a;
///     a.edit([](Doc& doc) { doc.title = "first"; doc.words.push_back(1); });
///     vmcow::Value<Doc> b = a;                                        // O(1)
///     b.edit([](Doc& doc) { doc.words.push_back(2); });               // b becomes private; a stays as it was
///     std::size_t words = a->words.size();                            // 1
///
/// T is a plain type, a container of vmcow/containers.hpp, or a struct of these. Its destructor is not run: the memory
/// of the image goes as a whole.
///
/// Shared values are made private when they are first edited: the image is frozen and mapped once more, privately, so
/// that from then on the kernel copies each page that is written, once. A value that nobody shares is edited in place.
///
/// Threads: two values may be used from two threads even if they share an image; one of them as an int.
/// Cost:    a memfd and a page each, at the least; 24 µs to make one and end it (`value/make_small` of value_bench).
///          A million small things are one value, not a million.
template <class T>
class Value : public detail::ValueFace<Value<T>, T> {
    using Face = detail::ValueFace<Value<T>, T>;
    friend Face;
    static_assert(std::is_object_v<T> && !std::is_const_v<T> && !IsView<T>::value,
                  "a value is an object, no pointer, reference or view: those point out of its image");
    static constexpr bool kPlain = PlainBytes<T>;

public:
    using Face::snapshot;
    using Face::type;

    /// Makes the object from `arguments`, in the image. Throws: std::system_error -- EMFILE, ENOMEM; what T throws.
    template <class... A>
    requires std::constructible_from<T, A...>
    explicit Value(std::in_place_t, A&&... arguments) : Value(ValueOptions{}, std::forward<A>(arguments)...) {}
    template <class... A>
    requires std::constructible_from<T, A...>
    explicit Value(const ValueOptions& options, A&&... arguments) { make(options, std::forward<A>(arguments)...); }
    Value() requires std::default_initializable<T> { make(ValueOptions{}); }
    explicit Value(const T& object) { make(ValueOptions{}, object); }
    Value(std::initializer_list<detail::ElementOf<T>> elements) requires
        std::constructible_from<T, std::initializer_list<detail::ElementOf<T>>> {
        make(ValueOptions{}, elements);
    }

    /// The object. The reference is good until this value is edited, assigned or destroyed.
    [[nodiscard]] const T& read() const { return *object_at(handle_->data()); }
    [[nodiscard]] const T& operator*() const { return read(); }
    [[nodiscard]] const T* operator->() const { return &read(); }

    /// Calls `change(object)`, which may write to it, and returns what that returns. If it throws, the object is as it
    /// has left it.
    /// Pre:    `change` does not copy this value, and takes nothing out of it that has its memory there.
    /// Throws: std::system_error -- EMFILE, ENOMEM, when it is made private; nothing has changed then.
    /// Cost:   nothing when nobody shares it; else a freeze, once, and a mapping. Then a page copy for each page
    /// written.
    template <class F>
    requires std::invocable<F&&, T&>
    auto edit(F&& change) {
        using R = std::invoke_result_t<F&&, T&>;
        static_assert(!ImageContainer<std::remove_cvref_t<R>>,
                      "a container that leaves edit() would have its memory in the value: read() it, and copy");
        const ValueEdit editing(handle_);
        T& object = const_cast<T&>(*object_at(editing.data()));
        if constexpr (kPlain) {
            return std::forward<F>(change)(object);
        } else {
            const HeapScope scope(detail::heap_of(editing.data()), &editing.image());
            return std::forward<F>(change)(object);
        }
    }

    /// What `pick(object)` picks out of the object: a reference to a plain object, or a span or container of such. A
    /// pointer to a member does it, too: `value.part(&Doc::words)`.
    /// Throws: std::out_of_range -- that lies elsewhere; std::system_error -- as `snapshot`, and ENOMEM.
    template <class F>
    requires std::invocable<F&&, const T&>
    [[nodiscard]] auto part(F&& pick) const {
        const Snapshot whole = snapshot();
        return detail::part_of<T>(whole, handle_->data(), std::invoke(std::forward<F>(pick), read()));
    }

private:
    using Face::handle_;

    Value(typename Face::OfImage, ValueHandle handle) noexcept : Face(std::move(handle)) {}

    template <class... A>
    void make(const ValueOptions& options, A&&... arguments) {
        Arena arena({.name = options.name, .reserve_bytes = options.reserve_bytes});
        if constexpr (kPlain) {
            new (arena.allocate_sparse(sizeof(T), alignof(T))) T(std::forward<A>(arguments)...);
            handle_ = ValueHandle(std::make_unique<ValueImage>(std::move(arena), options));
        } else {
            detail::begin_image(arena, type());
            handle_ = ValueHandle(std::make_unique<ValueImage>(std::move(arena), options));
            const ValueEdit editing(handle_);
            ImageHeap& heap = detail::heap_of(editing.data());
            const HeapScope scope(heap, &editing.image());
            auto* const memory = static_cast<std::byte*>(heap.allocate(sizeof(T), alignof(T)));
            new (memory) T(std::forward<A>(arguments)...);
            reinterpret_cast<detail::ValueHeader*>(editing.data())->object =
                static_cast<std::uint64_t>(memory - editing.data());
        }
    }

    [[nodiscard]] static const T* object_at(const std::byte* image) noexcept {
        const std::uint64_t offset = kPlain ? 0 : reinterpret_cast<const detail::ValueHeader*>(image)->object;
        return std::launder(reinterpret_cast<const T*>(image + offset));
    }
    static void check(const std::byte* first_page, std::uint64_t extent_bytes) {
        if constexpr (!kPlain) {
            detail::check_object(first_page, extent_bytes, type(), sizeof(T), alignof(T));
        } else if (extent_bytes != sizeof(T)) {
            detail::refuse_size(extent_bytes, sizeof(T));
        }
    }
};

/// Elements one behind the other in an image of their own, and nothing else: bulk data. As Value<T> otherwise; `edit`
/// gets a std::span<T>.
template <class T>
class Value<T[]> : public detail::ValueFace<Value<T[]>, T[]> {
    using Face = detail::ValueFace<Value<T[]>, T[]>;
    friend Face;
    static_assert(PlainBytes<T> && !std::is_const_v<T>, "the elements of an array value are plain bytes");

public:
    using Face::snapshot;

    /// `count` zeroed elements. Throws: std::system_error -- EMFILE, ENOMEM.
    explicit Value(std::size_t count = 0, const ValueOptions& options = {})
        : Face(ValueHandle(std::make_unique<ValueImage>(arena_of(count, options), options))) {}
    Value(std::initializer_list<T> elements) : Value(std::span<const T>(elements.begin(), elements.size())) {}
    explicit Value(std::span<const T> elements, const ValueOptions& options = {}) : Value(elements.size(), options) {
        if (elements.empty()) return;
        edit([&](std::span<T> to) { std::memcpy(to.data(), elements.data(), elements.size_bytes()); });
    }

    [[nodiscard]] std::size_t size() const { return handle_->extent_bytes() / sizeof(T); }
    /// Good until this value is edited, assigned or destroyed.
    [[nodiscard]] std::span<const T> read() const {
        return {std::launder(reinterpret_cast<const T*>(handle_->data())), size()};
    }
    [[nodiscard]] const T& operator[](std::size_t index) const { return read()[index]; }

    template <class F>
    requires std::invocable<F&&, std::span<T>>
    auto edit(F&& change) {
        const ValueEdit editing(handle_);
        return std::forward<F>(change)(std::span<T>(std::launder(reinterpret_cast<T*>(editing.data())), size()));
    }
    /// Adds elements at the end; in place if nobody shares the value. Throws: std::system_error -- ENOMEM.
    void append(std::span<const T> elements) {
        if (elements.empty()) return;
        const ValueEdit editing(handle_);
        const std::size_t before = handle_->extent_bytes();
        editing.image().extend(elements.size_bytes());
        std::memcpy(editing.data() + before, elements.data(), elements.size_bytes());
    }
    void append(const T& element) { append(std::span<const T>(&element, 1)); }

    /// The element `index`, and `count` elements from `first` on. Throws: std::out_of_range -- there are not so many;
    /// std::system_error -- as `snapshot`, and ENOMEM.
    [[nodiscard]] Part<T[], T> part(std::size_t index) const { return part_from<T>(index, 1); }
    [[nodiscard]] Part<T[], T[]> part(std::size_t first, std::size_t count) const {
        return part_from<T[]>(first, count);
    }

private:
    using Face::handle_;

    Value(typename Face::OfImage, ValueHandle handle) noexcept : Face(std::move(handle)) {}

    [[nodiscard]] static Arena arena_of(std::size_t count, const ValueOptions& options) {
        Arena arena({.name = options.name, .reserve_bytes = options.reserve_bytes});
        static_cast<void>(arena.allocate_array<T>(count));
        return arena;
    }
    /// Numbers that are too large for bytes are no less past the end.
    template <class E>
    [[nodiscard]] Part<T[], E> part_from(std::size_t first, std::size_t count) const {
        constexpr std::size_t kMost = std::numeric_limits<std::size_t>::max() / sizeof(T) / 2;
        return {snapshot(), std::min(first, kMost) * sizeof(T), std::min(count, kMost) * sizeof(T)};
    }
    static void check(const std::byte*, std::uint64_t extent_bytes) {
        if (extent_bytes % sizeof(T) != 0) detail::refuse_size(extent_bytes, sizeof(T));
    }
};

}  // namespace vmcow
