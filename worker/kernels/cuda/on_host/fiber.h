// Fiber: a function with a stack of its own that can stop in the middle and go on later. What a
// thread of an emulated block is.
//
// resume() runs it on the caller's thread until it pauses or its body returns. Fibers are used
// again for the next body: only their first one makes a context. One that is destroyed in the
// middle of a body is forgotten, nothing of it is unwound. The sanitizers are told of each switch.
// Threads: all calls from the one that started it.
#pragma once

#include <setjmp.h>  // NOLINT: _setjmp, which keeps no signal mask.
#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>

namespace trireme::worker::cuda::on_host {

// Where one side of a switch goes on.
struct Continuation {
  ucontext_t context;
  jmp_buf jump;
  bool has_jump = false;  // It was left by switch_to(): go back there, else begin in `context`.
  const void* stack = nullptr;
  std::size_t stack_bytes = 0;
  void* sanitizer_state = nullptr;  // ASan's fake stack, or TSan's fiber.
};

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The body runs at the next resume(); it outlives that run.
  void start(const std::function<void()>& body) {
    body_ = &body;
    is_done_ = false;
  }
  void resume();
  // Called within the body: back to who resumed.
  void pause();
  [[nodiscard]] bool is_done() const { return is_done_; }

 private:
  static void enter();
  void run_bodies();

  std::unique_ptr<std::byte[]> stack_;
  Continuation inside_;
  Continuation outside_;
  const std::function<void()>* body_ = nullptr;
  bool is_done_ = true;
};

}  // namespace trireme::worker::cuda::on_host
