#include "common/zmq/cluster_key.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include <cerrno>
#include <cstring>

#include "common/check.h"
#include "common/unique_fd.h"

namespace trireme::zmq {
namespace {

constexpr std::size_t kZ85Chars = 40;
constexpr std::size_t kFileBytesMax = 1024;

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto begin = text.find_first_not_of(kSpace);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

}  // namespace

ClusterKey ClusterKey::generate() {
  char public_key[kZ85Chars + 1], secret_key[kZ85Chars + 1];
  TRIREME_CHECK(::zmq_curve_keypair(public_key, secret_key) == 0, "libzmq is built with CURVE");
  return ClusterKey(public_key, secret_key);
}

StatusOr<ClusterKey> ClusterKey::parse(std::string_view text) {
  const std::string_view line = trim(text);
  if (!line.starts_with(kClusterKeyPrefix)) {
    return error(StatusCode::kInvalidArgument,
                 "not a cluster key: it does not begin with '%s'; make one with `trireme key new`",
                 kClusterKeyPrefix);
  }
  const std::string_view keys = line.substr(kClusterKeyPrefix.size());
  if (keys.size() != 2 * kZ85Chars) {
    return error(StatusCode::kInvalidArgument,
                 "not a whole cluster key: %d characters after '%s' instead of %d", keys.size(),
                 kClusterKeyPrefix, 2 * kZ85Chars);
  }
  const std::string public_key(keys.substr(0, kZ85Chars)), secret_key(keys.substr(kZ85Chars));
  char derived[kZ85Chars + 1];
  uint8_t raw[32];
  if (::zmq_z85_decode(raw, secret_key.c_str()) == nullptr ||
      ::zmq_curve_public(derived, secret_key.c_str()) != 0 || public_key != derived) {
    return error(StatusCode::kInvalidArgument,
                 "damaged cluster key: its two halves do not belong together; copy it again");
  }
  return ClusterKey(public_key, secret_key);
}

StatusOr<ClusterKey> ClusterKey::read_file(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!file.is_open()) {
    const auto code = errno == ENOENT ? StatusCode::kNotFound : StatusCode::kInvalidArgument;
    return error(code, "cluster key file %s: %s", path, std::strerror(errno));
  }
  struct stat what {};
  if (::fstat(file.get(), &what) != 0 || !S_ISREG(what.st_mode)) {
    return error(StatusCode::kInvalidArgument, "cluster key file %s: not a regular file", path);
  }
  if ((what.st_mode & 077) != 0) {
    return error(StatusCode::kInvalidArgument,
                 "cluster key file %s: mode %03o lets others at it; type `chmod 600 %s`", path,
                 what.st_mode & 0777, path);
  }
  char text[kFileBytesMax];
  const ssize_t size = ::read(file.get(), text, sizeof(text));
  if (size < 0) {
    return error(StatusCode::kInvalidArgument, "cluster key file %s: %s", path,
                 std::strerror(errno));
  }
  auto key = parse(std::string_view(text, static_cast<std::size_t>(size)));
  if (!key.ok()) return annotate(key.status(), "cluster key file " + path);
  return key;
}

std::string ClusterKey::text() const {
  return absl::StrFormat("%s%s%s", kClusterKeyPrefix, public_z85_, secret_z85_);
}

StatusOr<std::optional<ClusterKey>> find_cluster_key(const ClusterKeySources& sources) {
  if (!sources.flag_path.empty()) {
    TRIREME_ASSIGN_OR_RETURN(ClusterKey key, ClusterKey::read_file(sources.flag_path));
    return std::optional(std::move(key));
  }
  if (!sources.variable.empty()) {
    auto key = ClusterKey::parse(sources.variable);
    if (!key.ok()) return annotate(key.status(), kClusterKeyVariable);
    return std::optional(*std::move(key));
  }
  for (const std::string& path :
       {sources.home + "/.config/trireme/cluster.key", std::string("/etc/trireme/cluster.key")}) {
    auto key = ClusterKey::read_file(path);
    if (key.ok()) return std::optional(*std::move(key));
    if (key.status().code() != StatusCode::kNotFound) return key.status();
  }
  return std::optional<ClusterKey>();
}

}  // namespace trireme::zmq
