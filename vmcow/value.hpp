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

#include "vmcow/image/plain_bytes.hpp"
#include "vmcow/image_file.hpp"
#include "vmcow/sys/owned_span.hpp"
#include "vmcow/value/image_heap.hpp"
#include "vmcow/value/image_types.hpp"
#include "vmcow/value/value_block.hpp"
#include "vmcow/value/value_image.hpp"
#include "vmcow/value/value_part.hpp"

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

/// Checks that an image that begins with `first_page` has an object of this type, size and alignment.
/// Throws: std::system_error -- EBADMSG: it has none.
void check_object(const std::byte* first_page, std::uint64_t extent_bytes, std::uint64_t type, std::size_t bytes,
                  std::size_t alignment);
/// Checks the type of a value that was loaded from `path`; a type of 0 is unknown, and accepted.
/// Throws: std::system_error -- EBADMSG: the file holds a value of another type.
void check_type(const std::filesystem::path& path, std::uint64_t found, std::uint64_t wanted);
/// Throws: std::system_error -- EBADMSG: `extent_bytes` is no whole number of elements of `each` bytes.
/// Looks at an image of a value of the type `type`, in which an object of `bytes` is to begin at `offset`.
/// Throws: std::system_error -- EBADMSG: it is no such image.
void check_member(const std::byte* first_page, std::uint64_t extent_bytes, std::uint64_t type, std::uint64_t offset,
                  std::size_t bytes, std::size_t alignment);
/// Where `object` begins in `image`. Throws: std::out_of_range -- it does not lie there.
[[nodiscard]] std::uint64_t offset_in(std::span<const std::byte> image, std::span<const std::byte> object);
[[noreturn]] void refuse_size(std::uint64_t extent_bytes, std::size_t each);
/// An image with a header and a heap, in which there is no object yet. Throws: std::system_error -- EMFILE, ENOMEM.
[[nodiscard]] std::unique_ptr<ValueImage> new_heap_image(const ValueOptions& options, std::uint64_t type);
/// An image of `count` zeroed elements. Throws: std::system_error -- EMFILE, ENOMEM; std::bad_array_new_length.
[[nodiscard]] std::unique_ptr<ValueImage> new_array_image(std::size_t count, std::size_t each, std::size_t alignment,
                                                          const ValueOptions& options);

/// What every value has: its image, shared with other handles. `Self` is the value, an object or an array of type T.
template <class Self, class T>
class ValueFace {
public:
    using Type = T;

    /// A value of an image that was made elsewhere.
    /// Throws: std::system_error -- EBADMSG: the image holds no T.
    [[nodiscard]] static Self from_snapshot(Snapshot snapshot) { return of_image(std::move(snapshot)); }
    /// A value that goes on with an arena. An arena that holds no T is refused (EBADMSG) only when the value is first
    /// read or edited: until then another process may have the arena.
    [[nodiscard]] static Self from_arena(Arena arena) { return of_image(std::move(arena)); }

    /// The value that such a handle is of. Pre: of a T.
    [[nodiscard]] static Self from_handle(ValueHandle handle) noexcept { return Self(OfImage{}, std::move(handle)); }
    /// The value whose bytes these are, from wherever they came. Throws: std::system_error -- EBADMSG: they are no T.
    [[nodiscard]] static Self from_block(ValueBlock block) {
        Self::check(block.data(), block.size());
        return Self(OfImage{}, ValueHandle(std::make_unique<ValueImage>(std::move(block), ValueOptions{},
                                                                        Self::kBlockAlignment, Self::kForm)));
    }

    /// Saves the value in one file; `load` is the way back. See `save_image`; its option `type` is set to the type of
    /// this value.
    /// Throws: std::system_error, with the path; the old file is as it was.
    SaveReport save(const std::filesystem::path& path, SaveOptions options = {}) const {
        options.type = type();
        return save_image(snapshot(), path, options);
    }
    /// Begins to save the value as it is now, while the caller goes on: see `save_image_async`.
    /// Throws: std::system_error -- EAGAIN: no thread; as `snapshot`.
    [[nodiscard]] PendingSave save_async(const std::filesystem::path& path, SaveOptions options = {}) const {
        options.type = type();
        return save_image_async(snapshot(), path, std::move(options));
    }
    /// Maps a value that was saved, O(1): see `load_image`.
    /// Throws: std::system_error, with the path; EBADMSG: the file holds a value of another type.
    [[nodiscard]] static Self load(const std::filesystem::path& path, const LoadOptions& options = {}) {
        LoadedImage loaded = load_image(path, options);
        check_type(path, loaded.type, type());
        return from_snapshot(std::move(loaded.snapshot));
    }

    /// The value as it is now, as an image. Cost: see ValueImage::snapshot.
    [[nodiscard]] Snapshot snapshot() const { return handle_.image().snapshot(); }
    /// Whether no other value shares the image.
    [[nodiscard]] bool is_unique() const noexcept { return handle_.is_unique(); }
    [[nodiscard]] std::uint64_t extent_bytes() const { return handle_.image().extent_bytes(); }
    /// What the kernel has copied for edits since the value became private or its last snapshot was taken, whichever
    /// was later. A page that was copied for an earlier version is not copied again; its changed bytes count.
    /// Cost: a page scan.
    [[nodiscard]] PageChanges changes() const { return handle_.image().changes(); }
    /// A number for the type T, equal in all programs that one compiler has built.
    [[nodiscard]] static std::uint64_t type() noexcept { return typeid(T).hash_code(); }
    [[nodiscard]] const ValueHandle& handle() const noexcept { return handle_; }

protected:
    /// Marks the constructor that `of_image` calls.
    struct OfImage {};

    ValueFace() = default;
    explicit ValueFace(ValueHandle handle) noexcept : handle_(std::move(handle)) {}

    ValueHandle handle_;

private:
    template <class Image>
    static Self of_image(Image image) {
        return Self(OfImage{}, ValueHandle(std::make_unique<ValueImage>(std::move(image), ValueOptions{}, Self::kForm,
                                                                        &Self::check)));
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
/// T is a plain type, a container of vmcow/containers.hpp or vmcow/heap/, or a struct of these. Other types do not
/// compile: pointers, std::string, classes with virtual functions, and classes that hide their members unless they
/// vouch for themselves (`kVouched`). The destructor of T is not run: the memory of the image is given back as a whole.
///
/// A shared value is made private when it is first edited: the image is frozen and mapped once more, privately, so that
/// from then on the kernel copies each page that is written, once. When it is shared and edited again, the mapping goes
/// along with the edit, and the value that stays as it was is mapped when it is read. A value that nobody shares is
/// edited in place.
///
/// A value that was moved from holds nothing: it can only be assigned to or destroyed (sys/held.hpp).
///
/// Threads: two values may be used from two threads even if they share an image; one value as an int.
/// Cost:    a small value is ordinary memory: some 150 bytes beside its own, no descriptor, no mapping and no system
///          call; it is copied as a whole when it is edited while other values share it. From 2 MiB on, or 128 KiB with
///          containers, a value has a memfd.
template <class T>
class Value : public detail::ValueFace<Value<T>, T> {
    using Face = detail::ValueFace<Value<T>, T>;
    friend Face;
    static_assert(detail::kIsComplete<detail::ContentOfValue<T, detail::ForeignIn<T>>>);
    static_assert(!std::is_const_v<T>, "a value is edited: it is of a type that is not const");
    static constexpr bool kPlain = PlainBytes<T>;

public:
    using Face::snapshot;
    using Face::type;

    /// Makes the object from `arguments`, in the image.
    /// Throws: std::system_error -- EMFILE, ENOMEM; what T throws.
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
    [[nodiscard]] const T& read() const& { return *object_at(handle_.data()); }
    const T& read() const&& = delete;  // the value would end before the reference: give the value a name first
    [[nodiscard]] const T& operator*() const& { return read(); }
    const T& operator*() const&& = delete;  // the value would end before the reference
    /// The pointer of a temporary value is good until the end of the statement.
    [[nodiscard]] const T* operator->() const { return &read(); }

    /// Calls `change(object)`, which may write to the object, and returns its result. If `change` throws, the object
    /// stays as `change` has left it.
    /// Pre:    `change` does not copy this value, and takes nothing out of it that has its memory there.
    /// Throws: std::system_error -- EMFILE, ENOMEM, when the value is made private; nothing has changed then.
    /// Cost:   nothing when nobody shares the value. Else a freeze and a mapping, the first time; later a copy of each
    ///         page that was changed since, and no mapping, where no other handle was read. Then a page copy for each
    ///         page that is written for the first time.
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

    /// The part that `pick(object)` returns: a reference to a plain object in it, or a span or container of plain
    /// objects. `pick` may be a pointer to a member: `value.part(&Doc::words)`.
    /// Throws: std::out_of_range -- what `pick` returns does not lie in the value; std::system_error -- as `snapshot`,
    ///         and ENOMEM.
    template <class F>
    requires std::invocable<F&&, const T&>
    [[nodiscard]] auto part(F&& pick) const {
        const Snapshot whole = snapshot();
        return detail::part_of<T>(whole, handle_.data(), std::invoke(std::forward<F>(pick), read()));
    }
    /// The object in this value that `pick(object)` returns a reference to: it may have containers, and grow. `pick`
    /// may be a pointer to a member: `value.member(&Doc::words)`. An `apply` of it returns the whole value.
    /// Throws: std::out_of_range -- the object does not lie in the value.
    /// Cost:   nothing; a handle of this value, which is given up where the value is a temporary.
    template <class F>
    requires std::invocable<F&&, const T&>
    [[nodiscard]] auto member(F&& pick) const& { return Value(*this).pick_member(std::forward<F>(pick)); }
    template <class F>
    requires std::invocable<F&&, const T&>
    [[nodiscard]] auto member(F&& pick) && { return std::move(*this).pick_member(std::forward<F>(pick)); }

private:
    using Face::handle_;

    static constexpr ValueImage::Form kForm = kPlain ? ValueImage::Form::fixed : ValueImage::Form::heap;
    static constexpr std::size_t kBlockAlignment = kPlain ? alignof(T) : std::size_t{ValueBlock::kPlainAlignment};

    Value(typename Face::OfImage, ValueHandle handle) noexcept : Face(std::move(handle)) {}

    template <class F>
    auto pick_member(F&& pick) && {
        using Picked = std::invoke_result_t<F&&, const T&>;
        using E = std::remove_cvref_t<Picked>;
        static_assert(!kPlain, "a member is for a value with containers; of plain bytes, pass a part()");
        static_assert(std::is_lvalue_reference_v<Picked>, "a member is picked by reference");
        const std::byte* const image = handle_.data();
        const auto* const at =
            reinterpret_cast<const std::byte*>(&std::invoke(std::forward<F>(pick), *object_at(image)));
        const std::uint64_t offset = detail::offset_in({image, this->extent_bytes()}, {at, sizeof(E)});
        return Member<T, E>(std::move(*this), offset);
    }

    template <class... A>
    void make(const ValueOptions& options, A&&... arguments) {
        if constexpr (kPlain) {
            constexpr bool kFits = sizeof(T) <= ValueBlock::kLargest && alignof(T) <= kPageBytes;
            if (kFits && options.allow_block()) {
                ValueBlock block(sizeof(T), alignof(T));
                new (block.data()) T(std::forward<A>(arguments)...);
                handle_ = ValueHandle(std::make_unique<ValueImage>(std::move(block), options, alignof(T)));
                return;
            }
            Arena arena({.name = options.name, .reserve_bytes = options.reserve_bytes});
            new (arena.allocate_sparse(sizeof(T), alignof(T))) T(std::forward<A>(arguments)...);
            handle_ = ValueHandle(std::make_unique<ValueImage>(std::move(arena), options, kForm));
        } else {
            handle_ = ValueHandle(detail::new_heap_image(options, type()));
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

/// Bulk data: elements one behind the other in an image of their own, and nothing else. Otherwise as Value<T>; `edit`
/// passes a std::span<T>.
template <class T>
class Value<T[]> : public detail::ValueFace<Value<T[]>, T[]> {
    using Face = detail::ValueFace<Value<T[]>, T[]>;
    friend Face;
    static_assert(detail::kIsComplete<detail::ElementsOfValue<T, detail::NotPlain<T>>>);
    static_assert(!std::is_const_v<T>, "a value is edited: its elements are of a type that is not const");

public:
    using Face::snapshot;

    /// `count` zeroed elements. Throws: std::system_error -- EMFILE, ENOMEM.
    explicit Value(std::size_t count = 0, const ValueOptions& options = {})
        : Face(ValueHandle(detail::new_array_image(count, sizeof(T), alignof(T), options))) {}
    Value(std::initializer_list<T> elements) : Value(std::span<const T>(elements.begin(), elements.size())) {}
    explicit Value(std::span<const T> elements, const ValueOptions& options = {}) : Value(elements.size(), options) {
        if (elements.empty()) return;
        edit([&](std::span<T> to) { std::memcpy(to.data(), elements.data(), elements.size_bytes()); });
    }

    [[nodiscard]] std::size_t size() const { return handle_.image().extent_bytes() / sizeof(T); }
    /// The elements. The span is good until this value is edited, assigned or destroyed.
    [[nodiscard]] std::span<const T> read() const& {
        return {std::launder(reinterpret_cast<const T*>(handle_.data())), size()};
    }
    /// For a temporary value: the elements together with the value.
    [[nodiscard]] OwnedSpan<Value, const T> read() && {
        const std::span<const T> elements = read();
        return {std::move(*this), elements};
    }
    [[nodiscard]] const T& operator[](std::size_t index) const { return read()[index]; }

    template <class F>
    requires std::invocable<F&&, std::span<T>>
    auto edit(F&& change) {
        const ValueEdit editing(handle_);
        return std::forward<F>(change)(std::span<T>(std::launder(reinterpret_cast<T*>(editing.data())), size()));
    }
    /// Adds elements at the end, in place if nobody shares the value. Throws: std::system_error -- ENOMEM.
    void append(std::span<const T> elements) {
        if (elements.empty()) return;
        const ValueEdit editing(handle_);
        const std::size_t before = handle_.image().extent_bytes();
        editing.image().extend(elements.size_bytes());
        std::memcpy(editing.data() + before, elements.data(), elements.size_bytes());
    }
    void append(const T& element) { append(std::span<const T>(&element, 1)); }

    /// The element `index`.
    /// Throws: std::out_of_range -- there are fewer elements; std::system_error -- as `snapshot`, and ENOMEM.
    [[nodiscard]] Part<T[], T> part(std::size_t index) const { return part_from<T>(index, 1); }
    /// `count` elements from `first` on. Throws: as `part` of one element.
    [[nodiscard]] Part<T[], T[]> part(std::size_t first, std::size_t count) const {
        return part_from<T[]>(first, count);
    }

private:
    using Face::handle_;
    static constexpr ValueImage::Form kForm = ValueImage::Form::fixed;
    static constexpr std::size_t kBlockAlignment = alignof(T);

    Value(typename Face::OfImage, ValueHandle handle) noexcept : Face(std::move(handle)) {}

    /// A number whose bytes would overflow is cut to one that is past the end all the same.
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
