#include "worker/comm/expert_exchange.h"

#include <numeric>
#include <utility>

#include "common/check.h"
#include "common/log.h"

namespace trireme::worker {

Status ExpertExchange::join(WaveId wave, std::span<const uint32_t> members,
                            std::span<const std::string> addresses) {
  TRIREME_RETURN_IF_ERROR(links_->join(wave, members, addresses));
  wave_ = wave;
  members_.assign(members.begin(), members.end());
  exchange_ = 0;
  shape_ = {};
  if (balancer_) {
    const uint32_t expert_count = balancer_->config().expert_count;
    balancer_->join(ExpertPlacement::at_home(expert_count, members_, place_count_), links_->rank());
  }
  begin_forward(false);
  return absl::OkStatus();
}

std::optional<wire::ExpertTable> ExpertExchange::table() const {
  if (!balancer_) return std::nullopt;
  const BalancerConfig& config = balancer_->config();
  wire::ExpertTable table{
      .place = place(), .expert_count = config.expert_count, .window_size = config.window_size};
  std::vector<uint32_t> counts(balancer_->table_size());
  balancer_->write_table(counts);
  for (uint32_t layer = 0; layer < config.layer_count; ++layer) {
    const auto columns = std::span<const uint32_t>(counts).subspan(
        layer * (counts.size() / config.layer_count), counts.size() / config.layer_count);
    const auto routed = columns.first(config.expert_count);
    table.routed.insert(table.routed.end(), routed.begin(), routed.end());
    table.computed.push_back(columns[config.expert_count]);
    for (uint32_t expert = 0; balancer_->is_agreed() && expert < config.expert_count; ++expert) {
      const auto members = balancer_->placement(layer).members_of(expert);
      table.replica_counts.push_back(static_cast<uint32_t>(members.size()));
      for (const uint32_t member : members) table.replica_places.push_back(members_[member]);
    }
  }
  return table;
}

void ExpertExchange::begin_forward(bool has_more) {
  has_more_ = has_more;
  others_have_more_ = false;
  is_abandoned_ = false;
  next_layer_ = 0;
  moves_ = {};
}

Status ExpertExchange::run(const ExpertShape& shape, const ExpertRows& own, ExpertWork& work) {
  TRIREME_CHECK(size() > 1, "there is somebody to exchange with");
  if (is_abandoned_) return error(StatusCode::kAborted, "wave %u was left", wave_.value);
  const WorkerPhase before = life_.phase();
  prepare(shape);
  layer_ = next_layer_++;
  Status status = begin_layer(shape, own, work);
  if (status.ok()) status = run_rounds(own, work);
  is_abandoned_ = status.code() == StatusCode::kAborted;
  life_.enter(before);
  return status;
}

Status ExpertExchange::begin_layer(const ExpertShape& shape, const ExpertRows& own,
                                   ExpertWork& work) {
  if (!balancer_) return absl::OkStatus();
  const BalancerConfig& config = balancer_->config();
  TRIREME_CHECK(layer_ < config.layer_count && shape.expert_count == config.expert_count,
                "the model said how many layers of how many experts it has");
  if (layer_ == 0) {
    if (balancer_->begin_forward()) TRIREME_RETURN_IF_ERROR(exchange_loads());
    moves_ = balancer_->move_experts();
  }
  for (const uint32_t row : own.rows) {
    for (const uint32_t expert : experts_of(own, row)) balancer_->count_routed(layer_, expert);
  }
  placement_ = &balancer_->placement(layer_);
  for (const ExpertBalancer::Move& move : moves_) {
    const bool comes = move.layer == layer_ && placement_->is_at(move.expert, links_->rank());
    if (comes) work.fetch(move.expert);
  }
  return absl::OkStatus();
}

std::span<uint32_t> ExpertExchange::table_of(uint32_t member) {
  return std::span(tables_).subspan(member * balancer_->table_size(), balancer_->table_size());
}

Status ExpertExchange::exchange_loads() {
  const BalancerConfig& config = balancer_->config();
  life_.enter(WorkerPhase::kDispatching);
  tables_.resize(size() * balancer_->table_size());
  const std::span<uint32_t> own = table_of(links_->rank());
  balancer_->write_table(own);
  ++exchange_;
  for (uint32_t member = 0; member < size(); ++member) {
    Peer& peer = peers_[member];
    peer = {};
    peer.out.exchange = exchange_;
    peer.out.load_layers = config.layer_count;
    peer.out.load_experts = config.expert_count;
    outgoing_[member].pieces = {std::as_bytes(std::span(&peer.out, 1)), std::as_bytes(own), {}};
  }
  incoming_ = Incoming::kLoads;
  TRIREME_RETURN_IF_ERROR(links_->transfer(outgoing_, *this));
  const uint64_t moves = balancer_->load().moves;
  balancer_->rebalance(tables_);
  if (!config.logs || links_->rank() != 0) return absl::OkStatus();
  const ExpertLoad& load = balancer_->load();
  log::info("experts_balanced", {{"wave", wave_number(wave_)},
                                 {"members", size()},
                                 {"balancedness", static_cast<double>(load.balancedness)},
                                 {"experts_to_be_loaded", balancer_->moves_to_come()},
                                 {"experts_that_came_here", load.moves - moves}});
  return absl::OkStatus();
}

Status ExpertExchange::run_rounds(const ExpertRows& own, ExpertWork& work) {
  std::span<const uint32_t> left = own.rows;
  uint32_t rows_most = static_cast<uint32_t>(left.size());
  for (uint32_t begin = 0; begin == 0 || begin < rows_most; begin += rows_max_) {
    const auto rows = left.first(std::min<std::size_t>(left.size(), rows_max_));
    left = left.subspan(rows.size());
    life_.enter(WorkerPhase::kDispatching);
    plan(own, rows);
    TRIREME_RETURN_IF_ERROR(dispatch());
    for (const Peer& peer : peers_) rows_most = std::max(rows_most, peer.in.rows_of_layer);
    life_.enter(WorkerPhase::kComputingExperts);
    TRIREME_RETURN_IF_ERROR(sort_by_expert());
    if (balancer_) balancer_->count_computed(layer_, expert_begins_.back());
    TRIREME_RETURN_IF_ERROR(compute(work));
    life_.enter(WorkerPhase::kCombining);
    TRIREME_RETURN_IF_ERROR(send_back());
    work.combine(rows, outputs_, std::span(results_).first(rows.size() * shape_.experts_per_token));
  }
  return absl::OkStatus();
}

void ExpertExchange::prepare(const ExpertShape& shape) {
  if (shape == shape_) return;
  shape_ = shape;
  parts_ = ExpertPlacement::at_home(shape.expert_count, members_, place_count_);
  rows_max_ = rows_per_round(shape, size());
  const std::size_t entries_max = std::size_t{rows_max_} * shape.experts_per_token;
  peers_.assign(size(), {});
  outgoing_.assign(size(), {});
  own_entries_.resize(entries_max);
  results_.resize(entries_max);
  incoming_entries_.resize(size() * entries_max);
  expert_rows_.resize(size() * entries_max);
  expert_results_.resize(size() * entries_max);
  incoming_rows_ = rows_buffer_.take(std::size_t{size()} * rows_max_ * shape.hidden_size).data();
}

std::span<const uint32_t> ExpertExchange::experts_of(const ExpertRows& own, uint32_t row) const {
  return own.experts.subspan(std::size_t{row} * shape_.experts_per_token, shape_.experts_per_token);
}

float* ExpertExchange::rows_from(uint32_t member) {
  return incoming_rows_ + std::size_t{member} * rows_max_ * shape_.hidden_size;
}

std::span<const ExpertExchange::Entry> ExpertExchange::entries_from(uint32_t member) const {
  const Peer& peer = peers_[member];
  if (member == links_->rank()) {
    return std::span(own_entries_).subspan(peer.entry_begin, peer.out.entry_count);
  }
  const std::size_t entries_max = std::size_t{rows_max_} * shape_.experts_per_token;
  return std::span(incoming_entries_).subspan(member * entries_max, peer.in.entry_count);
}

std::span<std::byte> ExpertExchange::outputs_at(uint32_t begin, uint32_t count) {
  return std::as_writable_bytes(std::span(outputs_ + std::size_t{begin} * shape_.hidden_size,
                                          std::size_t{count} * shape_.hidden_size));
}

void ExpertExchange::plan(const ExpertRows& own, std::span<const uint32_t> rows) {
  ++exchange_;
  for (Peer& peer : peers_) {
    peer = {};
    peer.out.exchange = exchange_;
    peer.out.rows_of_layer = static_cast<uint32_t>(own.rows.size());
    peer.out.has_more = has_more_ ? 1 : 0;
  }
  count(own, rows);
  place_entries();
  copy_rows(own, rows);
}

void ExpertExchange::count(const ExpertRows& own, std::span<const uint32_t> rows) {
  for (uint32_t i = 0; i < rows.size(); ++i) {
    for (const uint32_t expert : experts_of(own, rows[i])) {
      Peer& peer = peers_[placement_->member_for(expert, links_->rank())];
      ++peer.out.entry_count;
      if (std::exchange(peer.last_row, i + 1) != i + 1) ++peer.out.row_count;
    }
  }
}

// Own ones come last, so that what comes back for the others' is one piece from each.
void ExpertExchange::place_entries() {
  uint32_t row = 0;
  uint32_t entry = 0;
  for (uint32_t member = 0; member < size(); ++member) {
    if (member == links_->rank()) continue;
    Peer& peer = peers_[member];
    peer.row_begin = std::exchange(row, row + peer.out.row_count);
    peer.entry_begin = std::exchange(entry, entry + peer.out.entry_count);
  }
  peers_[links_->rank()].entry_begin = entry;
  sent_rows_ = sent_buffer_.take(std::size_t{row} * shape_.hidden_size).data();
}

void ExpertExchange::copy_rows(const ExpertRows& own, std::span<const uint32_t> rows) {
  const uint32_t self = links_->rank();
  for (Peer& peer : peers_) peer.last_row = peer.out.row_count = peer.out.entry_count = 0;
  uint32_t* result = results_.data();
  for (uint32_t i = 0; i < rows.size(); ++i) {
    const float* from = own.values + std::size_t{rows[i]} * own.row_stride;
    for (const uint32_t expert : experts_of(own, rows[i])) {
      const uint32_t member = placement_->member_for(expert, self);
      Peer& peer = peers_[member];
      if (std::exchange(peer.last_row, i + 1) != i + 1) {
        float* to = member == self ? rows_from(self)
                                   : sent_rows_ + std::size_t{peer.row_begin} * shape_.hidden_size;
        std::copy_n(from, shape_.hidden_size,
                    to + std::size_t{peer.out.row_count++} * shape_.hidden_size);
      }
      *result = peer.entry_begin + peer.out.entry_count++;
      own_entries_[*result++] = {.row = peer.out.row_count - 1, .expert = expert};
    }
  }
}

Status ExpertExchange::dispatch() {
  for (uint32_t member = 0; member < size(); ++member) {
    const Peer& peer = peers_[member];
    const float* rows = sent_rows_ + std::size_t{peer.row_begin} * shape_.hidden_size;
    outgoing_[member].pieces = {
        std::as_bytes(std::span(&peer.out, 1)),
        std::as_bytes(std::span(rows, std::size_t{peer.out.row_count} * shape_.hidden_size)),
        std::as_bytes(std::span(own_entries_).subspan(peer.entry_begin, peer.out.entry_count))};
  }
  incoming_ = Incoming::kRows;
  return links_->transfer(outgoing_, *this);
}

StatusOr<std::span<std::byte>> ExpertExchange::next_piece(uint32_t member) {
  Peer& peer = peers_[member];
  const uint32_t piece = peer.pieces_taken++;
  if (incoming_ == Incoming::kResults) {
    if (piece > 0) return std::span<std::byte>();
    return outputs_at(peer.entry_begin, peer.out.entry_count);
  }
  if (piece == 0) return std::as_writable_bytes(std::span(&peer.in, 1));
  if (piece == 1) {
    TRIREME_RETURN_IF_ERROR(check(member, peer.in));
    if (incoming_ == Incoming::kLoads) return std::as_writable_bytes(table_of(member));
    others_have_more_ = others_have_more_ || peer.in.has_more != 0;
    return std::as_writable_bytes(
        std::span(rows_from(member), std::size_t{peer.in.row_count} * shape_.hidden_size));
  }
  if (piece > 2 || incoming_ == Incoming::kLoads) return std::span<std::byte>();
  const std::size_t entries_max = std::size_t{rows_max_} * shape_.experts_per_token;
  return std::as_writable_bytes(
      std::span(incoming_entries_).subspan(member * entries_max, peer.in.entry_count));
}

Status ExpertExchange::check(uint32_t member, const Header& in) const {
  if (in.exchange != exchange_) {
    return error(StatusCode::kDataLoss,
                 "wave %u: member %u is at its exchange %u, place %u at %u: they do not run the "
                 "same layers",
                 wave_.value, member, in.exchange, place(), exchange_);
  }
  const Header& own = peers_[member].out;
  if (in.load_layers != own.load_layers || in.load_experts != own.load_experts) {
    return error(StatusCode::kDataLoss,
                 "wave %u: member %u counts the load of %u layers of %u experts, place %u of %u "
                 "layers of %u: they are not of one model, or of one --eplb-config",
                 wave_.value, member, in.load_layers, in.load_experts, place(), own.load_layers,
                 own.load_experts);
  }
  const bool is_possible = in.row_count <= rows_max_ && in.entry_count >= in.row_count &&
                           in.entry_count <= uint64_t{in.row_count} * shape_.experts_per_token;
  if (is_possible) return absl::OkStatus();
  return error(StatusCode::kDataLoss, "wave %u: member %u sends %u rows for %u entries",
               wave_.value, member, in.row_count, in.entry_count);
}

Status ExpertExchange::sort_by_expert() {
  expert_begins_.assign(std::size_t{shape_.expert_count} + 2, 0);
  const uint32_t self = links_->rank();
  uint32_t output = 0;
  for (uint32_t member = 0; member < size(); ++member) {
    const uint32_t rows = member == self ? peers_[self].out.row_count : peers_[member].in.row_count;
    for (const Entry& entry : entries_from(member)) {
      if (entry.row >= rows || !placement_->is_at(entry.expert, self)) {
        return error(StatusCode::kDataLoss, "wave %u: member %u wants expert %u for row %u of %u",
                     wave_.value, member, entry.expert, entry.row, rows);
      }
      ++expert_begins_[entry.expert + 2];
    }
    output += peers_[member].out.entry_count;
  }
  std::partial_sum(expert_begins_.begin(), expert_begins_.end(), expert_begins_.begin());
  for (uint32_t member = 0; member < size(); ++member) {
    Peer& peer = peers_[member];
    peer.result_begin = member == self ? peer.entry_begin : output;
    uint32_t result = peer.result_begin;
    // Entry e + 1 grows from the begin of expert e to its end.
    for (const Entry& entry : entries_from(member)) {
      const uint32_t at = expert_begins_[entry.expert + 1]++;
      expert_rows_[at] = member * rows_max_ + entry.row;
      expert_results_[at] = result++;
    }
    if (member != self) output = result;
  }
  outputs_ = outputs_buffer_.take(std::size_t{output} * shape_.hidden_size).data();
  return absl::OkStatus();
}

Status ExpertExchange::compute(ExpertWork& work) {
  for (uint32_t expert = 0; expert < shape_.expert_count; ++expert) {
    const uint32_t begin = expert_begins_[expert];
    const uint32_t count = expert_begins_[expert + 1] - begin;
    if (count == 0) continue;
    TRIREME_RETURN_IF_ERROR(work.compute(expert, incoming_rows_,
                                         std::span(expert_rows_).subspan(begin, count), outputs_,
                                         std::span(expert_results_).subspan(begin, count)));
  }
  return absl::OkStatus();
}

Status ExpertExchange::send_back() {
  for (uint32_t member = 0; member < size(); ++member) {
    Peer& peer = peers_[member];
    peer.pieces_taken = 0;
    outgoing_[member].pieces = {outputs_at(peer.result_begin, peer.in.entry_count), {}, {}};
  }
  incoming_ = Incoming::kResults;
  return links_->transfer(outgoing_, *this);
}

}  // namespace trireme::worker
