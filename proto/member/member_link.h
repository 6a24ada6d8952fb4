// MemberLink: a process's connection to the coordinator, inside the owner's own poll loop.
//
//   TRIREME_ASSIGN_OR_RETURN(MemberLink link, MemberLink::open(context, options, identity));
//   loop:
//     poller.wait(Deadline(link.wakeup()));                // after poller.add(link.socket(),
//     kLink) link.do_work(now(), /*is_alive=*/true); while (auto event = link.next_event())
//     std::visit(..., *event);
//   link.set_ready({...});        // when it can serve; said again to every new coordinator
//   link.report_load(stats);      // whenever it changed; the link sends at most every 50 ms
//
// It never blocks and has no thread. An unreachable coordinator is not an error: the link keeps
// trying and logs one line with address and port every 10 s.
//
// The sign of life: do_work() sends a KeepAlive every quarter of a lease, but only if some call
// since the last one had `is_alive`. An owner whose I/O thread runs the link passes whether its
// *main loop* has turned since, so that a frozen main loop goes silent and is taken out of the
// view.
//
// Threads: one owner. Bounds: events waiting <= kEventsMax (older load boards give way first);
// messages not yet taken by the socket are dropped, and repeated by the protocol.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/id.h"
#include "common/options/serve_options.h"
#include "common/status.h"
#include "proto/member/member_event.h"
#include "proto/membership.h"

namespace trireme::zmq {
class Context;
class Socket;
}  // namespace trireme::zmq

namespace trireme::member {

struct MemberIdentity {
  wire::Role role{};
  uint32_t index = 0;       // Rank, api-server number, or node rank.
  Incarnation incarnation;  // One draw per life: entropy64().
  // What all members must agree on; cluster_config(options) gives the part that the command line
  // decides, an engine appends what it read from the model.
  std::vector<wire::ConfigEntry> config;
};

// model, data_parallel_size, tensor_parallel_size, dtype, block_size, ... as the options have them.
[[nodiscard]] std::vector<wire::ConfigEntry> cluster_config(const ServeOptions& options);

class MemberLink {
 public:
  static constexpr std::size_t kEventsMax = 1024;

  // Connects to control_endpoint(options) (cluster_shape.h). Fails only on what can never work: a
  // bad address, or one beyond loopback without a cluster key.
  [[nodiscard]] static StatusOr<MemberLink> open(zmq::Context& context, const ServeOptions& options,
                                                 MemberIdentity identity);
  MemberLink(MemberLink&&) noexcept;
  MemberLink& operator=(MemberLink&&) noexcept;
  ~MemberLink();

  // For the owner's zmq::Poller; stays where it is while the link lives, moved or not.
  [[nodiscard]] zmq::Socket& socket();
  // Call do_work() again at this time, at the latest.
  [[nodiscard]] Instant wakeup() const;
  // Reads what came, says what is due. The number of messages read and sent.
  int do_work(Instant now, bool is_alive);
  [[nodiscard]] std::optional<Event> next_event();

  // Takes effect with the next do_work() (so does everything below).
  void set_ready(wire::MemberReady ready);
  // Finishes what it has, takes nothing new: front ends stop sending here.
  void set_draining();
  void report_load(const wire::EngineStats& stats);
  void set_wave(wire::WaveEventKind standing, WaveId wave, std::vector<uint32_t> awaits = {});
  void report_rank(wire::RankReport report);
  // Says goodbye and flushes; the link says nothing afterwards.
  void leave(std::string reason);

  [[nodiscard]] bool is_joined() const;
  // The last one adopted; epoch 0 and empty before the first.
  [[nodiscard]] const wire::View& view() const;
  [[nodiscard]] const MemberIdentity& identity() const;

 private:
  struct Parts;
  explicit MemberLink(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace trireme::member
