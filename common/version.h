// The release that these programs are of; compared for people only: messages carry versions of
// their own.
#pragma once

namespace trireme {

inline constexpr char kVersion[] = TRIREME_VERSION;

}  // namespace trireme
