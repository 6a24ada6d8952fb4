#include "worker/worker_loop.h"

#include <unistd.h>

#include <optional>
#include <utility>

#include "proto/messages.h"

namespace trireme::worker {
namespace {

class WorkerLoop {
 public:
  WorkerLoop(std::unique_ptr<Worker> worker, MessageReceiver& steps, MessageSender& results)
      : worker_(std::move(worker)), steps_(steps), results_(results) {}

  // Nothing while there is more to do; else how it ended.
  [[nodiscard]] std::optional<Status> take_one() {
    const auto record = steps_.receive(Deadline::never());
    if (record.status().code() == StatusCode::kUnavailable) return absl::OkStatus();
    if (!record.ok()) return record.status();
    const std::optional<wire::MessageKind> kind = wire::peek_kind(*record);
    if (kind == wire::MessageKind::kStopWorker) return absl::OkStatus();
    StatusOr<std::optional<wire::StepResult>> result = answer(kind, *record);
    steps_.release();
    const Status failure = result.status();
    if (!failure.ok()) result = wire::StepResult{.error = std::string(failure.message())};
    if (!result->has_value()) return std::nullopt;
    if (Status sent = send(**result); !sent.ok()) return sent;
    if (!failure.ok()) return failure;
    return std::nullopt;
  }

  template <typename Message>
  [[nodiscard]] Status send(const Message& message) {
    buffer_.clear();
    wire::pack(message, buffer_);
    return results_.send(buffer_, Deadline::never());
  }

  [[nodiscard]] Status send_ready() { return send(worker_->ready()); }

 private:
  // Nothing: it is not answered.
  [[nodiscard]] StatusOr<std::optional<wire::StepResult>> answer(
      std::optional<wire::MessageKind> kind, std::span<const std::byte> record) {
    if (kind == wire::MessageKind::kKvInit) {
      TRIREME_ASSIGN_OR_RETURN(const auto init, wire::unpack<wire::KvInit>(record));
      TRIREME_RETURN_IF_ERROR(worker_->allocate_kv(init.block_count));
      if (init.store_slot_count > 0) {
        TRIREME_RETURN_IF_ERROR(worker_->open_store(init.store_slot_count));
      }
      return std::optional(wire::StepResult{});
    }
    if (kind == wire::MessageKind::kReleaseKv) {
      TRIREME_RETURN_IF_ERROR(wire::unpack<wire::ReleaseKv>(record).status());
      worker_->release_kv();
      return std::optional(wire::StepResult{});
    }
    if (kind == wire::MessageKind::kTellExperts) {
      TRIREME_RETURN_IF_ERROR(wire::unpack<wire::TellExperts>(record).status());
      return std::optional(wire::StepResult{.expert_table = worker_->expert_table()});
    }
    if (kind == wire::MessageKind::kStepInput) {
      TRIREME_ASSIGN_OR_RETURN(const auto step, wire::unpack<wire::StepInput>(record));
      TRIREME_ASSIGN_OR_RETURN(wire::StepResult result, worker_->execute(step));
      return std::optional(std::move(result));
    }
    if (kind == wire::MessageKind::kJoinWave) {
      TRIREME_ASSIGN_OR_RETURN(const auto wave, wire::unpack<wire::JoinWave>(record));
      TRIREME_RETURN_IF_ERROR(worker_->join_wave(wave));
      return std::optional<wire::StepResult>();
    }
    return error(StatusCode::kDataLoss, "a record of %u bytes is no message to a worker",
                 record.size());
  }

  std::unique_ptr<Worker> worker_;
  MessageReceiver& steps_;
  MessageSender& results_;
  wire::Buffer buffer_;
};

Status report_failure(uint32_t rank, const Status& failure, MessageSender& results) {
  wire::Buffer buffer;
  wire::pack(wire::WorkerReady{.rank = rank,
                               .pid = static_cast<uint32_t>(::getpid()),
                               .error = std::string(failure.message())},
             buffer);
  TRIREME_RETURN_IF_ERROR(results.send(buffer, Deadline::never()));
  return failure;
}

}  // namespace

Status run_worker(uint32_t rank, const LoadWorker& load, MessageReceiver& steps,
                  MessageSender& results) {
  StatusOr<std::unique_ptr<Worker>> worker = load();
  if (!worker.ok()) return report_failure(rank, worker.status(), results);
  WorkerLoop loop(*std::move(worker), steps, results);
  TRIREME_RETURN_IF_ERROR(loop.send_ready());
  while (true) {
    if (const std::optional<Status> end = loop.take_one()) return *end;
  }
}

}  // namespace trireme::worker
