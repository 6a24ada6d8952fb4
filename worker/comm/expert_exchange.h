// ExpertExchange: a mixture whose experts are divided over the members of a wave.
//
//   dispatch  each member sends every other the rows that want one of its experts, each row once,
//             and what they want: entries (row, expert)
//   compute   each member runs its experts over what has come, expert by expert, own rows too
//   combine   each entry's output goes back, unweighted; whoever sent the row weighs and adds
//
//   join(wave, ...)         once a wave
//   begin_forward(more)     once a forward, on every member; a member without one of its own runs
//   run(...)                this for every layer with no rows, so that the others have its experts;
//   others_have_more()      until nobody has another one
//
// What an expert makes of a row does not depend on other rows, and whoever sent it adds in the
// order of the experts, so a row's bits are those of one member that has all experts, in any
// company, wherever experts are.
//
// Experts are at home (expert_placement.h), or by load (balance(), expert_balancer.h): then some
// forwards begin with one exchange more, of what each member has counted.
//
// Bounds: rows_per_round() rows of each member at once; a layer with more takes several rounds, as
// many as the member with the most rows needs. Buffers grow to the largest round seen, so a running
// model allocates nothing.
//
// kAborted: the wave was left; is_abandoned() says so from then on, and run() fails at once until
// begin_forward(). kDataLoss: a member that is elsewhere in the model, counts the load of other
// experts, or sends what cannot be.
// Other errors are those of the links. Threads: one.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "proto/expert_table.h"
#include "worker/comm/expert_balancer.h"
#include "worker/comm/expert_links.h"
#include "worker/comm/expert_placement.h"
#include "worker/float_buffer.h"
#include "worker/sign_of_life.h"

namespace trireme::worker {

// The same on all members.
struct ExpertShape {
  uint32_t hidden_size = 0;
  uint32_t expert_count = 0;
  uint32_t experts_per_token = 0;
  friend bool operator==(const ExpertShape&, const ExpertShape&) = default;
};

// Activations, and which experts each row goes through: experts_per_token each, ascending.
struct ExpertRows {
  const float* values = nullptr;
  uint32_t row_stride = 0;            // In floats.
  std::span<const uint32_t> rows;     // Those that this member answers for, ascending.
  std::span<const uint32_t> experts;  // Of all rows.
};

// Who computes. Rows of x and y are hidden_size floats, without gaps.
class ExpertWork {
 public:
  virtual ~ExpertWork() = default;
  // Rows of `expert` come here from this forward on: its weights are better in memory now than when
  // the first of many such experts is wanted.
  virtual void fetch(uint32_t /*expert*/) {}
  // What `expert` makes of row rows[i] of x becomes row results[i] of y. An error ends run(), and
  // nobody gets a row that was not made.
  [[nodiscard]] virtual Status compute(uint32_t expert, const float* x,
                                       std::span<const uint32_t> rows, float* y,
                                       std::span<const uint32_t> results) = 0;
  // Some of ExpertRows::rows: row results[i · experts_per_token + k] of y is what the k-th expert
  // made of rows[i].
  virtual void combine(std::span<const uint32_t> rows, const float* y,
                       std::span<const uint32_t> results) = 0;
};

class ExpertExchange final : private IncomingPieces {
 public:
  static constexpr uint32_t kRowsMax = 512;
  static constexpr uint32_t kRowsMin = 16;
  // Of what has come and what it became, when every row goes to this member.
  static constexpr uint64_t kRoundBytesMax = uint64_t{256} << 20;

  [[nodiscard]] static uint32_t rows_per_round(const ExpertShape& shape, uint32_t members) {
    const uint64_t row_bytes =
        sizeof(float) * uint64_t{shape.hidden_size} * (1 + shape.experts_per_token) * members;
    return static_cast<uint32_t>(std::clamp<uint64_t>(
        kRoundBytesMax / std::max<uint64_t>(row_bytes, 1), kRowsMin, kRowsMax));
  }
  // What its buffers take at most, with so many rows in a forward of each member.
  [[nodiscard]] static uint64_t buffer_bytes(const ExpertShape& shape, uint32_t members,
                                             uint32_t rows) {
    const uint64_t of_round = std::min(rows, rows_per_round(shape, members));
    const uint64_t each = shape.experts_per_token;
    const uint64_t own = each + std::min<uint64_t>(each, members - 1);
    return sizeof(float) * shape.hidden_size * of_round * (members * (1 + each) + own);
  }

  // `place_count`: the places that waves can have (expert_placement.h), the same on all of them.
  ExpertExchange(std::unique_ptr<ExpertLinks> links, uint32_t place_count, LifeSigns life)
      : links_(std::move(links)), place_count_(place_count), life_(life) {}

  // Before the first wave: experts go where the load is. All members say the same, and every
  // forward has `layer_count` layers, all of them with as many experts. `memory`: of this member.
  void balance(const BalancerConfig& config, const ExpertHome& memory = {}) {
    balancer_.emplace(config, memory);
  }
  // None: experts stay where they are.
  [[nodiscard]] std::optional<ExpertLoad> load() const {
    return balancer_ ? std::optional(balancer_->load()) : std::nullopt;
  }

  // Of its own rows, and where the experts are; without stage. None: experts stay where they are.
  [[nodiscard]] std::optional<wire::ExpertTable> table() const;

  // Errors: those of the links.
  [[nodiscard]] Status join(WaveId wave, std::span<const uint32_t> members,
                            std::span<const std::string> addresses = {});
  // As those of the links (expert_links.h).
  [[nodiscard]] std::string address() const { return links_->address(); }
  [[nodiscard]] uint32_t place() const { return links_->place(); }
  [[nodiscard]] WaveId wave() const { return wave_; }
  // Members of the wave; 0: none was joined. With one there is nothing to exchange.
  [[nodiscard]] uint32_t size() const { return links_->size(); }

  // Does this member compute it, in the layer that ran last, or will it soon?
  [[nodiscard]] bool has_expert(uint32_t expert) const {
    return size() == 1 || placement_->is_at(expert, links_->rank()) ||
           (balancer_ && balancer_->wanted(layer_).is_at(expert, links_->rank()));
  }
  // An expert of another worker, of the layer that runs or ran last: it was loaded, or is gone.
  void note_in_memory(uint32_t expert, bool is_in_memory) {
    if (balancer_) balancer_->note_in_memory(layer_, expert, is_in_memory);
  }
  // All that were loaded, of any layer.
  void note_loaded_are_gone() {
    if (balancer_) balancer_->note_loaded_are_gone();
  }

  // `has_more`: this member has another forward in this step.
  void begin_forward(bool has_more);
  // As far as the others have told in this forward: has one of them another?
  [[nodiscard]] bool others_have_more() const { return others_have_more_; }
  [[nodiscard]] bool is_abandoned() const { return is_abandoned_; }
  // Where this member says what it is at.
  [[nodiscard]] const LifeSigns& life() const { return life_; }

  [[nodiscard]] Status run(const ExpertShape& shape, const ExpertRows& own, ExpertWork& work);

 private:
  struct Header {
    uint64_t exchange = 0;       // Since the wave began.
    uint32_t rows_of_layer = 0;  // Of all rounds.
    uint32_t row_count = 0;      // Of this round, to this member.
    uint32_t entry_count = 0;
    uint32_t has_more = 0;
    // A table of loads comes, and no rows; 0: rows do.
    uint32_t load_layers = 0;
    uint32_t load_experts = 0;
  };
  enum class Incoming : uint8_t { kRows, kResults, kLoads };
  struct Entry {
    uint32_t row = 0;
    uint32_t expert = 0;
  };
  // The round with one member; the own one too.
  struct Peer {
    Header out;
    Header in;
    uint32_t row_begin = 0;     // Of sent_rows_.
    uint32_t entry_begin = 0;   // Of own_entries_; their outputs are as many rows of outputs_.
    uint32_t last_row = 0;      // 1 + the last row that goes there.
    uint32_t result_begin = 0;  // Of outputs_: what its rows became.
    uint32_t pieces_taken = 0;
  };

  [[nodiscard]] StatusOr<std::span<std::byte>> next_piece(uint32_t member) override;
  [[nodiscard]] Status check(uint32_t member, const Header& in) const;
  [[nodiscard]] Status begin_layer(const ExpertShape& shape, const ExpertRows& own,
                                   ExpertWork& work);
  [[nodiscard]] Status exchange_loads();
  [[nodiscard]] std::span<uint32_t> table_of(uint32_t member);
  [[nodiscard]] Status run_rounds(const ExpertRows& own, ExpertWork& work);
  void prepare(const ExpertShape& shape);
  void plan(const ExpertRows& own, std::span<const uint32_t> rows);
  void count(const ExpertRows& own, std::span<const uint32_t> rows);
  void place_entries();
  void copy_rows(const ExpertRows& own, std::span<const uint32_t> rows);
  [[nodiscard]] Status dispatch();
  [[nodiscard]] Status sort_by_expert();
  [[nodiscard]] Status compute(ExpertWork& work);
  [[nodiscard]] Status send_back();
  [[nodiscard]] std::span<const uint32_t> experts_of(const ExpertRows& own, uint32_t row) const;
  [[nodiscard]] std::span<const Entry> entries_from(uint32_t member) const;
  [[nodiscard]] float* rows_from(uint32_t member);
  [[nodiscard]] std::span<std::byte> outputs_at(uint32_t begin, uint32_t count);

  std::unique_ptr<ExpertLinks> links_;
  const uint32_t place_count_;
  std::vector<uint32_t> members_;
  const LifeSigns life_;
  WaveId wave_{};
  uint64_t exchange_ = 0;
  bool has_more_ = false;
  bool others_have_more_ = false;
  bool is_abandoned_ = false;
  Incoming incoming_ = Incoming::kRows;  // What the pieces that come are.

  std::optional<ExpertBalancer> balancer_;
  uint32_t next_layer_ = 0;                      // Of the forward, of those with experts.
  uint32_t layer_ = 0;                           // That runs, or ran last.
  std::span<const ExpertBalancer::Move> moves_;  // Of the forward.
  std::vector<uint32_t> tables_;                 // [member]: loads, as they were exchanged.

  ExpertShape shape_;
  ExpertPlacement parts_;
  const ExpertPlacement* placement_ = &parts_;  // Of the layer.
  uint32_t rows_max_ = 0;                       // Of each member in a round.
  std::vector<Peer> peers_;
  std::vector<OutgoingPieces> outgoing_;
  std::vector<Entry> own_entries_;       // Of the round: to the others by member, then to itself.
  std::vector<uint32_t> results_;        // [row of the round][k]: which of them.
  std::vector<Entry> incoming_entries_;  // [member][rows_max_ · experts_per_token]
  std::vector<uint32_t> expert_begins_;  // Into the next two.
  std::vector<uint32_t> expert_rows_;
  std::vector<uint32_t> expert_results_;
  FloatBuffer sent_buffer_;
  FloatBuffer rows_buffer_;
  FloatBuffer outputs_buffer_;
  float* sent_rows_ = nullptr;
  float* incoming_rows_ = nullptr;  // [member][rows_max_]
  float* outputs_ = nullptr;        // Of own entries, then of those of the others.
};

}  // namespace trireme::worker
