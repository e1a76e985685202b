#include "vmcow/wire/values_variable.hpp"

#include <sys/stat.h>

#include <charconv>
#include <string_view>
#include <system_error>

#include "vmcow/sys/error.hpp"

namespace vmcow {

std::string values_variable(int socket, bool asks) {
    struct stat status {};
    if (::fstat(socket, &status) != 0) sys::throw_errno("stat descriptor " + std::to_string(socket));
    return std::to_string(socket) + ":" + std::to_string(status.st_ino) + (asks ? ":ask" : "");
}

std::optional<ValuesConnection> connection_of_values_variable(const char* content) {
    const std::string_view text = content == nullptr ? std::string_view() : content;
    ValuesConnection found;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), found.socket);
    if (parsed.ec != std::errc() || found.socket < 0) return std::nullopt;
    found.asks = text.ends_with(":ask");
    struct stat status {};
    if (::fstat(found.socket, &status) != 0 || !S_ISSOCK(status.st_mode)) return std::nullopt;
    if (values_variable(found.socket, found.asks) != text) return std::nullopt;
    return found;
}

}  // namespace vmcow
