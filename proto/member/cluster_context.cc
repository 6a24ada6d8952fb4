#include "proto/member/cluster_context.h"

#include <cstdlib>

#include "common/zmq/cluster_key.h"
#include "common/zmq/context.h"

namespace trireme::member {
namespace {

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

constexpr char kFixedKeyVariable[] = "TRIREME_INTERNAL_CLUSTER_KEY";
constexpr char kNoKey[] = "none";

StatusOr<std::optional<zmq::ClusterKey>> cluster_key(const ServeOptions& options) {
  const std::string fixed = variable(kFixedKeyVariable);
  if (fixed == kNoKey) return std::nullopt;
  if (!fixed.empty()) return zmq::ClusterKey::parse(fixed);
  return zmq::find_cluster_key({.flag_path = options.cluster.key_file,
                                .variable = variable(zmq::kClusterKeyVariable),
                                .home = variable("HOME")});
}

}  // namespace

StatusOr<std::unique_ptr<zmq::Context>> make_cluster_context(const ServeOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(auto key, cluster_key(options));
  return zmq::Context::create({.key = std::move(key), .insecure = options.cluster.insecure});
}

Status fix_cluster_key(const ServeOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(const auto key, cluster_key(options));
  ::setenv(kFixedKeyVariable, key ? key->text().c_str() : kNoKey, /*overwrite=*/1);
  return absl::OkStatus();
}

}  // namespace trireme::member
