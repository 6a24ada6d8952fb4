// trireme layout MODEL [flags]: checks a serve command line and prints what a script that spreads
// it over nodes must know, one NAME=VALUE per line (deploy/cluster reads it).
#include <cstdio>
#include <string>
#include <string_view>

#include "cli/command.h"
#include "common/options/serve_flags.h"

namespace trireme::cli {
namespace {

void print(std::string_view name, std::string_view value) {
  std::fputs(absl::StrFormat("%s=%s\n", name, value).c_str(), stdout);
}

// The flags that say which part of the cluster one node is: a script gives each node its own.
void print_node_flags(const ParallelOptions& parallel) {
  const ParallelOptions unset;
  const auto print_if = [](bool is_given, std::string_view flag) {
    if (is_given) print("node_flag", flag);
  };
  print_if(parallel.headless, "--headless");
  print_if(parallel.data_parallel_size_local.has_value(), "--data-parallel-size-local");
  print_if(parallel.data_parallel_start_rank.has_value(), "--data-parallel-start-rank");
  print_if(parallel.data_parallel_rank.has_value(), "--data-parallel-rank");
  print_if(parallel.data_parallel_address != unset.data_parallel_address,
           "--data-parallel-address");
  print_if(parallel.load_balancing == LoadBalancing::kHybrid, "--data-parallel-hybrid-lb");
  print_if(parallel.load_balancing == LoadBalancing::kExternal, "--data-parallel-external-lb");
  print_if(parallel.node_count != unset.node_count, "--nnodes");
}

}  // namespace

int run_layout(Arguments arguments) {
  const auto options = parse_serve_flags({arguments.data(), arguments.size()});
  if (!options.ok()) {
    std::fprintf(stderr, "%s\n", std::string(options.status().message()).c_str());
    return 2;
  }
  const auto& names = options->model.served_model_names;
  print("model", options->model.model);
  print("revision", options->model.revision);
  print("served_model_name", names.empty() ? options->model.model : names.front());
  print("has_served_model_name", names.empty() ? "" : "yes");
  print("data_parallel_size", std::to_string(options->parallel.data_parallel_size));
  print("host", options->server.host);
  print("port", std::to_string(options->server.port));
  print("scheme", options->server.ssl_certfile.empty() ? "http" : "https");
  print("shutdown_timeout", std::to_string(options->server.shutdown_timeout_seconds));
  print("cluster_key_file", options->cluster.key_file);
  print_node_flags(options->parallel);
  return 0;
}

}  // namespace trireme::cli
