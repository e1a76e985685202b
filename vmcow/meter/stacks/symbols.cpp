#include "vmcow/meter/stacks/symbols.hpp"

#include <cxxabi.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cstdlib>
#include <string_view>

#include "vmcow/sys/error.hpp"

namespace vmcow::meter {
namespace {

constexpr std::size_t kMostOpenFiles = 512;

struct FreeText {
    void operator()(void* text) const noexcept { std::free(text); }  // NOLINT(cppcoreguidelines-no-malloc)
};

std::string demangled(const char* name) {
    int status = -1;
    const std::unique_ptr<char, FreeText> text(abi::__cxa_demangle(name, nullptr, nullptr, &status));
    return status == 0 ? text.get() : name;
}

std::string base_name(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

std::string place_name(const std::string& object, std::uint64_t offset) {
    return fmt::format("{}+{:#x}", base_name(object), offset);
}

bool is_in_file(const std::string& name) { return !name.empty() && name.front() == '/'; }

/// Opens a file that a process has mapped, if its name still leads to it: in the root of the process, or else in ours.
sys::UniqueFd open_mapped(pid_t pid, const std::string& name, std::uint64_t inode) {
    for (const std::string& path : {fmt::format("/proc/{}/root{}", pid, name), name}) {
        sys::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        struct stat status {};
        if (file && ::fstat(file.get(), &status) == 0 && S_ISREG(status.st_mode) && status.st_ino == inode) return file;
    }
    return {};
}

struct EndSession {
    void operator()(Dwfl* session) const noexcept { ::dwfl_end(session); }
};

// dwfl_standard_find_debuginfo is not used, because it asks servers.
const Dwfl_Callbacks kCallbacks{.find_elf = nullptr,
                                .find_debuginfo = ::dwfl_build_id_find_debuginfo,
                                .section_address = ::dwfl_offline_section_address,
                                .debuginfo_path = nullptr};

/// An ELF file, read independently of any process.
class ElfFile {
public:
    ElfFile(const std::string& name, sys::UniqueFd file) : session_(::dwfl_begin(&kCallbacks)) {
        if (!session_) return;
        module_ = ::dwfl_report_offline(session_.get(), name.c_str(), name.c_str(), file.get());
        if (module_ != nullptr) (void)file.release();  // the session owns it now
        ::dwfl_report_end(session_.get(), nullptr, nullptr);
    }

    /// The address in the session of the byte at `offset` of the file.
    [[nodiscard]] std::optional<std::uint64_t> address_of(std::uint64_t offset) const {
        GElf_Addr bias = 0;
        Elf* const elf = module_ == nullptr ? nullptr : ::dwfl_module_getelf(module_, &bias);
        std::size_t count = 0;
        if (elf == nullptr || ::elf_getphdrnum(elf, &count) != 0) return std::nullopt;
        for (std::size_t i = 0; i < count; ++i) {
            GElf_Phdr header{};
            if (::gelf_getphdr(elf, static_cast<int>(i), &header) == nullptr || header.p_type != PT_LOAD) continue;
            if (offset < header.p_offset || offset - header.p_offset >= header.p_filesz) continue;
            return offset - header.p_offset + header.p_vaddr + bias;
        }
        return std::nullopt;
    }

    [[nodiscard]] std::optional<std::string> symbol_at(std::uint64_t address) const {
        GElf_Off offset = 0;
        GElf_Sym symbol{};
        const char* const name = ::dwfl_module_addrinfo(module_, address, &offset, &symbol, nullptr, nullptr, nullptr);
        // In a stripped file the nearest name before an address may be that of another function.
        if (name == nullptr || (symbol.st_size != 0 && offset >= symbol.st_size)) return std::nullopt;
        return demangled(name);
    }

    /// The functions at an address as DWARF knows them, inlined ones first. The last one has no name if DWARF has none.
    [[nodiscard]] std::vector<CodeName> names_at(std::uint64_t address, const std::string& object) const;

private:
    std::unique_ptr<Dwfl, EndSession> session_;
    Dwfl_Module* module_ = nullptr;
};

/// The name that the linker knows, or else the name in the source.
std::optional<std::string> name_of(Dwarf_Die& die) {
    Dwarf_Attribute attribute{};
    for (const unsigned kind : {unsigned{DW_AT_linkage_name}, unsigned{DW_AT_name}}) {
        if (::dwarf_attr_integrate(&die, kind, &attribute) == nullptr) continue;
        if (const char* const name = ::dwarf_formstring(&attribute)) return demangled(name);
    }
    return std::nullopt;
}

/// Sets the file and line of `caller` to where the inlined function was called.
void set_call_site(Dwarf_Die& inlined, Dwarf_Die& unit, CodeName& caller) {
    Dwarf_Attribute attribute{};
    Dwarf_Word file = 0;
    Dwarf_Word line = 0;
    Dwarf_Files* files = nullptr;
    if (::dwarf_formudata(::dwarf_attr(&inlined, DW_AT_call_line, &attribute), &line) == 0) {
        caller.line = static_cast<int>(line);
    }
    if (::dwarf_formudata(::dwarf_attr(&inlined, DW_AT_call_file, &attribute), &file) != 0) return;
    if (::dwarf_getsrcfiles(&unit, &files, nullptr) != 0) return;
    if (const char* const name = ::dwarf_filesrc(files, file, nullptr, nullptr)) caller.file = name;
}

std::vector<CodeName> ElfFile::names_at(std::uint64_t address, const std::string& object) const {
    CodeName name{.function = {}, .object = object};
    int line = 0;
    Dwfl_Line* const place = ::dwfl_module_getsrc(module_, address);
    if (place != nullptr) {
        if (const char* const file = ::dwfl_lineinfo(place, nullptr, &line, nullptr, nullptr, nullptr)) {
            name.file = file;
            if (line > 0) name.line = line;
        }
    }
    std::vector<CodeName> names;
    Dwarf_Addr bias = 0;
    Dwarf_Die* const unit = ::dwfl_module_addrdie(module_, address, &bias);
    Dwarf_Die* found = nullptr;
    const int count = unit == nullptr ? 0 : ::dwarf_getscopes(unit, address - bias, &found);
    const std::unique_ptr<Dwarf_Die, FreeText> scopes(found);
    for (int i = 0; i < count; ++i) {
        Dwarf_Die& scope = scopes.get()[i];
        const int tag = ::dwarf_tag(&scope);
        if (tag != DW_TAG_inlined_subroutine && tag != DW_TAG_subprogram) continue;
        name.function = name_of(scope).value_or("");
        names.push_back(name);
        if (tag == DW_TAG_subprogram) return names;
        name.file.reset();
        name.line.reset();
        set_call_site(scope, *unit, name);
    }
    name.function.clear();
    names.push_back(name);
    return names;
}

}  // namespace

struct Symbols::Object {
    std::string name;
    sys::UniqueFd file = {};  ///< open until the file is first read
    std::optional<ElfFile> elf = {};
    std::vector<pid_t> pids = {};    ///< of generated code: whose perf maps may name it
    std::vector<uid_t> owners = {};  ///< of each process in `pids`
    std::optional<std::vector<PerfMap>> maps = {};
};

Symbols::Symbols() = default;
Symbols::~Symbols() = default;

std::uint32_t Symbols::add_file(pid_t pid, const std::string& name, std::uint64_t inode) {
    const auto [known, is_new] = files_.try_emplace({name, inode}, static_cast<std::uint32_t>(objects_.size()));
    if (!is_new) return known->second;
    auto object = std::make_unique<Object>();
    object->name = name;
    if (is_in_file(name) && open_files_ < kMostOpenFiles) {
        object->file = open_mapped(pid, name, inode);
        if (object->file) ++open_files_;
    }
    objects_.push_back(std::move(object));
    return known->second;
}

std::uint32_t Symbols::add_generated(const std::vector<pid_t>& pids) {
    const auto [known, is_new] = generated_.try_emplace(pids, static_cast<std::uint32_t>(objects_.size()));
    if (!is_new) return known->second;
    auto object = std::make_unique<Object>();
    object->name = "generated code";
    for (const pid_t pid : pids) {
        struct stat status {};
        if (::stat(fmt::format("/proc/{}", pid).c_str(), &status) != 0) continue;
        object->pids.push_back(pid);
        object->owners.push_back(status.st_uid);
    }
    objects_.push_back(std::move(object));
    return known->second;
}

std::vector<CodeName> Symbols::look_up_generated(Object& object, std::uint64_t address) {
    if (!object.maps) {
        object.maps.emplace();
        for (std::size_t i = 0; i < object.pids.size(); ++i) {
            object.maps->emplace_back(perf_map_path(object.pids[i]), object.owners[i]);
        }
    }
    for (const PerfMap& map : *object.maps) {
        if (const auto name = map.name_at(address)) return {{.function = *name, .object = object.name}};
    }
    return {{.function = kUnknown, .object = object.name}};
}

std::vector<CodeName> Symbols::look_up(CodePlace place, bool is_return) {
    if (place.object == CodePlace::kNowhere) return {{.function = kUnknown, .object = kUnknown}};
    Object& object = *objects_.at(place.object);
    // A call may be the last instruction of a function: then its return address belongs to the next function.
    const std::uint64_t offset = is_return && place.offset > 0 ? place.offset - 1 : place.offset;
    if (!object.pids.empty() || object.name == "generated code") return look_up_generated(object, offset);
    if (object.file) object.elf.emplace(object.name, std::move(object.file));
    const auto address = object.elf ? object.elf->address_of(offset) : std::nullopt;
    if (!address) return {{.function = place_name(object.name, offset), .object = object.name}};
    std::vector<CodeName> names = object.elf->names_at(*address, object.name);
    // The symbol's name distinguishes clones that the compiler made, and it is there without DWARF.
    if (auto symbol = object.elf->symbol_at(*address)) names.back().function = std::move(*symbol);
    for (CodeName& name : names) {
        if (name.function.empty()) name.function = place_name(object.name, offset);
    }
    return names;
}

const std::vector<CodeName>& Symbols::names_at(CodePlace place, bool is_return) {
    const auto [known, is_new] = names_.try_emplace({place, is_return});
    if (is_new) known->second = look_up(place, is_return);
    return known->second;
}

}  // namespace vmcow::meter
