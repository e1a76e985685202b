#pragma once

#include "procrun/launcher.hpp"

namespace tests {

/// The launcher of the process stays for the next one who starts a program. It is started before the first test begins,
/// so that no test seems to have left it behind.
inline const bool kLauncherIsWarm = (static_cast<void>(procrun::Launcher::shared()), true);

}  // namespace tests
