// glibc's checked longjmp takes a jump to another stack for an error.
#undef _FORTIFY_SOURCE

#include "worker/kernels/cuda/on_host/fiber.h"

#include "common/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace trireme::worker::cuda::on_host {
namespace {

// Virtual memory: what a kernel does not touch is not there.
constexpr std::size_t kStackBytes = std::size_t{256} << 10;

// Whose enter() comes next.
constinit thread_local Fiber* starting = nullptr;

#if defined(__SANITIZE_ADDRESS__)

void arrive(Continuation& at, Continuation& from) {
  __sanitizer_finish_switch_fiber(at.sanitizer_state, &from.stack, &from.stack_bytes);
}

void switch_to(Continuation& from, Continuation& to) {
  __sanitizer_start_switch_fiber(&from.sanitizer_state, to.stack, to.stack_bytes);
  swapcontext(&from.context, &to.context);
  arrive(from, to);
}

#elif defined(__SANITIZE_THREAD__)

void arrive(Continuation&, Continuation&) {}

void switch_to(Continuation& from, Continuation& to) {
  from.sanitizer_state = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.sanitizer_state, 0);
  swapcontext(&from.context, &to.context);
}

#else

void arrive(Continuation&, Continuation&) {}

// swapcontext() makes two system calls; a jump makes none and is forty times faster.
void switch_to(Continuation& from, Continuation& to) {
  from.has_jump = true;
  if (_setjmp(from.jump) != 0) return;
  if (to.has_jump) _longjmp(to.jump, 1);
  setcontext(&to.context);
}

#endif

}  // namespace

Fiber::Fiber() : stack_(std::make_unique_for_overwrite<std::byte[]>(kStackBytes)) {
  TRIREME_CHECK(getcontext(&inside_.context) == 0, "a context can be had");
  inside_.context.uc_stack.ss_sp = stack_.get();
  inside_.context.uc_stack.ss_size = kStackBytes;
  inside_.context.uc_link = nullptr;
  inside_.stack = stack_.get();
  inside_.stack_bytes = kStackBytes;
  makecontext(&inside_.context, &Fiber::enter, 0);
#if defined(__SANITIZE_THREAD__)
  inside_.sanitizer_state = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#if defined(__SANITIZE_THREAD__)
  __tsan_destroy_fiber(inside_.sanitizer_state);
#endif
}

void Fiber::enter() {
  Fiber& self = *starting;
  arrive(self.inside_, self.outside_);
  self.run_bodies();
}

void Fiber::run_bodies() {
  for (;;) {
    (*body_)();
    is_done_ = true;
    pause();
  }
}

void Fiber::resume() {
  starting = this;
  switch_to(outside_, inside_);
}

void Fiber::pause() { switch_to(inside_, outside_); }

}  // namespace trireme::worker::cuda::on_host
