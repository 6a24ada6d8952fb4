// The page of `trireme top`: what is wrong in words, then a row for each engine, worst first. Pure.
//
//   trireme 0.1.0 at http://127.0.0.1:8000: epoch 7, 2 nodes, 1 api-server
//   4 engines (1 not well), 12 running, 3 waiting, 310.0 tokens/s
//
//   ! rank 2 on node b (pid 4711) waits in dispatch for rank 3 since 3.2 s: wave 12, step 881
//
//   NODE  RANK  PID   STATE  RUN  WAIT   KV%  TOK/S  WAVE  SINCE
//   b        2  4711  waits    3     0   1.2    0.0    12  3.2 s
//   ... and 3 more that are well
//
// Control characters in what peers said of themselves are shown as '?'.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "cli/top/cluster_facts.h"
#include "cli/top/diagnosis.h"

namespace trireme::top {

// Lines that are longer are cut, rows beyond are counted. 0: no bound.
struct PageSize {
  std::size_t columns = 0;
  std::size_t rows = 0;
};

// `where`: whom was asked. Each line ends with a newline.
[[nodiscard]] std::string page_text(const ClusterFacts& cluster, const Diagnosis& diagnosis,
                                    std::string_view where, PageSize size);

}  // namespace trireme::top
