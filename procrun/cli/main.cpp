#include "procrun/cli/run_command.hpp"
#include "vmcow/cli/command_line.hpp"

int main(int argc, char** argv) {
    constexpr const char* kDescription = "Runs pipelines of programs, and shows how each one ended and what it used.";
    return vmcow::cli::command_main({"procrun", kDescription, PROCRUN_VERSION, procrun::cli::add_run_command}, argc,
                                    argv);
}
