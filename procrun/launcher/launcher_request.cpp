#include "procrun/launcher/launcher_request.hpp"

#include <cstring>
#include <span>

#include "vmcow/sys/descriptor_socket.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/memfd.hpp"

namespace procrun::detail {
namespace {

std::uint32_t count_of(const char* const* list) {
    std::uint32_t count = 0;
    while (list[count] != nullptr) ++count;
    return count;
}

std::size_t string_bytes(const char* const* list) {
    std::size_t bytes = 0;
    for (; *list != nullptr; ++list) bytes += std::strlen(*list) + 1;
    return bytes;
}

// Fills a body in the order of its layout.
class BodyWriter {
public:
    BodyWriter(std::span<std::byte> body, std::size_t strings) : body_(body), next_string_(strings) {}

    void strings(std::size_t place, const char* const* list) {
        for (; *list != nullptr; ++list, place += sizeof(std::uint64_t)) string(place, *list);
    }
    void string(std::size_t place, const char* text) {
        const std::uint64_t where = next_string_;
        std::memcpy(&body_[place], &where, sizeof where);
        const std::size_t bytes = std::strlen(text) + 1;
        std::memcpy(&body_[next_string_], text, bytes);
        next_string_ += bytes;
    }
    template <class T>
    void array(std::size_t place, std::span<T> items) {
        if (!items.empty()) std::memcpy(&body_[place], items.data(), items.size_bytes());
    }

private:
    std::span<std::byte> body_;
    std::size_t next_string_;
};

void write_body(std::span<std::byte> body, const ChildPlan& plan, const LaunchLayout& layout) {
    BodyWriter writer(body, layout.strings);
    writer.strings(layout.words, plan.argv);
    writer.strings(layout.variables, plan.environment);
    writer.strings(layout.paths, plan.paths);
    if (plan.directory != nullptr) writer.string(layout.directory, plan.directory);
    writer.array(layout.moves, plan.moves);
    writer.array(layout.limits, plan.limits);
}

std::size_t body_bytes(const ChildPlan& plan, const LaunchLayout& layout) {
    const std::size_t directory = plan.directory == nullptr ? 0 : std::strlen(plan.directory) + 1;
    return layout.strings + string_bytes(plan.argv) + string_bytes(plan.environment) + string_bytes(plan.paths) +
           directory;
}

void describe(LaunchRequest& request, const ChildPlan& plan) {
    request.ignored_signals = plan.ignored_signals;
    request.words = count_of(plan.argv);
    request.variables = count_of(plan.environment);
    request.paths = count_of(plan.paths);
    request.moves = static_cast<std::uint32_t>(plan.moves.size());
    request.limits = static_cast<std::uint32_t>(plan.limits.size());
    request.caller = plan.parent;
    request.has_terminal = plan.terminal >= 0;
    request.has_directory = plan.directory != nullptr;
    request.has_process_group = plan.process_group != nullptr;
    if (request.has_process_group) request.process_group = *plan.process_group;
    request.fds = request.moves + (request.has_terminal ? 1 : 0);
}

// Writes a body that is too long for a message into a memfd. The body has room for one more descriptor: the memfd.
vmcow::sys::UniqueFd write_body_file(const ChildPlan& plan, LaunchRequest& request) {
    request.body_in_file = true;
    ++request.fds;
    const LaunchLayout layout = layout_of(request);
    request.body_bytes = body_bytes(plan, layout);
    std::vector<std::byte> body(request.body_bytes);
    write_body(body, plan, layout);
    vmcow::sys::UniqueFd file = vmcow::sys::create_memfd("launch");
    vmcow::sys::write_all(file.get(), body, "the words of a program");
    return file;
}

}  // namespace

LaunchMessage write_request(const ChildPlan& plan, LaunchRequest request) {
    LaunchMessage message;
    describe(request, plan);
    VMCOW_ASSERT(request.words > 0 && "a request without words would end the launcher");
    const LaunchLayout layout = layout_of(request);
    request.body_bytes = body_bytes(plan, layout);
    if (sizeof request + request.body_bytes <= vmcow::sys::kMaxMessageBytes) {
        message.bytes.resize(sizeof request + request.body_bytes);
        write_body(std::span(message.bytes).subspan(sizeof request), plan, layout);
    } else {
        message.body_file = write_body_file(plan, request);
        message.bytes.resize(sizeof request);
        message.fds.push_back(message.body_file.get());
    }
    std::memcpy(message.bytes.data(), &request, sizeof request);
    if (request.has_terminal) message.fds.push_back(plan.terminal);
    for (const DescriptorMove& move : plan.moves) message.fds.push_back(move.source);
    return message;
}

}  // namespace procrun::detail
