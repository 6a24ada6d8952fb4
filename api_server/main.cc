// api-server: one HTTP front end (with --internal-api-server-index), or the launcher that starts
// everything on the front node; with --headless it becomes the node agent.
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "api_server/launcher/launcher.h"
#include "api_server/server.h"
#include "common/device/device_choice.h"
#include "common/hub/model_fingerprint.h"
#include "common/hub/resolve_model.h"
#include "common/log.h"
#include "common/options/serve_flags.h"
#include "common/process/death_pipe.h"
#include "common/process/last_word.h"
#include "common/process/pulse.h"
#include "common/process/sibling_binary.h"
#include "common/random.h"
#include "common/signals.h"
#include "proto/member/cluster_context.h"

namespace trireme::api {
namespace {

Status run(std::span<const char* const> arguments) {
  if (const std::string text = help_or_version("api-server", arguments); !text.empty()) {
    std::fputs(text.c_str(), stdout);
    return {};
  }
  std::vector<std::string> notices;
  TRIREME_ASSIGN_OR_RETURN(ServeOptions options, parse_serve_flags(arguments, &notices));
  if (options.parallel.headless) return process::become_sibling_binary("engine-core", arguments);
  add_api_keys_of_environment(options);
  TRIREME_RETURN_IF_ERROR(read_dev_mode_of_environment(options));
  TRIREME_ASSIGN_OR_RETURN(StopSignal stop, StopSignal::install());
  TRIREME_RETURN_IF_ERROR(process::arm_inherited_death_pipe());
  TRIREME_ASSIGN_OR_RETURN(const auto pulse, process::Pulse::take_inherited());
  if (options.internal.is_api_server) return run_api_server(options, stop, pulse);
  for (const std::string& notice : notices) log::tell("flag_notice", notice);
  TRIREME_ASSIGN_OR_RETURN(const DeviceChoice choice, choose_device(options));
  options.worker.device = choice.device;
  TRIREME_ASSIGN_OR_RETURN(const std::string directory, hub::resolve_model(options.model));
  TRIREME_ASSIGN_OR_RETURN(const std::string draft, hub::resolve_draft_model(options));
  if (!choice.why.empty()) log::tell("device", choice.why);
  // Everybody on the machine can read command lines.
  give_api_keys_to_children(options);
  std::vector<const char*> for_children = without_flag(arguments, "api-key");
  TRIREME_RETURN_IF_ERROR(member::fix_cluster_key(options));
  options.internal.launch = entropy64();
  // A model that cannot be read is for the engines to tell.
  options.internal.model_fingerprint = hub::model_fingerprint(directory).value_or("");
  const std::string launch = std::to_string(options.internal.launch);
  for_children.insert(
      for_children.end(),
      {"--internal-model-directory", directory.c_str(), "--internal-draft-directory", draft.c_str(),
       "--internal-launch", launch.c_str(), "--device", name_of(choice.device)});
  if (!options.internal.model_fingerprint.empty()) {
    for_children.insert(for_children.end(), {"--internal-model-fingerprint",
                                             options.internal.model_fingerprint.c_str()});
  }
  return run_launcher(options, for_children, stop);
}

}  // namespace
}  // namespace trireme::api

int main(int argc, char** argv) {
  trireme::log::start("api-server");
  return trireme::process::end_with(trireme::api::run({argv + 1, argv + argc}));
}
