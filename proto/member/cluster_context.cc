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

}  // namespace

StatusOr<std::unique_ptr<zmq::Context>> make_cluster_context(const ServeOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(auto key,
                           zmq::find_cluster_key({.flag_path = options.cluster.key_file,
                                                  .variable = variable(zmq::kClusterKeyVariable),
                                                  .home = variable("HOME")}));
  return zmq::Context::create({.key = std::move(key), .insecure = options.cluster.insecure});
}

}  // namespace trireme::member
