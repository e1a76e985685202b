#pragma once

#include "procrun/launcher.hpp"

namespace tests {

/// Starts the shared launcher before the first test begins. The launcher stays for the next program, and a test that
/// started it would seem to leave it behind.
inline const bool kLauncherIsWarm = (static_cast<void>(procrun::Launcher::shared()), true);

}  // namespace tests
