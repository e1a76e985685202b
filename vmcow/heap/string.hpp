#pragma once

#include <algorithm>
#include <boost/container_hash/hash.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <span>
#include <string_view>
#include <utility>

#include "vmcow/heap/sharing.hpp"
#include "vmcow/heap/whole/buffer.hpp"
#include "vmcow/heap/whole/elements.hpp"

namespace vmcow::heap {

// NOLINTBEGIN(readability-identifier-naming): named as in the standard library.

/// Characters, shared as a whole, as the elements of a list are. Changes have the three forms of list. Up to `kSmall`
/// characters lie in the string itself and are copied with it, without an allocation. A string that was moved from is
/// empty and can be used again.
///
/// Shape:   a pointer and 16 bytes; no zero at the end.
/// Throws:  as list.
/// Threads: as list.
template <Options kOptions = Options{}, class Allocator = std::allocator<char>>
class basic_string {
    using Buffer = detail::Buffer<char, kOptions, Allocator>;

public:
    using allocator_type = Allocator;
    using value_type = char;
    using size_type = std::size_t;
    using difference_type = std::ptrdiff_t;
    using reference = const char&;
    using const_reference = const char&;
    using const_iterator = Position<basic_string>;
    using iterator = const_iterator;
    static constexpr std::size_t kSmall = 15;

    basic_string() = default;
    explicit basic_string(const Allocator& allocator) noexcept : buffer_(allocator) {}
    basic_string(std::string_view text, const Allocator& allocator = {}) : buffer_(allocator) { append(text); }
    basic_string(const char* text, const Allocator& allocator = {}) : basic_string(std::string_view(text), allocator) {}
    basic_string(const basic_string&) = default;
    basic_string(const basic_string& other, const Allocator& allocator)
        : buffer_(other.buffer_, allocator), small_(other.small_) {}
    basic_string(basic_string&& other) noexcept
        : buffer_(std::move(other.buffer_)), small_(std::exchange(other.small_, {})) {}
    basic_string(basic_string&& other, const Allocator& allocator)
        : buffer_(std::move(other.buffer_), allocator), small_(other.small_) {
        other.clear();
    }
    basic_string& operator=(const basic_string&) = default;
    basic_string& operator=(basic_string&& other) noexcept(std::is_nothrow_move_assignable_v<Buffer>) {
        if (this == &other) return *this;
        buffer_ = std::move(other.buffer_);
        small_ = other.small_;
        other.clear();
        return *this;
    }
    ~basic_string() = default;
    void swap(basic_string& other) {
        buffer_.swap(other.buffer_);
        std::swap(small_, other.small_);
    }
    friend void swap(basic_string& a, basic_string& b) { a.swap(b); }

    [[nodiscard]] Allocator get_allocator() const noexcept { return buffer_.get_allocator(); }
    /// All characters. Good until this string is changed, moved, assigned or destroyed.
    [[nodiscard]] std::string_view view() const& noexcept {
        if (!buffer_.has_memory()) return {small_.text, small_.size};
        return {buffer_.data(), buffer_.size()};
    }
    template <class U = value_type>
    [[nodiscard]] std::string_view view() const&& noexcept {
        detail::refuse_view_of_temporary<U>();
        return {};
    }
    /// Works on a temporary too, as with std::string: the temporary lives as long as the call whose argument it is.
    operator std::string_view() const noexcept {
        return view();
    }  // NOLINT(google-explicit-constructor): as std::string
    [[nodiscard]] std::span<const char> span() const& noexcept { return view(); }
    template <class U = value_type>
    [[nodiscard]] std::span<const char> span() const&& noexcept {
        detail::refuse_view_of_temporary<U>();
        return {};
    }
    [[nodiscard]] std::size_t size() const noexcept { return view().size(); }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
    /// Throws: std::out_of_range.
    [[nodiscard]] const char& at(std::size_t index) const& {
        const std::string_view all = view();
        detail::check_index(index, all.size());
        return all[index];
    }
    [[nodiscard]] char at(std::size_t index) const&& { return at(index); }
    [[nodiscard]] const char& operator[](std::size_t index) const& { return at(index); }
    [[nodiscard]] char operator[](std::size_t index) const&& { return at(index); }
    [[nodiscard]] const_iterator begin() const& noexcept { return {*this, 0}; }
    [[nodiscard]] const_iterator end() const& noexcept { return {*this, size()}; }
    template <class U = value_type>
    [[nodiscard]] const_iterator begin() const&& noexcept {
        detail::refuse_view_of_temporary<U>();
        return {};
    }
    template <class U = value_type>
    [[nodiscard]] const_iterator end() const&& noexcept {
        detail::refuse_view_of_temporary<U>();
        return {};
    }
    /// Whether a change is made in place: no other string shares the characters, or they lie in the string itself.
    [[nodiscard]] bool is_unique() const noexcept { return buffer_.is_unique(); }
    [[nodiscard]] bool shares_with(const basic_string& other) const noexcept {
        return buffer_.shares_with(other.buffer_);
    }

    /// The index at which `text` first occurs, from `from` on; nullopt if it does not.
    [[nodiscard]] std::optional<std::size_t> find(std::string_view text, std::size_t from = 0) const noexcept {
        const std::size_t found = view().find(text, from);
        return found == std::string_view::npos ? std::nullopt : std::optional(found);
    }
    [[nodiscard]] bool contains(std::string_view text) const noexcept { return find(text).has_value(); }

    /// Appends `text`, which may lie in this string.
    [[VMCOW_RETURNS_CHANGED_COPY(concat)]] basic_string concat(std::string_view text) const& {
        return basic_string(*this).concat(text);
    }
    [[VMCOW_RETURNS_ITSELF(concat)]] basic_string concat(std::string_view text) && {
        append(text);
        return std::move(*this);
    }
    void concat_in_place(std::string_view text) { append(text); }
    [[VMCOW_RETURNS_CHANGED_COPY(set)]] basic_string set(std::size_t index, char value) const& {
        return basic_string(*this).set(index, value);
    }
    [[VMCOW_RETURNS_ITSELF(set)]] basic_string set(std::size_t index, char value) && {
        set_in_place(index, value);
        return std::move(*this);
    }
    void set_in_place(std::size_t index, char value) {
        detail::check_index(index, size());
        buffer_.make_unique();
        (buffer_.has_memory() ? buffer_.writable() : small_.text)[index] = value;
    }
    /// `count` characters from `first` on, cut at the end.
    /// Throws: std::out_of_range -- `first` lies behind the end.
    [[VMCOW_RETURNS_CHANGED_COPY(substring)]] basic_string substring(
        std::size_t first, std::size_t count = std::string_view::npos) const& {
        const std::size_t taken = detail::checked_count(first, count, size());
        if (taken == size()) return *this;
        return basic_string(view().substr(first, taken), selected_allocator());
    }
    [[VMCOW_RETURNS_ITSELF(substring)]] basic_string substring(std::size_t first,
                                                               std::size_t count = std::string_view::npos) && {
        substring_in_place(first, count);
        return std::move(*this);
    }
    void substring_in_place(std::size_t first, std::size_t count = std::string_view::npos) {
        keep(first, detail::checked_count(first, count, size()));
    }
    /// Without `spaces` at both ends.
    [[VMCOW_RETURNS_CHANGED_COPY(trim)]] basic_string trim(std::string_view spaces = kSpaces) const& {
        const auto [first, count] = trimmed(spaces);
        return substring(first, count);
    }
    [[VMCOW_RETURNS_ITSELF(trim)]] basic_string trim(std::string_view spaces = kSpaces) && {
        trim_in_place(spaces);
        return std::move(*this);
    }
    void trim_in_place(std::string_view spaces = kSpaces) {
        const auto [first, count] = trimmed(spaces);
        keep(first, count);
    }
    void clear_in_place() noexcept { clear(); }

    friend bool operator==(const basic_string& a, const basic_string& b) noexcept { return a.view() == b.view(); }
    friend bool operator==(const basic_string& a, std::string_view b) noexcept { return a.view() == b; }
    friend bool operator==(const basic_string& a, const char* b) noexcept { return a.view() == b; }
    friend auto operator<=>(const basic_string& a, const basic_string& b) noexcept { return a.view() <=> b.view(); }
    friend std::ostream& operator<<(std::ostream& out, const basic_string& text) { return out << text.view(); }
    friend std::size_t hash_value(const basic_string& text) noexcept {
        return boost::hash_range(text.view().begin(), text.view().end());
    }

private:
    static constexpr std::string_view kSpaces = " \t\n\v\f\r";
    struct Small {
        char text[kSmall] = {};
        std::uint8_t size = 0;
    };

    void append(std::string_view text) {
        if (text.empty()) return;
        const std::size_t old = size();
        if (!buffer_.has_memory() && text.size() <= kSmall - old) {
            std::memmove(small_.text + old, text.data(), text.size());
            small_.size = static_cast<std::uint8_t>(old + text.size());
        } else if (buffer_.has_memory()) {
            buffer_.append_copies(text.data(), text.size());
        } else {
            // Both are copied before `small_` is cleared: `text` may lie in it.
            buffer_.replace(0, 0, old + text.size(), [&](char* to, std::size_t& made) {
                buffer_.construct_copies(to, made, small_.text, old);
                buffer_.construct_copies(to, made, text.data(), text.size());
            });
            small_ = {};
        }
    }
    /// Keeps `count` characters from `first` on. A shared string of which few characters stay becomes small: those are
    /// the only characters that are copied.
    void keep(std::size_t first, std::size_t count) {
        if (count == size()) return;
        if (!buffer_.has_memory() || (count <= kSmall && !buffer_.is_unique())) {
            Small kept;
            kept.size = static_cast<std::uint8_t>(count);
            if (count != 0) std::memcpy(kept.text, view().data() + first, count);
            small_ = kept;
            buffer_.drop();
        } else if (buffer_.is_unique()) {
            buffer_.erase(first + count, size() - first - count);
            buffer_.erase(0, first);
        } else {
            buffer_ = detail::copy_of_range(buffer_, first, count, get_allocator());
        }
    }
    [[nodiscard]] std::pair<std::size_t, std::size_t> trimmed(std::string_view spaces) const noexcept {
        const std::string_view all = view();
        const std::size_t first = all.find_first_not_of(spaces);
        if (first == std::string_view::npos) return {0, 0};
        return {first, all.find_last_not_of(spaces) - first + 1};
    }
    [[nodiscard]] Allocator selected_allocator() const {
        const Allocator mine = get_allocator();
        return std::allocator_traits<Allocator>::select_on_container_copy_construction(mine);
    }
    void clear() noexcept {
        buffer_.drop();
        small_ = {};
    }

    Buffer buffer_;
    Small small_;
};
using string = basic_string<>;
// NOLINTEND(readability-identifier-naming)

}  // namespace vmcow::heap

template <vmcow::heap::Options kOptions, class Allocator>
struct std::hash<vmcow::heap::basic_string<kOptions, Allocator>> {
    std::size_t operator()(const vmcow::heap::basic_string<kOptions, Allocator>& text) const noexcept {
        return std::hash<std::string_view>()(text.view());
    }
};
