// ClusterKey: the one secret that all processes of a cluster share.
//
// A CURVE key pair. Who binds beyond loopback answers with it, who connects proves that it has it;
// a peer without it gets nothing, not even a version. As text one line of printable characters:
//
//   trireme-key-1:<public key, 40 characters of Z85><secret key, 40 characters of Z85>
//
// parse() checks that the halves belong together, so a line that was cut or mistyped is refused.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"

namespace trireme::zmq {

inline constexpr std::string_view kClusterKeyPrefix = "trireme-key-1:";
inline constexpr char kClusterKeyVariable[] = "TRIREME_CLUSTER_KEY";

class ClusterKey {
 public:
  [[nodiscard]] static ClusterKey generate();
  // White space around the line is ignored. Errors never repeat the text.
  [[nodiscard]] static StatusOr<ClusterKey> parse(std::string_view text);
  // Refuses a file that group or others may read.
  [[nodiscard]] static StatusOr<ClusterKey> read_file(const std::string& path);

  [[nodiscard]] std::string text() const;
  [[nodiscard]] const std::string& public_z85() const { return public_z85_; }
  [[nodiscard]] const std::string& secret_z85() const { return secret_z85_; }

 private:
  ClusterKey(std::string public_z85, std::string secret_z85)
      : public_z85_(std::move(public_z85)), secret_z85_(std::move(secret_z85)) {}
  std::string public_z85_;
  std::string secret_z85_;
};

// Where a process looks for its key; the first that is set decides. All enter by argument.
struct ClusterKeySources {
  std::string flag_path;  // --cluster-key-file; a file that is missing is an error.
  std::string variable;   // The value of TRIREME_CLUSTER_KEY: the line itself.
  std::string home;  // $HOME, for ~/.config/trireme/cluster.key; then /etc/trireme/cluster.key.
};
[[nodiscard]] StatusOr<std::optional<ClusterKey>> find_cluster_key(const ClusterKeySources&);

}  // namespace trireme::zmq
