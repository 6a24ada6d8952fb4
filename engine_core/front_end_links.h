// FrontEndLinks: a DEALER to every front end of the view, and who has which number.
//
// A front end gets EngineReady first and then with every beat. When its connection breaks, what was
// in flight is lost: it is treated as one that left and came again, with another connection number
// in its EngineReady (proto/engine_outputs.h), and its outputs are numbered. What it sends and
// cannot be decoded is dropped and counted. What it cannot take is kept for it, at most kBacklogMax
// messages: beyond that it is stuck, and is dropped as if it had left the view; it may come back
// with another life. Threads: the I/O thread's.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "common/status.h"
#include "common/zmq/context.h"
#include "common/zmq/dealer.h"
#include "common/zmq/message.h"
#include "common/zmq/poller.h"
#include "engine_core/engine_channel.h"
#include "proto/membership.h"
#include "proto/messages.h"

namespace trireme::engine {

class FrontEndLinks {
 public:
  static constexpr uint32_t kFrontEndsMax = 256;
  static constexpr std::size_t kBacklogMax = 4096;
  static constexpr uint64_t kFirstToken = 16;  // In the poller; smaller ones are the owner's.

  FrontEndLinks(zmq::Context& context, zmq::Poller& poller, std::string identity);

  // From now on front ends are connected to; `ready` is what they hear first.
  void set_ready(const wire::EngineReady& ready);
  // Connects to newcomers, lets go of those who left; pushes Joined and Left.
  void on_view(const wire::View& view, EngineChannel& channel);
  // Says EngineReady again; looks for connections that broke.
  void beat(EngineChannel& channel);

  // For the main loop, in order, also when `input` has no room now.
  template <typename Event>
  void post(Event event, EngineChannel& channel) {
    events_.emplace_back(std::in_place_type<Event>, std::move(event));
    flush_events(channel);
  }

  // Reads what came, as far as `input` has room. False: it had none.
  bool read(EngineChannel& channel, int& work);
  // Numbers, packs and sends, or keeps.
  void send(OutputMessage& message, EngineChannel& channel);
  // Tries again what was kept; the number sent.
  int retry();
  [[nodiscard]] bool has_backlog() const { return backlog_count_ > 0; }
  [[nodiscard]] uint64_t dropped_total() const { return dropped_; }

 private:
  struct Link {
    FrontEndId id;
    uint32_t index = 0;     // The front end's, in the view.
    uint64_t serial = 0;    // The connection's number.
    uint64_t sequence = 0;  // Of the last outputs.
    Incarnation incarnation;
    std::string address;
    std::unique_ptr<zmq::Dealer> socket;
    std::deque<wire::Buffer> backlog;
  };

  void join(uint32_t index, Incarnation incarnation, const std::string& address,
            EngineChannel& channel);
  void leave(uint32_t index, const char* why, EngineChannel& channel);
  void flush_events(EngineChannel& channel);
  [[nodiscard]] static Status decode(FrontEndId from, const zmq::Message& message,
                                     InputEvent& event);
  void rejoin(uint32_t index, EngineChannel& channel);
  void put(Link& link, const wire::Buffer& bytes);
  void say_ready(Link& link);

  zmq::Context& context_;
  zmq::Poller& poller_;
  std::string identity_;
  wire::EngineReady ready_;
  bool is_ready_ = false;
  std::vector<std::unique_ptr<Link>> links_;  // By front-end number; null: unused.
  std::unordered_set<Incarnation> stuck_lives_;
  std::deque<InputEvent> events_;  // Posted, and `input` had no room.
  InputEvent event_;
  zmq::Message message_;
  wire::Buffer buffer_;
  uint64_t next_serial_ = 1;
  std::size_t backlog_count_ = 0;
  uint64_t dropped_ = 0;
};

}  // namespace trireme::engine
