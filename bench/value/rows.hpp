#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <vector>

#include "bench/bench_support.hpp"
#include "vmcow/value.hpp"

namespace bench {

using Bytes = vmcow::Value<std::byte[]>;

/// A value that nobody shares; every byte is `kFilled`.
inline Bytes filled_value(std::size_t bytes) {
    Bytes value(bytes, {.name = "bench"});
    value.edit([](std::span<std::byte> all) { std::memset(all.data(), kFilled, all.size()); });
    return value;
}

/// Bytes in ordinary memory of the heap; every byte is `kFilled`.
inline std::vector<std::byte> filled_heap(std::size_t bytes) {
    return std::vector<std::byte>(bytes, std::byte{kFilled});
}

inline void write_words(std::byte* value, std::span<const std::size_t> offsets, std::uint64_t word) {
    for (const std::size_t offset : offsets) std::memcpy(value + offset, &word, sizeof word);
}

inline std::uint64_t word_at(const std::byte* at) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof word);
    return word;
}

/// The value that most rows begin with. It is made when the first of these rows runs, and never changed.
class BaseValue {
public:
    explicit BaseValue(std::size_t bytes) : bytes_(bytes) {}

    [[nodiscard]] const Bytes& operator()() const {
        if (!*value_) *value_ = filled_value(bytes_);
        return **value_;
    }
    [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

private:
    std::size_t bytes_;
    std::shared_ptr<std::optional<Bytes>> value_ = std::make_shared<std::optional<Bytes>>();
};

}  // namespace bench
