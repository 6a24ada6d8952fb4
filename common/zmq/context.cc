#include "common/zmq/context.h"

#include <zmq.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "common/zmq/zap_handler.h"

// ThreadSanitizer calls this where there is one. Debian's libzmq is not built for it: it cannot see
// how libzmq hands messages from thread to thread, and would take each for a race.
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() {
  return "race:libzmq.so\ncalled_from_lib:libzmq.so\n"
         "race:libsodium.so\ncalled_from_lib:libsodium.so\n";
}

namespace trireme::zmq {

StatusOr<std::unique_ptr<Context>> Context::create(ContextOptions options) {
  void* const handle = ::zmq_ctx_new();
  if (handle == nullptr) {
    return error(StatusCode::kResourceExhausted, "zmq_ctx_new: %s", std::strerror(errno));
  }
  ::zmq_ctx_set(handle, ZMQ_IO_THREADS, options.io_threads);
  ::zmq_ctx_set(handle, ZMQ_MAX_SOCKETS, options.sockets_max);
  ::zmq_ctx_set(handle, ZMQ_BLOCKY, 0);
  std::unique_ptr<Context> context(new Context(std::move(options), handle));
  if (context->options_.key) {
    TRIREME_ASSIGN_OR_RETURN(context->zap_, ZapHandler::start(handle, *context->options_.key));
  }
  return context;
}

Context::Context(ContextOptions options, void* handle)
    : options_(std::move(options)), handle_(handle) {}

Context::~Context() {
  ::zmq_ctx_shutdown(handle_);  // Ends the handler's receive.
  zap_.reset();
  while (::zmq_ctx_term(handle_) != 0 && errno == EINTR) {
  }
}

uint64_t Context::refused_peers_total() const { return zap_ ? zap_->refused_total() : 0; }

}  // namespace trireme::zmq
