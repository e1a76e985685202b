#include "procrun/cli/run_command.hpp"
#include "vmcow/cli/kit/command_line.hpp"

int main(int argc, char** argv) {
    constexpr const char* kDescription = "Runs pipelines of programs, and shows how each one ended and what it used.";
    const int own_words = vmcow::cli::take_words_behind_mark(argc, argv);
    return vmcow::cli::command_main({"procrun", kDescription, PROCRUN_VERSION, procrun::cli::add_run_command},
                                    own_words, argv);
}
