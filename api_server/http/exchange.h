// Exchange: one request and its answer. The handler keeps it (shared_ptr, one thread) as long as it
// has something to say; the connection may go away meanwhile, then everything said is dropped and
// `on_disconnect` was called once.
//
//   exchange->reply({.status = 200, .body = ...});            whole answer
//   or  exchange->begin_events();  exchange->send_events("data: ...\n\n"); ...  exchange->finish();
//
// Threads: the http thread of its connection.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "api_server/http/http_request.h"

namespace trireme::api {

// What an exchange needs of its connection.
class Connection {
 public:
  virtual void write_reply(const HttpReply& reply) = 0;
  virtual void write_event_head() = 0;
  virtual void write_events(std::string_view bytes) = 0;
  virtual void finish_exchange() = 0;

 protected:
  ~Connection() = default;
};

class Exchange {
 public:
  Exchange(Connection& connection, HttpRequest request, std::string request_id)
      : connection_(&connection), request_(std::move(request)), id_(std::move(request_id)) {}

  [[nodiscard]] const HttpRequest& request() const { return request_; }
  [[nodiscard]] HttpRequest& request() { return request_; }
  // X-Request-Id as given, or drawn; echoed in the answer.
  [[nodiscard]] const std::string& id() const { return id_; }
  [[nodiscard]] bool is_open() const { return connection_ != nullptr; }
  [[nodiscard]] bool has_begun() const { return has_begun_; }

  void reply(const HttpReply& reply) {
    if (connection_ == nullptr) return;
    connection_->write_reply(reply);
    end();
  }
  void begin_events() {
    has_begun_ = true;
    if (connection_ != nullptr) connection_->write_event_head();
  }
  // Complete server-sent events, each with its empty line.
  void send_events(std::string_view bytes) {
    if (connection_ != nullptr) connection_->write_events(bytes);
  }
  void finish() {
    if (connection_ != nullptr) end();
  }
  void on_disconnect(std::function<void()> callback) { on_disconnect_ = std::move(callback); }

  // Called by the connection when it ends first.
  void disconnect() {
    connection_ = nullptr;
    if (auto callback = std::exchange(on_disconnect_, nullptr)) callback();
  }

 private:
  void end() {
    on_disconnect_ = nullptr;
    std::exchange(connection_, nullptr)->finish_exchange();
  }

  Connection* connection_;
  HttpRequest request_;
  std::string id_;
  std::function<void()> on_disconnect_;
  bool has_begun_ = false;
};

}  // namespace trireme::api
