// Goal: places of several nodes exchange what places of one node would, bit by bit, whatever
// connections, waves and lives do. Method: places are threads, nodes are meshes of their own with
// loopback between them; connections break in a proxy, after so many bytes and not at some time.
#include "worker/comm/spanned_links.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>

#include "worker/comm/cutting_proxy_for_test.h"
#include "worker/comm/exchange_for_test.h"
#include "worker/comm/links_for_test.h"
#include "worker/comm/mesh_for_test.h"
#include "worker/comm/nodes_for_test.h"
#include "worker/comm/waits_for_test.h"

namespace trireme::worker {
namespace {

constexpr Duration kBrief = std::chrono::milliseconds(300);
const std::vector<std::vector<uint32_t>> kShapes = {{2, 2}, {1, 1, 1}, {1, 3}, {1, 1}};

bool says(const Status& status, const char* text) {
  return std::string(status.message()).find(text) != std::string::npos;
}

TEST(SpannedLinks, all_to_all_comes_as_it_was_sent_whatever_the_sizes) {
  for (const auto& shape : kShapes) {
    NodesForTest nodes(shape, 256);
    nodes.run(nodes.all(), [&](uint32_t place, SpannedLinks& links) {
      ASSERT_TRUE(nodes.join(place, WaveId{0}, nodes.all()).ok());
      EXPECT_EQ(links.size(), nodes.place_count());
      EXPECT_EQ(links.rank(), place);
      for (uint64_t i = 0; i < 100; ++i) {
        const Status status = exchange(links, 0, nodes.all(), i, i % 7 == 0 ? 20000 : 90);
        ASSERT_TRUE(status.ok()) << status;
      }
    });
  }
}

TEST(SpannedLinks, pieces_larger_than_all_buffers_go_both_ways_at_once) {
  constexpr uint64_t kLarge = 9 << 20;
  static_assert(kLarge > kStreamMessagesMax * RemotePeer::kMessageBytesMax * 2);
  NodesForTest nodes({2, 1}, 64 * 1024);
  nodes.run(nodes.all(), [&](uint32_t place, SpannedLinks& links) {
    ASSERT_TRUE(nodes.join(place, WaveId{0}, nodes.all()).ok());
    const Bytes mine(kLarge + place, static_cast<std::byte>(place + 1));
    std::vector<OutgoingPieces> outgoing(3);
    std::vector<std::vector<Bytes>> pieces(3);
    for (uint32_t i = 0; i < 3; ++i) {
      outgoing[i].pieces[1] = mine;
      pieces[i].emplace_back(kLarge + i);
    }
    Inbox inbox(pieces);
    ASSERT_TRUE(links.transfer(outgoing, inbox).ok());
    for (uint32_t i = 0; i < 3; ++i) {
      if (i == place) continue;
      EXPECT_EQ(inbox.pieces_[i][0], Bytes(kLarge + i, static_cast<std::byte>(i + 1)));
    }
  });
}

TEST(SpannedLinks, full_messages_go_encrypted_too) {
  NodesForTest nodes({1, 1}, 4096, {.key = zmq::ClusterKey::generate()});
  const Bytes large(3 * RemotePeer::kMessageBytesMax + 1, std::byte{5});
  nodes.run(nodes.all(), [&](uint32_t place, SpannedLinks& links) {
    ASSERT_TRUE(nodes.join(place, WaveId{0}, nodes.all()).ok());
    if (place == 0) {
      ASSERT_TRUE(send_to_other(links, large).ok());
    } else {
      EXPECT_EQ(*receive_from_other(links, large.size()), large);
    }
  });
}

TEST(SpannedLinks, an_exchange_gives_the_bits_of_one_node) {
  const ExpertShape shape{.hidden_size = 48, .expert_count = 9, .experts_per_token = 3};
  const auto rows_of_layer = [&](uint32_t place, uint64_t layer) {
    Random random(mix64(layer) ^ place);
    const uint32_t count = static_cast<uint32_t>(random.below(3) * random.below(60));
    return Rows(shape, layer % 11 == 0 ? 700 : count, random.next());
  };
  constexpr uint64_t kLayers = 25;
  std::vector<std::vector<std::vector<float>>> near(4);
  const auto run_layers = [&](ExpertExchange& exchange, std::vector<std::vector<float>>& sums) {
    for (uint64_t layer = 0; layer < kLayers; ++layer) {
      const Rows rows = rows_of_layer(exchange.place(), layer);
      PlainWork work(rows);
      const Status status = exchange.run(shape, rows_of(rows), work);
      ASSERT_TRUE(status.ok()) << status;
      sums.push_back(std::move(work.sums));
    }
  };
  run_in_wave(MeshForTest(4), 4,
              [&](ExpertExchange& exchange) { run_layers(exchange, near[exchange.place()]); });
  NodesForTest nodes({2, 2}, 4096, {.key = zmq::ClusterKey::generate()});
  std::vector<std::vector<std::vector<float>>> far(4);
  nodes.run(nodes.all(), [&](uint32_t place, SpannedLinks&) {
    ExpertExchange exchange(nodes.take_links(place), 4, LifeSigns());
    ASSERT_TRUE(
        exchange.join(WaveId{1}, nodes.all(), nodes.addresses_for(place, nodes.all())).ok());
    run_layers(exchange, far[place]);
  });
  EXPECT_EQ(near, far);
}

TEST(SpannedLinks, connections_that_break_in_the_middle_lose_nothing) {
  constexpr int kCuts = 4;
  NodesForTest nodes({2, 1});
  std::vector<std::unique_ptr<CuttingProxy>> proxies;
  for (uint32_t place = 0; place < 3; ++place) {
    auto address = parse_expert_address(nodes.address(place));
    ASSERT_TRUE(address.ok());
    proxies.push_back(
        std::make_unique<CuttingProxy>(address->endpoint, 500'000 + 999 * place, kCuts));
    address->endpoint = proxies.back()->endpoint();
    nodes.address(place) = text_of(*address);
  }
  nodes.run(nodes.all(), [&](uint32_t place, SpannedLinks& links) {
    ASSERT_TRUE(nodes.join(place, WaveId{3}, nodes.all()).ok());
    for (uint64_t i = 0; i < 40; ++i) {
      const Status status = exchange(links, 3, nodes.all(), i, i % 5 == 0 ? 600'000 : 3000);
      ASSERT_TRUE(status.ok()) << status;
    }
  });
  for (const auto& proxy : proxies) EXPECT_EQ(proxy->cuts_left(), 0);
  for (uint32_t place = 0; place < 3; ++place) nodes.stop(place);
}

// What was lost of the last transfer is sent again though its sender makes no call any more.
TEST(SpannedLinks, who_is_through_with_the_last_transfer_still_serves_the_others) {
  NodesForTest nodes({1, 1});
  auto address = parse_expert_address(nodes.address(1));
  ASSERT_TRUE(address.ok());
  const Bytes large(300'000, std::byte{7});
  CuttingProxy proxy(address->endpoint, 250'000, 1);
  address->endpoint = proxy.endpoint();
  nodes.address(1) = text_of(*address);
  nodes.run(nodes.all(), [&](uint32_t place, SpannedLinks& links) {
    ASSERT_TRUE(nodes.join(place, WaveId{1}, nodes.all()).ok());
    if (place == 0) {
      ASSERT_TRUE(send_to_other(links, large).ok());
    } else {
      const auto got = receive_from_other(links, large.size());
      ASSERT_TRUE(got.ok()) << got.status();
      EXPECT_EQ(*got, large);
    }
  });
  EXPECT_EQ(proxy.cuts_left(), 0);
  nodes.stop(0);
  nodes.stop(1);
}

TEST(SpannedLinks, waves_may_have_some_places_and_be_of_one_node) {
  NodesForTest nodes({2, 2}, 256);
  const std::vector<std::vector<uint32_t>> waves = {{0, 1, 2, 3}, {0, 1}, {1, 2}, {1, 2, 3},
                                                    {0, 3},       {0},    {2, 3}, {0, 1, 2, 3}};
  nodes.run(nodes.all(), [&](uint32_t place, SpannedLinks& links) {
    for (uint64_t wave = 0; wave < waves.size(); ++wave) {
      const auto& members = waves[wave];
      if (std::ranges::find(members, place) == members.end()) continue;
      ASSERT_TRUE(nodes.join(place, WaveId{wave}, members).ok());
      for (uint64_t i = 0; i < 10; ++i) {
        const Status status = exchange(links, wave, members, i, 500);
        // A faster one may be in the next wave already, as no engine would be.
        if (status.code() == StatusCode::kAborted && wave + 1 < waves.size()) break;
        ASSERT_TRUE(status.ok()) << status;
      }
    }
  });
}

// Waves end wherever they are, and some places are in the next one before others have noticed.
TEST(SpannedLinks, waves_that_are_left_at_any_moment_mix_no_bytes) {
  constexpr uint64_t kWaves = 40;
  NodesForTest nodes({2, 1, 1}, 256);
  std::atomic<uint64_t> exchanges{0};
  std::jthread engine([&] {
    Random random(5);
    for (uint64_t wave = 1; wave <= kWaves; ++wave) {
      const uint64_t seen = exchanges.load();
      const uint64_t more = 1 + random.below(20);
      while (exchanges.load() < seen + more) std::this_thread::yield();
      for (const uint32_t place : nodes.all()) nodes.abandon(place, WaveId{wave + 1});
    }
  });
  nodes.run(nodes.all(), [&](uint32_t place, SpannedLinks& links) {
    for (uint64_t wave = 1; wave <= kWaves; ++wave) {
      ASSERT_TRUE(nodes.join(place, WaveId{wave}, nodes.all()).ok());
      Status status;
      for (uint64_t i = 0; status.ok(); ++i) {
        status = exchange(links, wave, nodes.all(), i, i % 5 == 0 ? 15000 : 60);
        ++exchanges;
      }
      ASSERT_EQ(status.code(), StatusCode::kAborted) << status;
    }
  });
}

TEST(SpannedLinks, its_engine_ends_the_wait_for_another_node) {
  NodesForTest nodes({1, 1});
  SignOfLife sign{};
  nodes.start(0, std::chrono::seconds(50), LifeSigns(sign));
  Status end;
  std::jthread waiting([&] {
    ASSERT_TRUE(nodes.join(0, WaveId{7}, {0, 1}).ok());
    end = exchange(nodes.links(0), 7, nodes.all(), 1, 100);
  });
  while (look_at(sign).awaited != 1U) std::this_thread::yield();
  nodes.abandon(0, WaveId{8});
  waiting.join();
  EXPECT_EQ(end.code(), StatusCode::kAborted) << end;
  EXPECT_TRUE(says(end, "wave 7 was left by the engine of place 0")) << end;
  EXPECT_EQ(look_at(sign).awaited, std::nullopt);
  EXPECT_EQ(exchange(nodes.links(0), 7, nodes.all(), 1, 100), end) << "until the next wave";
}

TEST(SpannedLinks, a_wait_for_another_node_shows_that_its_worker_can_run) {
  NodesForTest nodes({1, 1});
  SignOfLife sign{};
  nodes.start(0, std::chrono::seconds(1), LifeSigns(sign));
  ASSERT_TRUE(nodes.join(0, WaveId{1}, nodes.all()).ok());
  expect_shown(sign, [&] { EXPECT_FALSE(receive_from_other(nodes.links(0), 10).ok()); });
}

TEST(SpannedLinks, a_member_that_has_left_for_a_later_wave_ends_the_wait) {
  NodesForTest nodes({1, 1});
  ASSERT_TRUE(nodes.join(0, WaveId{1}, nodes.all()).ok());
  ASSERT_TRUE(nodes.join(1, WaveId{2}, nodes.all()).ok());
  const Status end = send_to_other(nodes.links(0), Bytes(10));
  EXPECT_EQ(end.code(), StatusCode::kAborted) << end;
  EXPECT_TRUE(says(end, "wave 1 was left by place 1")) << end;
  ASSERT_TRUE(nodes.join(0, WaveId{2}, nodes.all()).ok());
  nodes.run(nodes.all(), [&](uint32_t, SpannedLinks& links) {
    ASSERT_TRUE(exchange(links, 2, nodes.all(), 0, 500).ok());
  });
}

TEST(SpannedLinks, a_member_that_does_not_come_is_named) {
  NodesForTest nodes({1, 1, 1});
  nodes.start(0, kBrief);
  nodes.stop(2);
  ASSERT_TRUE(nodes.join(0, WaveId{4}, nodes.all()).ok());
  const Status late = exchange(nodes.links(0), 4, nodes.all(), 0, 100);
  EXPECT_EQ(late.code(), StatusCode::kDeadlineExceeded) << late;
  EXPECT_TRUE(says(late, "wave 4, place 0: place 1, 2, on another node, did not come within 0.3 s"))
      << late;
  EXPECT_EQ(nodes.join(0, WaveId{5}, nodes.all()), late) << "an error of the links is for good";
}

TEST(SpannedLinks, a_place_that_was_started_anew_comes_back_at_another_port) {
  NodesForTest nodes({1, 1});
  for (uint64_t wave = 1; wave < 4; ++wave) {
    nodes.run(nodes.all(), [&](uint32_t place, SpannedLinks& links) {
      ASSERT_TRUE(nodes.join(place, WaveId{wave}, nodes.all()).ok());
      for (uint64_t i = 0; i < 20; ++i) {
        const Status status = exchange(links, wave, nodes.all(), i, 2000);
        ASSERT_TRUE(status.ok()) << status;
      }
    });
    const std::string before = nodes.address(1);
    nodes.start(1);
    EXPECT_NE(nodes.address(1), before);
    nodes.abandon(0, WaveId{wave + 1});
    EXPECT_EQ(exchange(nodes.links(0), wave, nodes.all(), 20, 2000).code(), StatusCode::kAborted);
  }
}

// As somebody would who knows its address, but not its wave or who is in it.
TEST(RemoteMesh, words_of_other_waves_and_lives_and_of_strangers_say_nothing) {
  NodesForTest nodes({1, 1});
  const auto listen = [&](uint32_t place) {
    auto mesh = RemoteMesh::listen(nodes.context(place), "tcp://127.0.0.1:0",
                                   {.place = place, .limit = std::chrono::seconds(50)});
    EXPECT_TRUE(mesh.ok()) << mesh.status();
    return *std::move(mesh);
  };
  const std::array meshes = {listen(0), listen(1)};
  const auto to = parse_expert_address(meshes[0]->address());
  const auto from = parse_expert_address(meshes[1]->address());
  auto dealer = zmq::Dealer::create(nodes.context(1), "a stranger");
  ASSERT_TRUE(dealer.ok() && dealer->connect(to->endpoint).ok());
  const RemoteHeader sound{.kind = RemoteHeader::Kind::kRecord,
                           .from_place = 1,
                           .from_life = from->life,
                           .to_life = to->life,
                           .wave = 6,
                           .transfer = 1};
  std::vector<RemoteHeader> forged(7, sound);
  forged[0].wave = 5;
  forged[1].from_life = from->life + 2;
  forged[2].to_life = to->life + 2;
  forged[3].from_place = 7;
  forged[4].magic = 1;
  forged[5].taken = 1'000'000;
  forged[6].kind = RemoteHeader::Kind{9};
  const auto send = [&](std::string_view bytes) {
    ASSERT_EQ(dealer->try_send(zmq::bytes_of(bytes)), zmq::SendResult::kSent);
  };
  for (const RemoteHeader& header : forged) {
    std::string bytes(sizeof(header) + 100, 'x');
    std::memcpy(bytes.data(), &header, sizeof(header));
    send(bytes);
  }
  send("short");
  send("");
  std::vector<std::jthread> threads;
  for (uint32_t place = 0; place < 2; ++place) {
    threads.emplace_back([&, place] {
      RemoteMesh& mesh = *meshes[place];
      const RemoteMember other{.place = 1 - place, .address = meshes[1 - place]->address()};
      ASSERT_TRUE(mesh.join(WaveId{5}, std::span(&other, 1)).ok());
      // A last one for both: the other hears of the end in it.
      for (bool is_last = false; !is_last;) {
        is_last = place == 0 ? mesh.ignored_total() >= forged.size() + 2 : false;
        const Bytes mine(200, static_cast<std::byte>(is_last));
        OutgoingPieces outgoing;
        outgoing.pieces[0] = mine;
        mesh.begin(std::span(&outgoing, 1));
        Inbox inbox({{Bytes(200, std::byte{9})}});
        const Status status = mesh.finish(inbox, [] { return false; });
        ASSERT_TRUE(status.ok()) << status;
        const Bytes& got = inbox.pieces_[0][0];
        ASSERT_EQ(got, Bytes(200, got[0]));
        if (place == 1) is_last = got[0] == std::byte{1};
      }
    });
  }
}

TEST(SpannedLinks, members_that_do_not_run_the_same_are_told) {
  NodesForTest nodes({1, 1});
  nodes.run(nodes.all(), [&](uint32_t place, SpannedLinks& links) {
    ASSERT_TRUE(nodes.join(place, WaveId{1}, nodes.all()).ok());
    if (place == 0) {
      std::vector<OutgoingPieces> outgoing(2);
      Inbox inbox({{}, {}});
      ASSERT_TRUE(links.transfer(outgoing, inbox).ok()) << "nothing goes, nothing comes";
      ASSERT_TRUE(send_to_other(links, Bytes(10)).ok());
    } else {
      const Status status = receive_from_other(links, 10).status();
      EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
      EXPECT_TRUE(says(status, "place 0 is at its transfer 2, place 1 at 1")) << status;
    }
  });
}

TEST(SpannedLinks, waves_have_this_place_and_addresses_that_are_some) {
  NodesForTest nodes({1, 1});
  SpannedLinks& links = nodes.links(0);
  const auto code = [&](const std::vector<uint32_t>& members,
                        const std::vector<std::string>& addresses) {
    return links.join(WaveId{1}, members, addresses).code();
  };
  EXPECT_EQ(code({1}, {}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({1, 0}, {}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({0, 1}, {""}), StatusCode::kInvalidArgument);
  EXPECT_EQ(code({0, 1}, {"", ""}), StatusCode::kInvalidArgument) << "it is on another node";
  EXPECT_EQ(links
                .join(WaveId{2}, std::vector<uint32_t>{0, 1},
                      std::vector<std::string>{"", "tcp://127.0.0.1:1"})
                .code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(links
                .join(WaveId{3}, std::vector<uint32_t>{0, 1},
                      std::vector<std::string>{"", nodes.address(1)})
                .code(),
            StatusCode::kOk);
  const auto alone = MeshForTest(2).links(0);
  EXPECT_EQ(alone
                ->join(WaveId{1}, std::vector<uint32_t>{0, 1},
                       std::vector<std::string>{"", nodes.address(1)})
                .code(),
            StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace trireme::worker
