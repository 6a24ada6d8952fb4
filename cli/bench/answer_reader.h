// AnswerReader: the body of one answer of /v1/completions or /v1/chat/completions, read as it
// arrives, into a Sample.
//
//   text/event-stream   each event with a choice is a piece of text: the first gives ttft, later
//                       ones itl. A chat's opening event, role without text, is not a piece. The
//                       stream must end with [DONE]
//   anything else       one JSON document; ttft is its end
// Token counts are those of `usage`. A status other than 200, an error event or a broken document
// makes the sample kFailed.
// Pure (time comes by argument); one owner. Bound: json_bytes_max.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "cli/bench/sample.h"
#include "cli/bench/sse_reader.h"
#include "common/status.h"

namespace trireme::bench {

// Parses JSON documents; its buffers are kept from one to the next, so share one in a thread.
class JsonScratch {
 public:
  JsonScratch();
  ~JsonScratch();

 private:
  friend class AnswerReader;
  struct Buffers;
  std::unique_ptr<Buffers> buffers_;
};

class AnswerReader {
 public:
  static constexpr std::size_t kJsonBytesMax = 64u << 20;

  // Both must outlive the reader.
  AnswerReader(Sample& sample, JsonScratch& scratch);

  void on_head(uint32_t status, std::string_view content_type);
  // An error ends the reading: the rest of the answer is of no use.
  [[nodiscard]] Status on_body(std::string_view piece, Instant now);
  // The answer is whole. Decides between kCompleted and kFailed.
  void finish(Instant now);
  void fail(std::string_view why);

 private:
  Status read_event(std::string_view data, Instant now);
  Status read_document(Instant now);
  void take_piece(Instant now);

  Sample& sample_;
  JsonScratch& scratch_;
  SseReader events_;
  std::string document_;
  uint32_t status_ = 0;
  uint32_t pieces_ = 0;
  Instant last_piece_{};
  bool is_stream_ = false;
  bool has_usage_ = false;
  bool is_done_ = false;
};

}  // namespace trireme::bench
