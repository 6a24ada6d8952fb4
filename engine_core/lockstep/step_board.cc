#include "engine_core/lockstep/step_board.h"

#include <sys/eventfd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "common/check.h"

namespace trireme::engine {
namespace {

constexpr uint64_t kMagic = 0x5452'494D'424F'4152;  // "TRIMBOAR"

}  // namespace

StatusOr<StepBoard::Parts> StepBoard::create(uint32_t first_rank, uint32_t rank_count) {
  TRIREME_CHECK(rank_count > 0 && rank_count <= kRanksMax, "a node's ranks");
  TRIREME_ASSIGN_OR_RETURN(
      shm::Mapping memory,
      shm::Mapping::create("trireme-steps", sizeof(Header) + rank_count * sizeof(Cell)));
  auto* const header = new (memory.bytes().data()) Header;
  *header = {.magic = kMagic, .first_rank = first_rank, .rank_count = rank_count};
  Parts parts{.memory = std::move(memory), .bells = {}};
  for (uint32_t i = 0; i < rank_count; ++i) {
    parts.bells.emplace_back(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    if (parts.bells.back().is_open()) continue;
    return error(StatusCode::kResourceExhausted, "eventfd: %s", std::strerror(errno));
  }
  return parts;
}

StatusOr<std::unique_ptr<StepBoard>> StepBoard::attach(shm::Mapping memory,
                                                       std::vector<UniqueFd> bells, uint32_t rank) {
  if (memory.bytes().size() < sizeof(Header)) {
    return error(StatusCode::kDataLoss, "the board of steps is cut short");
  }
  const Header& header = *std::launder(reinterpret_cast<const Header*>(memory.bytes().data()));
  const std::size_t bytes = sizeof(Header) + header.rank_count * sizeof(Cell);
  const bool is_board = header.magic == kMagic && memory.bytes().size() >= bytes;
  if (!is_board || bells.size() != header.rank_count) {
    return error(StatusCode::kDataLoss, "not a board of steps for %u ranks", bells.size());
  }
  if (rank < header.first_rank || rank - header.first_rank >= header.rank_count) {
    return error(StatusCode::kDataLoss, "the board of steps has no place for rank %u", rank);
  }
  const uint32_t first_rank = header.first_rank;
  return std::unique_ptr<StepBoard>(
      new StepBoard(std::move(memory), std::move(bells), first_rank, rank));
}

StepBoard::StepBoard(shm::Mapping memory, std::vector<UniqueFd> bells, uint32_t first_rank,
                     uint32_t rank)
    : memory_(std::move(memory)), bells_(std::move(bells)), first_rank_(first_rank), rank_(rank) {
  cell(rank_).sleeps.store(0);
}

StepBoard::Cell& StepBoard::cell(uint32_t rank) const {
  std::byte* const cells = memory_.bytes().data() + sizeof(Header);
  return *std::launder(reinterpret_cast<Cell*>(cells + (rank - first_rank_) * sizeof(Cell)));
}

void StepBoard::post(const StepRecord& record, std::span<const uint32_t> ranks) {
  write(cell(rank_).slots[next_slot_], {record, WaveId{}});
  next_slot_ ^= 1U;
  wake(ranks);
}

void StepBoard::post_result(WaveId wave, uint64_t step, const StepSummary& all,
                            std::span<const uint32_t> ranks) {
  const StepRecord record{.wave = wave,
                          .step = step,
                          .has_work = all.has_work,
                          .next = all.next_low,
                          .pause = all.pause};
  write(cell(rank_).results[next_result_], {record, all.next_high});
  next_result_ ^= 1U;
  wake(ranks);
}

void StepBoard::write(Slot& slot, const Content& content) {
  const StepRecord& record = content.record;
  // Odd, also where a predecessor was killed while it wrote.
  const uint64_t writing = slot.sequence.load(std::memory_order_relaxed) | 1U;
  slot.sequence.store(writing, std::memory_order_seq_cst);
  slot.wave.store(record.wave.value, std::memory_order_release);
  slot.step.store(record.step, std::memory_order_release);
  slot.next.store(record.next.value, std::memory_order_release);
  slot.next_high.store(content.next_high.value, std::memory_order_release);
  slot.pause_sequence.store(record.pause.sequence, std::memory_order_release);
  slot.pause_mode.store(static_cast<uint32_t>(record.pause.mode), std::memory_order_release);
  slot.has_work.store(record.has_work ? 1 : 0, std::memory_order_release);
  slot.sequence.store(writing + 1, std::memory_order_seq_cst);
}

void StepBoard::wake(std::span<const uint32_t> ranks) {
  for (const uint32_t rank : ranks) {
    if (rank == rank_ || !has(rank) || cell(rank).sleeps.load(std::memory_order_seq_cst) == 0) {
      continue;
    }
    (void)::eventfd_write(bells_[rank - first_rank_].get(), 1);
  }
}

std::optional<StepBoard::Content> StepBoard::read(const Slot& slot) {
  const uint64_t before = slot.sequence.load(std::memory_order_seq_cst);
  if (before % 2 != 0) return std::nullopt;
  const Content content{.record = {.wave = WaveId{slot.wave.load(std::memory_order_acquire)},
                                   .step = slot.step.load(std::memory_order_acquire),
                                   .has_work = slot.has_work.load(std::memory_order_acquire) != 0,
                                   .next = WaveId{slot.next.load(std::memory_order_acquire)},
                                   .pause = {slot.pause_sequence.load(std::memory_order_acquire),
                                             static_cast<PauseMode>(
                                                 slot.pause_mode.load(std::memory_order_acquire))}},
                        .next_high = WaveId{slot.next_high.load(std::memory_order_acquire)}};
  if (slot.sequence.load(std::memory_order_seq_cst) != before) return std::nullopt;
  return content;
}

std::optional<StepRecord> StepBoard::find(uint32_t rank, WaveId wave, uint64_t step) const {
  if (!has(rank)) return std::nullopt;
  for (const Slot& slot : cell(rank).slots) {
    const auto content = read(slot);
    if (content && content->record.wave == wave && content->record.step == step) {
      return content->record;
    }
  }
  return std::nullopt;
}

// Of one wave only one rank writes, so whose cell it is does not matter.
std::optional<StepSummary> StepBoard::result(WaveId wave, uint64_t step) const {
  for (uint32_t i = 0; i < bells_.size(); ++i) {
    for (const Slot& slot : cell(first_rank_ + i).results) {
      const auto content = read(slot);
      if (!content || content->record.wave != wave || content->record.step != step) continue;
      return StepSummary{.has_work = content->record.has_work,
                         .next_low = content->record.next,
                         .next_high = content->next_high,
                         .pause = content->record.pause};
    }
  }
  return std::nullopt;
}

std::optional<StepSummary> StepBoard::gather(WaveId wave, uint64_t step,
                                             std::span<const uint32_t> ranks) {
  return gather_from(ranks, [&](uint32_t rank) { return find(rank, wave, step); });
}

std::vector<uint32_t> StepBoard::missing(WaveId wave, uint64_t step,
                                         std::span<const uint32_t> ranks) {
  std::vector<uint32_t> missing;
  for (const uint32_t rank : ranks) {
    if (!find(rank, wave, step)) missing.push_back(rank);
  }
  return missing;
}

void StepBoard::about_to_wait() { cell(rank_).sleeps.store(1, std::memory_order_seq_cst); }

void StepBoard::woke_up() {
  cell(rank_).sleeps.store(0, std::memory_order_seq_cst);
  eventfd_t rings = 0;
  (void)::eventfd_read(fd(), &rings);
}

}  // namespace trireme::engine
