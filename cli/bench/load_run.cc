#include "cli/bench/load_run.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <exception>
#include <memory>

#include "cli/bench/answer_reader.h"
#include "cli/bench/http_exchange.h"
#include "cli/bench/progress.h"

namespace trireme::bench {
namespace {

using ErrorCode = boost::system::error_code;

Duration cpu_used() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto duration = [](const timeval& time) {
    return std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
  };
  return duration(usage.ru_utime) + duration(usage.ru_stime);
}

// Every open request needs a socket, and we a few more descriptors.
Status allow_sockets(std::size_t count) {
  constexpr rlim_t kOthers = 64;
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t wanted = count + kOthers;
  if (limit.rlim_cur >= wanted) return absl::OkStatus();
  if (limit.rlim_max < wanted) {
    return error(StatusCode::kResourceExhausted,
                 "%d requests at once need %d open files, the limit is %d; give "
                 "--max-concurrency or raise it (ulimit -n)",
                 count, wanted, limit.rlim_max);
  }
  limit.rlim_cur = wanted;
  if (setrlimit(RLIMIT_NOFILE, &limit) == 0) return absl::OkStatus();
  return error(StatusCode::kResourceExhausted, "cannot raise the limit of open files to %d",
               wanted);
}

class SampleSink : public AnswerSink {
 public:
  SampleSink(Sample& sample, JsonScratch& scratch) : reader_(sample, scratch) {}
  void on_head(uint32_t status, std::string_view content_type) override {
    reader_.on_head(status, content_type);
  }
  Status on_body(std::string_view piece, Instant time) override {
    return reader_.on_body(piece, time);
  }
  AnswerReader& reader() { return reader_; }

 private:
  AnswerReader reader_;
};

class Load {
 public:
  Load(const LoadJob& job, Endpoints endpoints, Progress& progress, StopSignal& stop)
      : job_(job),
        endpoints_(std::move(endpoints)),
        progress_(progress),
        stop_(stop),
        samples_(job.arrivals.size()),
        gate_(io_, job.arrivals.size(), [this] { begin_anew(); }),
        arrival_timer_(io_),
        progress_timer_(io_),
        stop_fd_(io_, ::dup(stop.fd())) {}

  LoadOutcome run() {
    begin_ = now();
    const Duration cpu_before = cpu_used();
    watch_stop();
    tick();
    take_arrivals();
    if (!samples_.empty()) io_.run();
    const Duration duration = now() - begin_;
    progress_.clear();
    return {.samples = std::move(samples_),
            .begin = begin_,
            .duration = duration,
            .client_cpu = cpu_used() - cpu_before,
            .was_interrupted = stop_.level() != StopSignal::Level::kRun};
  }

 private:
  void take_arrivals() {
    const Instant time = now();
    while (next_ < samples_.size() && begin_ + job_.arrivals[next_] <= time) {
      waiting_.push_back(next_++);
    }
    start_waiting();
    if (next_ == samples_.size()) return;
    arrival_timer_.expires_at(begin_ + job_.arrivals[next_]);
    arrival_timer_.async_wait([this](const ErrorCode& code) {
      if (!code) take_arrivals();
    });
  }

  void start_waiting() {
    while (!waiting_.empty() && open_ < job_.max_concurrency.value_or(UINT32_MAX)) {
      const std::size_t index = waiting_.front();
      waiting_.pop_front();
      ++open_;
      asio::co_spawn(io_, send(index), asio::detached);
    }
  }

  Task<void> send(std::size_t index) {
    Sample& sample = samples_[index];
    const std::string request = job_.request_of(index);
    std::unique_ptr<HttpConnection> connection = take_connection();
    SampleSink sink(sample, scratch_);
    sample.start = now();
    sample.queue_time = std::max(Duration{}, sample.start - begin_ - job_.arrivals[index]);
    Status status;
    if (job_.is_prequeued) {
      status = co_await connection->exchange(request, sink, gate_);
    } else {
      status = co_await connection->exchange(request, sink);
    }
    if (status.ok()) {
      sink.reader().finish(now());
    } else {
      sink.reader().fail(std::string(status.message()));
    }
    if (connection->is_open()) idle_.push_back(std::move(connection));
    pieces_ += sample.output_tokens;
    on_done();
  }

  // All requests are there: what was before does not count.
  void begin_anew() {
    begin_ = now();
    for (Sample& sample : samples_) sample.start = begin_;
  }

  void on_done() {
    --open_;
    if (++done_ == samples_.size()) return io_.stop();
    start_waiting();
  }

  std::unique_ptr<HttpConnection> take_connection() {
    if (idle_.empty()) return std::make_unique<HttpConnection>(io_, endpoints_);
    auto connection = std::move(idle_.back());
    idle_.pop_back();
    return connection;
  }

  void watch_stop() {
    stop_fd_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const ErrorCode& code) {
      if (code) return;
      stop_.update();
      io_.stop();
    });
  }

  void tick() {
    const Instant time = now();
    const double seconds = std::chrono::duration<double>(time - begin_).count();
    const double rate = seconds > 0 ? static_cast<double>(pieces_) / seconds : 0;
    progress_.update(done_, absl::StrFormat("%d open, %.0f tok/s", open_, rate), time);
    progress_timer_.expires_after(Progress::kTick);
    progress_timer_.async_wait([this](const ErrorCode& code) {
      if (!code) tick();
    });
  }

  const LoadJob& job_;
  const Endpoints endpoints_;
  Progress& progress_;
  StopSignal& stop_;
  std::vector<Sample> samples_;
  JsonScratch scratch_;
  Instant begin_{};
  std::size_t next_ = 0;  // Not yet arrived.
  std::deque<std::size_t> waiting_;
  uint64_t open_ = 0;
  uint64_t done_ = 0;
  uint64_t pieces_ = 0;

  // The coroutines that a stop leaves behind end with it, before what they refer to.
  asio::io_context io_{1};
  Gate gate_;
  asio::steady_timer arrival_timer_;
  asio::steady_timer progress_timer_;
  asio::posix::stream_descriptor stop_fd_;
  std::vector<std::unique_ptr<HttpConnection>> idle_;
};

}  // namespace

StatusOr<LoadOutcome> run_load(const ServerUrl& url, const LoadJob& job, Progress& progress,
                               StopSignal& stop) try {
  TRIREME_ASSIGN_OR_RETURN(Endpoints endpoints, resolve(url));
  const std::size_t count = job.arrivals.size();
  TRIREME_RETURN_IF_ERROR(
      allow_sockets(std::min<std::size_t>(count, job.max_concurrency.value_or(UINT32_MAX))));
  return Load(job, std::move(endpoints), progress, stop).run();
} catch (const std::exception& failure) {
  return error(StatusCode::kInternal, "%s: %s", url.text(), failure.what());
}

}  // namespace trireme::bench
