#include "api_server/dev_routes.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "api_server/expert_page.h"
#include "api_server/field_error.h"
#include "api_server/http/query.h"
#include "api_server/openai/status_reply.h"
#include "common/json_text.h"
#include "common/log.h"

namespace trireme::api {
namespace {

constexpr std::size_t kShownMax = 40;  // Of a value that is refused.

struct PauseQuery {
  PauseMode mode = PauseMode::kAbort;
  bool clears_cache = true;
};

uint64_t unix_microseconds() { return static_cast<uint64_t>(unix_milliseconds()) * 1000; }

std::string shown(const std::string& value) {
  return value.size() <= kShownMax ? value : value.substr(0, kShownMax) + "...";
}

char to_lower(char c) { return 'A' <= c && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

StatusOr<bool> flag(const std::string& query, std::string_view name, bool default_value) {
  constexpr std::string_view kYes[] = {"true", "1", "yes", "on", "t", "y"};
  constexpr std::string_view kNo[] = {"false", "0", "no", "off", "f", "n"};
  const std::optional<std::string> value = query_value(query, name);
  if (!value) return default_value;
  std::string word = *value;
  std::ranges::transform(word, word.begin(), to_lower);
  if (std::ranges::find(kYes, word) != std::end(kYes)) return true;
  if (std::ranges::find(kNo, word) != std::end(kNo)) return false;
  return field_error(name, absl::StrFormat("must be true or false, got '%s'", shown(*value)));
}

StatusOr<PauseMode> mode_of(const std::string& query) {
  const std::string value = query_value(query, "mode").value_or("abort");
  if (value == "abort") return PauseMode::kAbort;
  if (value == "wait") return PauseMode::kWait;
  if (value == "keep") return PauseMode::kKeep;
  return field_error("mode",
                     absl::StrFormat("must be one of abort, wait, keep, got '%s'", shown(value)));
}

StatusOr<PauseQuery> pause_query(const std::string& query) {
  PauseQuery asked;
  TRIREME_ASSIGN_OR_RETURN(asked.mode, mode_of(query));
  TRIREME_ASSIGN_OR_RETURN(asked.clears_cache, flag(query, "clear_cache", true));
  // What `mode` was before there was one.
  TRIREME_ASSIGN_OR_RETURN(const bool waits, flag(query, "wait_for_inflight_requests", false));
  if (waits) asked.mode = PauseMode::kWait;
  if (asked.mode == PauseMode::kKeep) asked.clears_cache = false;
  return asked;
}

// Of a sleep: whether it is more than a pause.
StatusOr<bool> lets_memory_go_at(const std::string& query) {
  const std::string level = query_value(query, "level").value_or("1");
  if (level == "0" || level == "1") return level == "1";
  if (level == "2") {
    return field_error("level",
                       "2 is not supported: weights are not loaded again while serving; 1 keeps "
                       "them in memory and lets that of the KV cache go");
  }
  return field_error("level", absl::StrFormat("must be 0 or 1, got '%s'", shown(level)));
}

// False: only the weights, which never sleep.
StatusOr<bool> wakes_all(const std::string& query) {
  const std::vector<std::string> tags = query_values(query, "tags");
  bool is_only_weights = !tags.empty();
  for (const std::string& tag : tags) {
    if (tag != "weights" && tag != "kv_cache" && tag != "scheduling") {
      return field_error(
          "tags", absl::StrFormat("must be weights, kv_cache or scheduling, got '%s'", shown(tag)));
    }
    is_only_weights &= tag == "weights";
  }
  return !is_only_weights;
}

Status check_reset_query(const std::string& query) {
  TRIREME_ASSIGN_OR_RETURN(const bool running, flag(query, "reset_running_requests", false));
  // The offload store is always emptied too.
  TRIREME_RETURN_IF_ERROR(flag(query, "reset_external", false).status());
  if (!running) return {};
  return field_error("reset_running_requests",
                     "running requests are not preempted for it; end them with /pause first");
}

}  // namespace

void DevRoutes::pause(const std::shared_ptr<Exchange>& exchange) {
  const StatusOr<PauseQuery> asked = pause_query(exchange->request().query);
  if (!asked.ok()) return reply_status(*exchange, metrics_, asked.status());
  log::info("pause", {{"mode", name_of(asked->mode)}, {"request_id", exchange->id()}});
  const bool waits = asked->mode == PauseMode::kWait;
  calls_.pause(asked->mode, unix_microseconds(), waits ? Instant::max() : now() + kAnswerTime,
               [this, exchange, clears = asked->clears_cache](const auto& answers) {
                 if (!is_done(*exchange, answers)) return;
                 if (clears) return clear_caches(exchange);
                 reply(*exchange, R"({"status":"paused"})");
               });
}

void DevRoutes::clear_caches(const std::shared_ptr<Exchange>& exchange) {
  calls_.ask(wire::UtilityMethod::kResetPrefixCache, now() + kAnswerTime,
             [this, exchange](const auto& answers) {
               if (is_done(*exchange, answers)) reply(*exchange, R"({"status":"paused"})");
             });
}

void DevRoutes::resume(const std::shared_ptr<Exchange>& exchange) {
  log::info("resume", {{"request_id", exchange->id()}});
  serve(exchange, R"({"status":"resumed"})");
}

void DevRoutes::serve(const std::shared_ptr<Exchange>& exchange, const char* body) {
  const auto wake = [this, exchange, body] {
    calls_.pause(PauseMode::kServing, unix_microseconds(), now() + kAnswerTime,
                 [this, exchange, body](const auto& answers) {
                   if (is_done(*exchange, answers)) reply(*exchange, body);
                 });
  };
  if (!calls_.wanted().sleeps) return wake();
  calls_.ask(wire::UtilityMethod::kCheckMemory, now() + kAnswerTime,
             [this, exchange, wake](const auto& answers) {
               if (is_done(*exchange, answers)) wake();
             });
}

void DevRoutes::sleep(const std::shared_ptr<Exchange>& exchange) {
  const std::string& query = exchange->request().query;
  const StatusOr<PauseMode> mode = mode_of(query);
  const StatusOr<bool> lets_memory_go = lets_memory_go_at(query);
  const Status status = mode.ok() ? lets_memory_go.status() : mode.status();
  if (!status.ok()) return reply_status(*exchange, metrics_, status);
  log::info("sleep", {{"mode", name_of(*mode)},
                      {"lets_memory_go", *lets_memory_go},
                      {"request_id", exchange->id()}});
  const Instant until = *mode == PauseMode::kWait ? Instant::max() : now() + kAnswerTime;
  const auto done = [this, exchange](const StatusOr<CallAnswers>& answers) {
    if (is_done(*exchange, answers)) reply(*exchange, "");
  };
  if (*lets_memory_go) return calls_.sleep(*mode, unix_microseconds(), until, done);
  calls_.pause(*mode, unix_microseconds(), until, done);
}

void DevRoutes::wake_up(const std::shared_ptr<Exchange>& exchange) {
  const StatusOr<bool> wakes = wakes_all(exchange->request().query);
  if (!wakes.ok()) return reply_status(*exchange, metrics_, wakes.status());
  log::info("wake_up", {{"only_weights", !*wakes}, {"request_id", exchange->id()}});
  if (!*wakes) return reply(*exchange, "");
  serve(exchange, "");
}

void DevRoutes::is_paused(const std::shared_ptr<Exchange>& exchange) {
  tell_paused(exchange, "is_paused");
}

void DevRoutes::is_sleeping(const std::shared_ptr<Exchange>& exchange) {
  tell_paused(exchange, "is_sleeping");
}

void DevRoutes::tell_paused(const std::shared_ptr<Exchange>& exchange, const char* name) {
  calls_.ask(wire::UtilityMethod::kIsPaused, now() + kAnswerTime,
             [this, exchange, name](const auto& answers) {
               if (!is_done(*exchange, answers)) return;
               const char* const value = answers->are_all_true() ? "true" : "false";
               reply(*exchange, absl::StrFormat(R"({"%s":%s})", name, value));
             });
}

void DevRoutes::reset_prefix_cache(const std::shared_ptr<Exchange>& exchange) {
  const Status status = check_reset_query(exchange->request().query);
  if (!status.ok()) return reply_status(*exchange, metrics_, status);
  calls_.ask(wire::UtilityMethod::kResetPrefixCache, now() + kAnswerTime,
             [this, exchange](const auto& answers) {
               if (!answers.ok()) return reply_status(*exchange, metrics_, answers.status());
               std::string body = R"({"success":true})";
               if (!answers->are_all_ok()) {
                 body = R"({"success":false,"reason":)";
                 append_json_string(body, answers->refusals());
                 body += '}';
               }
               reply(*exchange, std::move(body));
             });
}

void DevRoutes::experts(const std::shared_ptr<Exchange>& exchange) {
  calls_.ask(wire::UtilityMethod::kExpertTables, now() + kExpertsTime,
             [this, exchange](const auto& answers) {
               if (is_done(*exchange, answers))
                 reply(*exchange, render_experts(answers->replies()));
             });
}

bool DevRoutes::is_done(Exchange& exchange, const StatusOr<CallAnswers>& answers) {
  Status status = answers.status();
  if (status.ok() && !answers->are_all_ok()) {
    status = error(StatusCode::kUnavailable, "%s", answers->refusals());
  }
  if (!status.ok()) reply_status(exchange, metrics_, status);
  return status.ok();
}

void DevRoutes::reply(Exchange& exchange, std::string body) {
  ++metrics_.replies[200];
  exchange.reply({.body = std::move(body)});
}

}  // namespace trireme::api
