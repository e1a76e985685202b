#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "pipes/pump.hpp"
#include "procrun/deadline.hpp"
#include "procrun/pipeline_channel.hpp"
#include "procrun/value_wait.hpp"
#include "vmcow/mapped_image.hpp"
#include "vmcow/snapshot.hpp"
#include "vmcow/value.hpp"
#include "vmcow/values_message.hpp"

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

/// How far values may be ahead of those who take them.
struct ValueBounds {
    /// Under way to each reader: given, and not yet taken.
    std::size_t under_way = 4;
    /// Kept by the giver, for each reader that stands still while another one takes: descriptors, no copies. Past it
    /// the giver fails (EDQUOT).
    std::size_t held = 128;
    /// So long a giver waits for one reader before it keeps that reader's values and goes on with the others.
    std::chrono::milliseconds patience{50};

    bool operator==(const ValueBounds&) const = default;
};

/// Values that went through a function stage, and what they have cost.
struct ValueTraffic {
    std::uint64_t taken = 0;
    std::uint64_t given = 0;      ///< to each reader: a value that two read counts twice
    std::uint64_t moved = 0;      ///< of these, given away to be changed in place; the others are shared
    std::uint64_t most_held = 0;  ///< the most that were kept for a reader that stood still
    /// Pages that the stage has copied by writing to values and to images that it was forked with, whether it gave them
    /// on or not; by a page scan. nullopt when that could not be counted.
    std::optional<vmcow::PageChanges> changes;
};

/// A function stage's connection to those before it and behind it: bytes, values, or both.
///
///     procrun::StageIo& io
///     while (auto doc = io.take<vmcow::Value<Doc>>()) {       // a handle: nothing is read, nothing copied
///         doc->edit([](Doc& d) { d.title = "seen"; });        // in place, or copies the page that it changes
///         io.give(*std::move(doc));                           // by descriptor; given away if nobody shares it
///     }
///
/// Bytes are the standard input and output of the stage's process, so that std::cout and printf write to the next stage
/// too. Values go beside them, in their order, which is none in relation to the bytes.
///
/// Whoever gives or writes waits while its readers are too far behind. When nobody reads any more, it gets SIGPIPE, as
/// a program does; where that is ignored, std::system_error EPIPE.
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
        SharedValueWait wait{};  ///< where it shows what it waits for; may be null
    };

    explicit StageIo(Channels channels);
    StageIo(const StageIo&) = delete;
    StageIo& operator=(const StageIo&) = delete;

    // ---- bytes

    /// Reads as many bytes as there are, at least one; 0 at the end.
    /// Throws: std::system_error -- read(2)'s errno.
    [[nodiscard]] std::size_t read(std::span<std::byte> into);
    /// All that is left to read, received into huge pages.
    /// Throws: std::system_error -- ENOMEM, EIO, EFBIG.
    [[nodiscard]] vmcow::Value<char[]> read_all();
    /// Throws: std::system_error -- write(2)'s errno.
    void write(std::span<const std::byte> bytes);
    void write(std::string_view text) { write(std::as_bytes(std::span(text))); }

    // ---- values

    /// The next value; nullopt when all who give have ended, at once where only programs are before this stage.
    /// With several givers: all of the first, then of the second …, or as they come, as the stage's `join` is.
    /// Throws: std::system_error -- EBADMSG: it is of another type; EMFILE, ENOMEM.
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
    /// As a V. Throws: std::system_error -- EBADMSG: it is of another type.
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
    /// Where there are only programs, or nobody, its bytes go to the standard output, spliced out of its image: the
    /// elements of a Value<T[]>, what a Snapshot holds. Of a Value<T>, those that programs can know: T is plain.
    ///
    /// A value that is moved in here by its last user, and that was made or changed in place by this stage, is given
    /// away to a single function stage that reads it: no page is sealed, and none copied when it is changed there.
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

    /// A value of a type that is known by its number.
    void give(const vmcow::TypedSnapshot& value) { give_any(value); }

    /// Hands over what is kept for readers that stood still, and closes all channels.
    void finish();
    /// Throws: std::system_error -- EBADMSG: these are two types. 0 is any.
    static void require_type(std::uint64_t found, std::uint64_t wanted);
    /// What went through so far; `changes` of the values that were given.
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
    /// There is one who reads, and who can go on with an arena.
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

}  // namespace procrun
