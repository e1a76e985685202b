#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "pipes/pump/pump_options.hpp"
#include "procrun/deadline.hpp"
#include "procrun/observe/value_wait.hpp"
#include "procrun/pipeline/bounded_channel.hpp"
#include "vmcow/page_changes.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/value.hpp"
#include "vmcow/wire/typed_values.hpp"

namespace procrun {

namespace detail {

template <class V>
inline constexpr bool kIsTypedValue = false;
template <class T>
inline constexpr bool kIsTypedValue<vmcow::Value<T>> = true;

}  // namespace detail

/// What a function stage can give and take: a vmcow::Value<T>, a vmcow::Value<T[]> or a vmcow::Snapshot.
template <class V>
concept StageValue = detail::kIsTypedValue<V> || std::same_as<V, vmcow::Snapshot>;

/// How far values may be ahead of the stages that take them.
struct ValueBounds {
    /// Values under way to each reader: given, and not yet taken.
    std::size_t under_way = 4;
    /// Values that the giver keeps for each reader that stands still while another reader takes: descriptors, no
    /// copies. Past this limit the giver fails (EDQUOT).
    std::size_t held = 128;
    /// How long a giver waits for one reader before it keeps that reader's values and goes on with the others.
    std::chrono::milliseconds stall_limit{50};

    bool operator==(const ValueBounds&) const = default;
};

/// Values that went through a function stage, and what they have cost.
struct ValueTraffic {
    std::uint64_t taken = 0;
    std::uint64_t given = 0;      ///< counted for each reader: a value that two read counts twice
    std::uint64_t moved = 0;      ///< those that were given away to be changed in place; the others are shared
    std::uint64_t most_held = 0;  ///< the most values that were kept for a reader that stood still
    /// Pages that the stage has copied by writing to values and to images that it was forked with, whether it gave them
    /// on or not, counted by a page scan. nullopt when they could not be counted.
    std::optional<vmcow::PageChanges> changes;
};

/// A function stage's connection to the stages before and after it: bytes, values, or both.
///
///     procrun::StageIo& io
///     while (auto doc = io.take<vmcow::Value<Doc>>()) {       // a handle: nothing is read, nothing copied
///         doc->edit([](Doc& d) { d.title = "seen"; });        // in place, or copies the page that it changes
///         io.give(*std::move(doc));                           // by descriptor; given away if nobody shares it
///     }
///
/// Bytes are the standard input and output of the stage's process, so that std::cout and printf write to the next stage
/// too. Values go beside the bytes. They keep their own order, but have none in relation to the bytes.
///
/// A stage that gives or writes waits while its readers are too far behind. When no reader is left, it gets SIGPIPE, as
/// a program does; where SIGPIPE is ignored, std::system_error EPIPE.
///
/// Threads: one.
class StageIo {
public:
    /// The ends of one stage's channels.
    struct Channels {
        std::vector<BoundedReceiver> in;
        std::vector<BoundedSender> out;
        pipes::Join join = pipes::Join::in_order;
        ValueBounds bounds{};
        SharedValueWait wait{};  ///< where the stage shows what it waits for; may be null
    };

    explicit StageIo(Channels channels);
    StageIo(const StageIo&) = delete;
    StageIo& operator=(const StageIo&) = delete;

    // ---- bytes

    /// Waits for bytes and reads as many as there are, at least one. Returns how many; 0 at the end.
    /// Throws: std::system_error -- read(2)'s errno.
    [[nodiscard]] std::size_t read(std::span<std::byte> into);
    /// Reads everything that is left, into huge pages.
    /// Throws: std::system_error -- ENOMEM, EIO, EFBIG.
    [[nodiscard]] vmcow::Value<char[]> read_all();
    /// Throws: std::system_error -- write(2)'s errno.
    void write(std::span<const std::byte> bytes);
    void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

    // ---- values

    /// Waits for the next value; nullopt when all givers have ended, and at once where no stage before this one can
    /// give. Of several givers, all values of the first come first, then those of the second …, or values come as they
    /// are given, as the stage's `join` says.
    /// Throws: std::system_error -- EBADMSG: the value is of another type; EMFILE, ENOMEM.
    template <StageValue V>
    [[nodiscard]] std::optional<V> take() {
        std::optional<vmcow::TypedImage> value = take_any();
        if (!value) return std::nullopt;
        if (auto* const own = std::get_if<vmcow::TypedArena>(&*value)) {
            if constexpr (std::same_as<V, vmcow::Snapshot>) {
                return std::move(own->arena).freeze();
            } else {
                require_type(own->type, V::type());
                return V::from_arena(std::move(own->arena));
            }
        }
        return value_of<V>(std::get<vmcow::TypedSnapshot>(*std::move(value)));
    }
    /// A value as a V.
    /// Throws: std::system_error -- EBADMSG: the value is of another type.
    template <StageValue V>
    [[nodiscard]] static V value_of(vmcow::TypedSnapshot value) {
        if constexpr (std::same_as<V, vmcow::Snapshot>) {
            return std::move(value.snapshot);
        } else {
            require_type(value.type, V::type());
            return V::from_snapshot(std::move(value.snapshot));
        }
    }

    /// Gives a value, as it is now, to each function stage that reads this one, and to the caller if this is an output.
    /// Where only programs or nobody read this stage, the value's bytes go to the standard output, spliced out of its
    /// image: the elements of a Value<T[]>, or what a Snapshot holds. The bytes of a Value<T> mean something to a
    /// program only if T is plain.
    ///
    /// A value that its last user moves in here, and that this stage has made or changed in place, is given away if a
    /// single function stage reads it: no page is sealed, and no page is copied when that stage changes the value.
    /// Throws: std::system_error -- EMFILE, ENOMEM; EDQUOT: a reader that stands still is too far behind.
    template <class V>
    requires StageValue<std::remove_cvref_t<V>>
    void give(V&& value) {
        using Given = std::remove_cvref_t<V>;
        if constexpr (std::same_as<Given, vmcow::Snapshot>) {
            give_any(vmcow::TypedSnapshot{std::forward<V>(value), 0});
        } else {
            if constexpr (!std::is_lvalue_reference_v<V>) {
                if (takes_arenas() && value.is_unique()) {
                    if (auto arena = value.handle()->take_own_arena()) {
                        return give_any(vmcow::TypedArena{*std::move(arena), Given::type()});
                    }
                }
            }
            note_changes([&] { return value.changes(); });
            give_any(vmcow::TypedSnapshot{value.snapshot(), Given::type()});
        }
    }

    /// Gives a value whose type is known by its number.
    void give(const vmcow::TypedSnapshot& value) { give_any(value); }

    /// Hands over what is kept for readers that stood still, and closes all channels.
    void finish();
    /// Compares two types, of which 0 is any.
    /// Throws: std::system_error -- EBADMSG: the types differ.
    static void require_type(std::uint64_t found, std::uint64_t wanted);
    /// What has gone through so far; `changes` counts the values that were given.
    [[nodiscard]] const ValueTraffic& traffic() const noexcept { return traffic_; }

private:
    struct Reader {
        BoundedSender sender;
        std::deque<vmcow::TypedImage> held;
        bool stands_still = false;

        [[nodiscard]] bool waits() const noexcept { return !held.empty() && !sender.closed(); }
    };

    [[nodiscard]] std::optional<vmcow::TypedImage> take_any();
    [[nodiscard]] BoundedReceiver* next_giver();
    /// Whether there is a single reader, which can go on with an arena.
    [[nodiscard]] bool takes_arenas() const noexcept;
    void give_any(const vmcow::TypedSnapshot& value);
    void give_any(vmcow::TypedArena value);
    void wait_and_hand_over();
    void give_bytes(const vmcow::Snapshot& snapshot);
    void hand_over(Reader& reader);
    void hand_over_all();
    void wait_for_readers();
    void wait_for_any(Deadline until);
    static void reader_gone();

    /// A page scan may be refused; then the sum is unknown from here on (I8).
    template <class Count>
    void note_changes(Count&& count) {
        try {
            if (traffic_.changes) *traffic_.changes += count();
        } catch (const std::system_error&) {
            traffic_.changes.reset();
        }
    }

    std::vector<BoundedReceiver> givers_;
    std::vector<Reader> readers_;
    pipes::Join join_;
    ValueBounds bounds_;
    SharedValueWait wait_;
    ValueTraffic traffic_;
};

/// What a function stage runs.
using StageFunction = std::function<void(StageIo&)>;

}  // namespace procrun
