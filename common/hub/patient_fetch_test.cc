#include "common/hub/patient_fetch.h"

#include <gtest/gtest.h>

namespace trireme::hub {
namespace {

std::optional<uint32_t> pause_after(const std::string& retry_after) {
  return pause_seconds({.status = 429, .headers = {{"retry-after", retry_after}}, .body = ""});
}

TEST(PatientFetch, pause_is_what_the_hub_asks_for_within_bounds) {
  EXPECT_EQ(pause_after("7"), 7u);
  EXPECT_EQ(pause_after("0"), 1u);
  EXPECT_EQ(pause_after("300"), 300u);
  EXPECT_EQ(pause_after("301"), std::nullopt);
  EXPECT_EQ(pause_after("99999999999999"), std::nullopt);
}

TEST(PatientFetch, pause_without_a_number_of_seconds_is_short) {
  EXPECT_EQ(pause_after("Wed, 21 Oct 2026 07:28:00 GMT"), 5u);
  EXPECT_EQ(pause_after(""), 5u);
  EXPECT_EQ(pause_seconds({.status = 429, .headers = {}, .body = ""}), 5u);
}

}  // namespace
}  // namespace trireme::hub
