// DevRoutes: what is asked of all engines over HTTP: pause, resume, sleep, wake up, reset the
// prefix cache, tell the load of experts.
//
// vLLM's names, parameters and answers (docs/dev_routes.md). Whether they are there at all, and for
// whom, is the route table's to say. An exchange is kept until the engines have answered or
// kAnswerTime is over; a pause that waits for running requests takes as long as they do. A client
// that leaves meanwhile changes nothing.
// Threads: the http thread.
#pragma once

#include <memory>

#include "api_server/engine_client/engine_calls.h"
#include "api_server/http/exchange.h"
#include "api_server/openai/metrics.h"

namespace trireme::api {

class DevRoutes {
 public:
  static constexpr Duration kAnswerTime = std::chrono::seconds(60);
  static constexpr Duration kExpertsTime = std::chrono::seconds(10);

  // Both outlive it.
  DevRoutes(EngineCalls& calls, Metrics& metrics) : calls_(calls), metrics_(metrics) {}

  void pause(const std::shared_ptr<Exchange>& exchange);
  void resume(const std::shared_ptr<Exchange>& exchange);
  void is_paused(const std::shared_ptr<Exchange>& exchange);
  void reset_prefix_cache(const std::shared_ptr<Exchange>& exchange);
  void sleep(const std::shared_ptr<Exchange>& exchange);
  void wake_up(const std::shared_ptr<Exchange>& exchange);
  void is_sleeping(const std::shared_ptr<Exchange>& exchange);
  // Not of dev mode: it changes nothing.
  void experts(const std::shared_ptr<Exchange>& exchange);

 private:
  // {name: whether no engine makes a step}
  void tell_paused(const std::shared_ptr<Exchange>& exchange, const char* name);
  // Where they sleep only if all have room for their memory.
  void serve(const std::shared_ptr<Exchange>& exchange, const char* body);
  void clear_caches(const std::shared_ptr<Exchange>& exchange);
  // OK of all, or an answer that says who is not.
  [[nodiscard]] bool is_done(Exchange& exchange, const StatusOr<CallAnswers>& answers);
  void reply(Exchange& exchange, std::string body);

  EngineCalls& calls_;
  Metrics& metrics_;
};

}  // namespace trireme::api
