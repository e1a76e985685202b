#include "vmcow/cli/kit/output_file.hpp"

#include <unistd.h>

#include <span>
#include <utility>

#include "vmcow/cli/kit/command_line.hpp"
#include "vmcow/sys/error.hpp"
#include "vmcow/sys/fd.hpp"
#include "vmcow/sys/replaced_file.hpp"

namespace vmcow::cli {

OutputFile::OutputFile(std::string path) : path_(std::move(path)), place_(place_of(path_)) {
    if (place_.kind == OutputPlace::Kind::file) const sys::ReplacedFile attempt(path_);
}

void OutputFile::write(std::string_view text) {
    if (place_.kind == OutputPlace::Kind::standard_output) return write_stdout(text);
    const auto bytes = std::as_bytes(std::span(text));
    if (place_.kind == OutputPlace::Kind::direct) return sys::write_all(place_.direct.get(), bytes, path_);
    sys::ReplacedFile file(path_);
    sys::write_all(file.fd(), bytes, path_);
    if (::fsync(file.fd()) != 0) sys::throw_errno("write '" + path_ + "'");
    file.rename(false);
}

}  // namespace vmcow::cli
