#include "common/shm/mapping.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace trireme::shm {
namespace {

TEST(Mapping, what_one_end_writes_the_other_reads) {
  const auto made = Mapping::create("test", 4096);
  ASSERT_TRUE(made.ok()) << made.status();
  const auto attached = Mapping::attach(UniqueFd(::dup(made->fd())));
  ASSERT_TRUE(attached.ok()) << attached.status();
  EXPECT_EQ(attached->bytes().size(), 4096);
  made->bytes()[17] = std::byte{42};
  EXPECT_EQ(attached->bytes()[17], std::byte{42});
}

TEST(Mapping, nobody_can_shrink_it_under_the_others) {
  const auto made = Mapping::create("test", 4096);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(::ftruncate(made->fd(), 0), -1);
  EXPECT_EQ(errno, EPERM);
}

TEST(Mapping, descriptor_that_is_no_sealed_memory_is_refused) {
  const int unsealed = ::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(::ftruncate(unsealed, 4096), 0);
  EXPECT_FALSE(Mapping::attach(UniqueFd(unsealed)).ok());
  EXPECT_FALSE(Mapping::attach(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC))).ok());
  EXPECT_FALSE(Mapping::attach(UniqueFd(-1)).ok());
}

TEST(Mapping, more_than_the_machine_has_is_an_error_that_says_how_much) {
  const auto made = Mapping::create("huge", std::size_t{1} << 50);
  EXPECT_EQ(made.status().code(), StatusCode::kResourceExhausted);
  EXPECT_NE(made.status().message().find("1125899906842624 bytes"), std::string_view::npos);
}

}  // namespace
}  // namespace trireme::shm
