#include "worker/kv_store.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "common/log.h"
#include "common/unique_fd.h"

namespace trireme::worker {
namespace {

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;

class MemoryStore final : public KvStore {
 public:
  [[nodiscard]] static StatusOr<std::unique_ptr<KvStore>> make(const KvStoreOptions& options) {
    const uint64_t bytes = options.slot_count * options.slot_bytes;
    void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
      return error(StatusCode::kResourceExhausted, "--kv-offloading-size: %.2f GiB of memory: %s",
                   static_cast<double>(bytes) / kGib, std::strerror(errno));
    }
    return std::unique_ptr<KvStore>(
        new MemoryStore({static_cast<std::byte*>(memory), bytes}, options.slot_bytes));
  }
  ~MemoryStore() override { ::munmap(memory_.data(), memory_.size()); }

  std::span<std::byte> begin_save(uint32_t slot) override { return place_of(slot); }
  Status end_save(uint32_t) override { return absl::OkStatus(); }
  StatusOr<std::span<const std::byte>> load(uint32_t slot) override { return place_of(slot); }

 private:
  MemoryStore(std::span<std::byte> memory, uint64_t slot_bytes)
      : memory_(memory), slot_bytes_(slot_bytes) {}
  [[nodiscard]] std::span<std::byte> place_of(uint32_t slot) const {
    return memory_.subspan(slot * slot_bytes_, slot_bytes_);
  }

  std::span<std::byte> memory_;
  uint64_t slot_bytes_;
};

class FileStore final : public KvStore {
 public:
  FileStore(UniqueFd file, const KvStoreOptions& options)
      : file_(std::move(file)), buffer_(options.slot_bytes), checksums_(options.slot_count) {}

  std::span<std::byte> begin_save(uint32_t) override { return buffer_; }

  Status end_save(uint32_t slot) override {
    checksums_[slot] = checksum();
    return move_all(slot, "written", [this](std::size_t done, off_t at) {
      return ::pwrite(file_.get(), buffer_.data() + done, buffer_.size() - done, at);
    });
  }

  StatusOr<std::span<const std::byte>> load(uint32_t slot) override {
    TRIREME_RETURN_IF_ERROR(move_all(slot, "read", [this](std::size_t done, off_t at) {
      return ::pread(file_.get(), buffer_.data() + done, buffer_.size() - done, at);
    }));
    if (checksum() != checksums_[slot]) {
      return error(StatusCode::kDataLoss, "slot %u reads otherwise than it was written", slot);
    }
    return std::span<const std::byte>(buffer_);
  }

 private:
  [[nodiscard]] uint64_t checksum() const { return XXH3_64bits(buffer_.data(), buffer_.size()); }

  template <typename Move>
  Status move_all(uint32_t slot, const char* what, const Move& move) {
    const uint64_t begin = slot * uint64_t{buffer_.size()};
    for (std::size_t done = 0; done < buffer_.size();) {
      const ssize_t moved = move(done, static_cast<off_t>(begin + done));
      if (moved < 0 && errno == EINTR) continue;
      if (moved <= 0) {
        return error(StatusCode::kDataLoss, "slot %u cannot be %s: %s", slot, what,
                     moved == 0 ? "the file ends before it" : std::strerror(errno));
      }
      done += static_cast<std::size_t>(moved);
    }
    return absl::OkStatus();
  }

  UniqueFd file_;
  std::vector<std::byte> buffer_;
  std::vector<uint64_t> checksums_;  // By slot.
};

// Some file systems cannot make a file without a name: there it loses it at once.
StatusOr<UniqueFd> make_nameless_file(const std::string& directory) {
  UniqueFd file(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file.get() >= 0) return file;
  if (errno == EOPNOTSUPP || errno == EISDIR) {
    std::string name = directory + "/trireme-kv-XXXXXX";
    file = UniqueFd(::mkostemp(name.data(), O_CLOEXEC));
    if (file.get() >= 0 && ::unlink(name.c_str()) == 0) return file;
  }
  return error(StatusCode::kInvalidArgument,
               "--kv-offloading-path %s: no file can be made there: %s", directory,
               std::strerror(errno));
}

StatusOr<std::unique_ptr<KvStore>> make_file_store(const KvStoreOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(UniqueFd file, make_nameless_file(options.directory));
  struct statvfs disk {};
  if (::fstatvfs(file.get(), &disk) != 0) {
    return error(StatusCode::kInvalidArgument, "--kv-offloading-path %s: %s", options.directory,
                 std::strerror(errno));
  }
  const uint64_t wanted = options.slot_count * options.slot_bytes * options.sharers;
  const uint64_t available = uint64_t{disk.f_bavail} * disk.f_frsize;
  if (wanted > available) {
    return error(StatusCode::kResourceExhausted,
                 "--kv-offloading-size: the stores of this node's %u workers may grow to %.2f GiB, "
                 "--kv-offloading-path %s has %.2f GiB free: ask for less",
                 options.sharers, static_cast<double>(wanted) / kGib, options.directory,
                 static_cast<double>(available) / kGib);
  }
  // A limit on the size of files is then what a full disk is: an error.
  ::signal(SIGXFSZ, SIG_IGN);
  return std::make_unique<FileStore>(std::move(file), options);
}

template <typename... Args>
Status broken(const absl::FormatSpec<Args...>& format, const Args&... args) {
  return Status(StatusCode::kInternal,
                "step breaks the protocol: " + absl::StrFormat(format, args...));
}

}  // namespace

StatusOr<std::unique_ptr<KvStore>> open_kv_store(const KvStoreOptions& options) {
  if (!options.directory.empty()) return make_file_store(options);
  const uint64_t wanted = options.slot_count * options.slot_bytes * options.sharers;
  if (wanted > options.memory_available) {
    return error(StatusCode::kResourceExhausted,
                 "--kv-offloading-size: the stores of this node's %u workers may grow to %.2f GiB, "
                 "%.2f GiB of memory are left beside weights and KV cache: ask for less, or for a "
                 "disk with --kv-offloading-path",
                 options.sharers, static_cast<double>(wanted) / kGib,
                 static_cast<double>(options.memory_available) / kGib);
  }
  return MemoryStore::make(options);
}

Status BlockMoves::apply(const wire::StepInput& step, std::span<Model* const> models,
                         wire::StepResult& result) {
  if (step.save_blocks.empty() && step.load_blocks.empty() && step.save_slots.empty() &&
      step.load_slots.empty()) {
    return absl::OkStatus();
  }
  TRIREME_RETURN_IF_ERROR(check(step));
  Status failure;
  const auto lose = [&](uint32_t slot, const Status& why) {
    is_held_[slot] = false;
    result.lost_slots.push_back(slot);
    failure.Update(why);
  };
  for (std::size_t i = 0; i < step.save_blocks.size(); ++i) {
    const uint32_t slot = step.save_slots[i];
    const Status saved = save(slot, static_cast<uint32_t>(step.save_blocks[i]), models);
    if (!saved.ok()) lose(slot, saved);
  }
  for (std::size_t i = 0; i < step.load_blocks.size(); ++i) {
    const uint32_t slot = step.load_slots[i];
    const Status loaded = load(slot, static_cast<uint32_t>(step.load_blocks[i]), models);
    if (loaded.ok()) continue;
    lose(slot, loaded);
    ++result.failed_load_count;
  }
  if (!failure.ok()) {
    log::warning("kv_store_lost_blocks", {{"step", step.step.value},
                                          {"blocks", result.lost_slots.size()},
                                          {"first", std::string(failure.message())}});
  }
  return absl::OkStatus();
}

Status BlockMoves::check(const wire::StepInput& step) const {
  const auto check_moves = [this](const std::vector<int32_t>& blocks,
                                  const std::vector<uint32_t>& slots) -> Status {
    if (blocks.size() != slots.size()) {
      return broken("%u blocks are moved, %u slots", blocks.size(), slots.size());
    }
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      if (blocks[i] < 0 || static_cast<uint32_t>(blocks[i]) >= limits_.block_count) {
        return broken("block %d is not one of %u", blocks[i], limits_.block_count);
      }
      if (slots[i] >= limits_.slot_count) {
        return broken("slot %u of the store is not one of %u", slots[i], limits_.slot_count);
      }
    }
    return absl::OkStatus();
  };
  TRIREME_RETURN_IF_ERROR(check_moves(step.save_blocks, step.save_slots));
  return check_moves(step.load_blocks, step.load_slots);
}

Status BlockMoves::save(uint32_t slot, uint32_t block, std::span<Model* const> models) {
  std::span<std::byte> place = store_->begin_save(slot);
  for (const Model* model : models) {
    const uint64_t bytes = model->kv_shape().block_bytes;
    model->copy_block_out(block, place.first(bytes));
    place = place.subspan(bytes);
  }
  TRIREME_RETURN_IF_ERROR(store_->end_save(slot));
  is_held_[slot] = true;
  return absl::OkStatus();
}

Status BlockMoves::load(uint32_t slot, uint32_t block, std::span<Model* const> models) {
  if (!is_held_[slot]) return error(StatusCode::kDataLoss, "slot %u holds nothing", slot);
  TRIREME_ASSIGN_OR_RETURN(std::span<const std::byte> place, store_->load(slot));
  for (Model* model : models) {
    const uint64_t bytes = model->kv_shape().block_bytes;
    model->copy_block_in(block, place.first(bytes));
    place = place.subspan(bytes);
  }
  return absl::OkStatus();
}

}  // namespace trireme::worker
