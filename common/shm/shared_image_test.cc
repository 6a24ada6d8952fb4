// An image is made once: by the first, or by the next when the first is killed in the middle of it.
// The makers are processes, as its locks are.
#include "common/shm/shared_image.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

namespace trireme::shm {
namespace {

constexpr uint64_t kPieces = 3;
constexpr uint64_t kSize = kPieces * SharedImage::kPieceBytes - 1000;
constexpr uint64_t kDigest = 4711;

Status fill(SharedImage& image, std::byte value) {
  TRIREME_RETURN_IF_ERROR(image.grow(kPieces));
  if (!image.take_pieces(0, kPieces)) return error(StatusCode::kResourceExhausted, "no pieces");
  std::memset(image.data() + SharedImage::kHeaderBytes, static_cast<int>(value),
              kSize - SharedImage::kHeaderBytes);
  return absl::OkStatus();
}

bool holds(const SharedImage& image, std::byte value) {
  const std::byte* const first = image.data() + SharedImage::kHeaderBytes;
  const std::size_t count = image.size() - SharedImage::kHeaderBytes;
  return *first == value && std::memcmp(first, first + 1, count - 1) == 0;
}

// Where the kernel has no MADV_COLLAPSE there is nothing to test but that it says so.
class SharedImageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = SharedImage::create("test", 2);
    if (made.status().code() == StatusCode::kUnimplemented) GTEST_SKIP() << made.status();
    ASSERT_TRUE(made.ok()) << made.status();
    fd_ = *std::move(made);
  }
  [[nodiscard]] StatusOr<SharedImage> open(uint64_t digest = kDigest) const {
    return SharedImage::open(UniqueFd(::dup(fd_.get())), digest, [] {});
  }
  void make(std::byte value) const {
    auto image = open();
    ASSERT_TRUE(image.ok() && !image->is_made()) << image.status();
    ASSERT_TRUE(fill(*image, value).ok());
    ASSERT_TRUE(image->finish(kSize).ok());
    EXPECT_TRUE(holds(*image, value));
  }
  // body() in a child, whose exit code it returns.
  template <typename Body>
  static int in_child(const Body& body) {
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(body());
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
  }

  UniqueFd fd_;
};

TEST_F(SharedImageTest, second_process_finds_the_bytes_of_the_first) {
  ASSERT_EQ(in_child([&] {
              make(std::byte{7});
              return HasFailure() ? 1 : 0;
            }),
            0);
  const auto found = open();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(found->is_made());
  EXPECT_EQ(found->sharers(), 2u);
  EXPECT_EQ(found->size(), kSize);
  EXPECT_TRUE(holds(*found, std::byte{7}));
}

TEST_F(SharedImageTest, who_maps_it_has_huge_pages) {
  make(std::byte{7});
  const auto found = open();
  ASSERT_TRUE(found.ok()) << found.status();
  ASSERT_TRUE(holds(*found, std::byte{7}));
  std::ifstream smaps("/proc/self/smaps");
  uint64_t kilobytes = 0;
  bool is_ours = false;
  for (std::string line; std::getline(smaps, line);) {
    if (line.find("memfd:") != std::string::npos) is_ours = line.find("r--s") != std::string::npos;
    unsigned long long here = 0;
    const bool counts = std::sscanf(line.c_str(), "ShmemPmdMapped: %llu kB", &here) == 1;
    if (is_ours && counts) kilobytes += here;
  }
  EXPECT_EQ(kilobytes * 1024, kPieces * SharedImage::kPieceBytes);
}

TEST_F(SharedImageTest, maker_that_is_killed_is_followed_by_one_who_starts_from_zero) {
  EXPECT_EQ(in_child([&] {
              auto image = open();
              if (!image.ok() || !fill(*image, std::byte{9}).ok()) return 1;
              return ::raise(SIGKILL);
            }),
            1000 + SIGKILL);
  auto image = open();
  ASSERT_TRUE(image.ok()) << image.status();
  ASSERT_FALSE(image->is_made());
  ASSERT_TRUE(image->grow(kPieces).ok());
  ASSERT_TRUE(image->take_pieces(0, kPieces));
  ASSERT_TRUE(image->finish(kSize).ok());
  EXPECT_TRUE(holds(*image, std::byte{0})) << "what the dead one wrote is gone";
}

TEST_F(SharedImageTest, others_wait_for_who_makes_it_and_take_over_when_it_dies) {
  for (const bool dies : {true, false}) {
    int begun[2], waits[2];
    ASSERT_EQ(::pipe2(begun, O_CLOEXEC) + ::pipe2(waits, O_CLOEXEC), 0);
    const auto hear = [](int fd) {
      pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
      return ::poll(&entry, 1, 30'000) == 1;
    };
    const pid_t maker = ::fork();
    if (maker == 0) {
      auto image = open();
      if (!image.ok() || !fill(*image, std::byte{5}).ok()) ::_exit(1);
      if (::write(begun[1], "x", 1) != 1 || !hear(waits[0])) ::_exit(2);
      if (dies) ::raise(SIGKILL);
      ::_exit(image->finish(kSize).ok() ? 0 : 3);
    }
    ASSERT_TRUE(hear(begun[0]));
    bool waited = false;
    auto image = SharedImage::open(UniqueFd(::dup(fd_.get())), kDigest, [&] {
      waited = true;
      ASSERT_EQ(::write(waits[1], "x", 1), 1);
    });
    ASSERT_TRUE(image.ok()) << image.status();
    EXPECT_TRUE(waited);
    EXPECT_EQ(image->is_made(), !dies);
    EXPECT_TRUE(dies || holds(*image, std::byte{5}));
    ::waitpid(maker, nullptr, 0);
    for (const int fd : {begun[0], begun[1], waits[0], waits[1]}) ::close(fd);
  }
}

TEST_F(SharedImageTest, pieces_taken_ahead_are_given_back) {
  auto image = open();
  ASSERT_TRUE(image.ok()) << image.status();
  ASSERT_TRUE(image->grow(kPieces + 5).ok() && image->take_pieces(0, kPieces + 5));
  ASSERT_TRUE(image->finish(kSize).ok());
  struct stat what {};
  ASSERT_EQ(::fstat(fd_.get(), &what), 0);
  EXPECT_EQ(static_cast<uint64_t>(what.st_blocks) * 512, kPieces * SharedImage::kPieceBytes);
}

TEST_F(SharedImageTest, other_bytes_than_these_are_refused) {
  make(std::byte{7});
  EXPECT_EQ(open(kDigest + 1).status().code(), StatusCode::kFailedPrecondition);
  EXPECT_TRUE(open().ok());
}

TEST_F(SharedImageTest, nobody_can_change_what_is_made) {
  make(std::byte{7});
  EXPECT_EQ(in_child([&] {
              ::signal(SIGSEGV, SIG_DFL);
              const auto found = open();
              if (!found.ok()) return 1;
              found->data()[5000] = std::byte{8};
              return 0;
            }),
            1000 + SIGSEGV);
  EXPECT_EQ(::ftruncate(fd_.get(), 0), -1);
  EXPECT_EQ(::pwrite(fd_.get(), "x", 1, 5000), -1);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_WRITE, MAP_SHARED, fd_.get(), 0), MAP_FAILED);
  EXPECT_TRUE(holds(*open(), std::byte{7}));
}

TEST_F(SharedImageTest, memory_that_is_not_there_is_a_status) {
  EXPECT_EQ(in_child([&] {
              ::signal(SIGXFSZ, SIG_IGN);
              auto image = open();
              const rlimit small{.rlim_cur = SharedImage::kPieceBytes, .rlim_max = RLIM_INFINITY};
              if (!image.ok() || ::setrlimit(RLIMIT_FSIZE, &small) != 0) return 1;
              if (!image->grow(1).ok() || !image->take_pieces(0, 1)) return 2;
              if (image->grow(2).code() != StatusCode::kResourceExhausted) return 3;
              return image->take_pieces(1, 1) ? 4 : 0;
            }),
            0);
}

TEST_F(SharedImageTest, what_is_no_image_is_refused) {
  const int other = ::memfd_create("other", MFD_CLOEXEC);
  const auto opened = SharedImage::open(UniqueFd(other), kDigest, [] {});
  EXPECT_EQ(opened.status().code(), StatusCode::kInvalidArgument);
}

TEST(SharedImageLimit, limited_file_size_is_a_reason_to_do_without) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{.rlim_cur = 1 << 20, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  EXPECT_EQ(SharedImage::create("test", 1).status().code(), StatusCode::kUnimplemented);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
}

}  // namespace
}  // namespace trireme::shm
