// What the tests of waits share: a wait that lasts shows that its worker can run.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "common/clock.h"
#include "worker/sign_of_life.h"

namespace trireme::worker {

// `wait` ends by itself, after a second or so.
inline void expect_shown(const SignOfLife& sign, const std::function<void()>& wait) {
  const LifeSighting before = look_at(sign);
  wait();
  const LifeSighting after = look_at(sign);
  EXPECT_GE(after.waits, before.waits + 3) << "again and again";
  EXPECT_EQ(after.changes, before.changes);
}

}  // namespace trireme::worker
