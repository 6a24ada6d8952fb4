#include "engine_core/span/remote_workers.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <utility>

#include "common/host_name.h"
#include "common/hub/model_fingerprint.h"
#include "common/random.h"
#include "common/version.h"
#include "common/zmq/context.h"
#include "common/zmq/remote_queue.h"
#include "engine_core/kernel_set.h"
#include "engine_core/span/group_thread.h"
#include "engine_core/span/worker_span.h"
#include "proto/member/cluster_context.h"
#include "proto/member/cluster_shape.h"
#include "proto/member/member_link.h"

namespace trireme::engine {
namespace {

// How long a stop may take to reach the relay.
constexpr Duration kRelaySlice = std::chrono::milliseconds(200);
constexpr Duration kRelayMax = std::chrono::seconds(30);

// Answers of workers elsewhere, put where those of the workers here come.
class ResultRelay {
 public:
  ResultRelay(std::unique_ptr<zmq::RemoteReceiver> receiver, const shm::QueueMemory& results,
              uint32_t first_rank, uint32_t engine_rank, Bell& bell)
      : receiver_(std::move(receiver)), first_rank_(first_rank), bell_(bell) {
    for (uint32_t rank = first_rank; rank < results.shape().ring_count; ++rank) {
      senders_.push_back(std::make_unique<shm::ShmSender>(results, rank));
    }
    thread_ = std::thread([this, engine_rank] { run(engine_rank); });
  }
  ~ResultRelay() { stop(); }

  [[nodiscard]] Status health() const { return has_failed_.load() ? failure_ : absl::OkStatus(); }
  void stop() noexcept {
    is_stopping_.store(true);
    if (thread_.joinable()) thread_.join();
  }

 private:
  void run(uint32_t engine_rank) noexcept {
    const std::string name = "eng" + std::to_string(engine_rank) + "/relay";
    ::pthread_setname_np(::pthread_self(), name.c_str());
    Status status = absl::OkStatus();
    while (status.ok() && !is_stopping_.load()) status = pass_on();
    if (status.ok() || is_stopping_.load()) return;
    failure_ = status;
    has_failed_.store(true);
    bell_.ring();
  }

  [[nodiscard]] Status pass_on() {
    const auto record = receiver_->receive(Deadline::after(kRelaySlice));
    if (record.status().code() == StatusCode::kDeadlineExceeded) return absl::OkStatus();
    if (!record.ok()) return annotate(record.status(), "results of workers elsewhere");
    const uint32_t index = receiver_->last_sender();
    const Status sent = senders_[index]->send(*record, Deadline::after(kRelayMax));
    receiver_->release();
    return annotate(sent, "results of worker rank " + std::to_string(first_rank_ + index));
  }

  std::unique_ptr<zmq::RemoteReceiver> receiver_;
  std::vector<std::unique_ptr<shm::ShmSender>> senders_;
  uint32_t first_rank_;
  Bell& bell_;
  std::atomic<bool> is_stopping_{false};
  std::atomic<bool> has_failed_{false};
  Status failure_ = absl::OkStatus();  // Written before has_failed_.
  std::thread thread_;
};

}  // namespace

struct RemoteWorkers::Parts {
  Bell* bell = nullptr;
  std::unique_ptr<zmq::Context> context;
  std::vector<Listener> listeners;
  std::unique_ptr<zmq::RemoteSender> steps;
  std::unique_ptr<ResultRelay> relay;
  std::unique_ptr<GroupThread> group;
};

StatusOr<std::vector<wire::ConfigEntry>> group_config(const ServeOptions& options) {
  ServeOptions ours = options;
  TRIREME_ASSIGN_OR_RETURN(ours.internal.model_fingerprint,
                           hub::model_fingerprint(options.model_directory()));
  std::vector<wire::ConfigEntry> config = member::cluster_config(ours);
  append_kernel_set(options, config);
  // Ranks that guessed by different models would compute different tokens.
  if (const SpeculationOptions& s = options.scheduler.speculation; s.has_draft_model()) {
    TRIREME_ASSIGN_OR_RETURN(const std::string draft,
                             hub::model_fingerprint(options.draft_directory()));
    config.push_back({"speculative-config",
                      absl::StrFormat("%s, quantization %s, max_model_len %u, on %u ranks", draft,
                                      s.quantization.empty() ? "none" : s.quantization,
                                      s.model_tokens_max, options.draft_tensor_parallel_size())});
  }
  config.push_back({"nnodes", std::to_string(options.parallel.node_count)});
  config.push_back({"version", std::string(kVersion)});
  return config;
}

StatusOr<std::unique_ptr<RemoteWorkers>> RemoteWorkers::start(const ServeOptions& options,
                                                              const shm::QueueMemory& results,
                                                              Bell& bell) {
  const WorkerSpan span = worker_span(options);
  const uint32_t engine_rank = options.internal.engine_rank;
  const uint32_t first = span.first_rank(1);
  const uint32_t count = span.world_size() - first;
  TRIREME_ASSIGN_OR_RETURN(const std::string endpoint, rendezvous_endpoint(options));
  TRIREME_ASSIGN_OR_RETURN(auto config, group_config(options));
  TRIREME_ASSIGN_OR_RETURN(const std::string address,
                           address_towards(options.parallel.master_address));
  auto parts = std::make_unique<Parts>();
  parts->bell = &bell;
  TRIREME_ASSIGN_OR_RETURN(parts->context, member::make_cluster_context(options));
  TRIREME_ASSIGN_OR_RETURN(parts->listeners, make_listeners(span, 0, address));
  const std::string any_port = member::tcp_endpoint(address, 0);
  TRIREME_ASSIGN_OR_RETURN(parts->steps, zmq::RemoteSender::bind(*parts->context, any_port, count));
  TRIREME_ASSIGN_OR_RETURN(auto receiver,
                           zmq::RemoteReceiver::bind(*parts->context, any_port, count));
  GroupHostConfig host{.plan = {.group = Incarnation{entropy64() | 1},
                                .steps_endpoint = parts->steps->endpoint(),
                                .results_endpoint = receiver->endpoint(),
                                .lease_milliseconds = options.cluster.lease_milliseconds,
                                .listeners = told_of(parts->listeners),
                                .node = host_name(),
                                .pid = static_cast<uint32_t>(::getpid())},
                       .first_rank = first,
                       .rank_end = span.world_size(),
                       .config = std::move(config),
                       .lease = std::chrono::milliseconds(options.cluster.lease_milliseconds)};
  TRIREME_ASSIGN_OR_RETURN(parts->group, GroupThread::start(*parts->context, endpoint,
                                                            std::move(host), engine_rank, bell));
  parts->relay =
      std::make_unique<ResultRelay>(std::move(receiver), results, first, engine_rank, bell);
  return std::unique_ptr<RemoteWorkers>(new RemoteWorkers(std::move(parts)));
}

RemoteWorkers::RemoteWorkers(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
RemoteWorkers::~RemoteWorkers() { stop(Status(StatusCode::kCancelled, "stopped")); }

Status RemoteWorkers::wait_until_formed(StopSignal& stop) {
  while (!parts_->group->is_formed()) {
    TRIREME_RETURN_IF_ERROR(parts_->group->health());
    if (stop.update() != StopSignal::Level::kRun) {
      return error(StatusCode::kCancelled, "told to stop while waiting for other nodes");
    }
    const int stop_fd = stop.fd();
    parts_->bell->wait(Deadline::never(), {&stop_fd, 1}, [this] {
      return parts_->group->is_formed() || !parts_->group->health().ok();
    });
  }
  return absl::OkStatus();
}

const wire::GroupPlan& RemoteWorkers::plan() const { return parts_->group->plan(); }
const std::vector<Listener>& RemoteWorkers::listeners() const { return parts_->listeners; }
void RemoteWorkers::close_listeners() { parts_->listeners.clear(); }
MessageSender& RemoteWorkers::steps() { return *parts_->steps; }
void RemoteWorkers::set_serving() { parts_->group->set_serving(); }
void RemoteWorkers::set_late_step(StepId step) { parts_->group->set_late_step(step); }

Status RemoteWorkers::health() const {
  TRIREME_RETURN_IF_ERROR(parts_->group->health());
  return parts_->relay->health();
}

void RemoteWorkers::stop(const Status& why) noexcept {
  parts_->group->stop(why);
  parts_->relay->stop();
}

}  // namespace trireme::engine
