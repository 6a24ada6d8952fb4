#include "api_server/field_error.h"

#include "absl/strings/cord.h"

namespace trireme::api {
namespace {

constexpr char kPayload[] = "trireme.param";

}  // namespace

Status coded_field_error(StatusCode code, std::string_view field, std::string_view message) {
  Status status = error(code, "%s", message);
  status.SetPayload(kPayload, absl::Cord(std::string(field)));
  return status;
}

Status field_error(std::string_view field, std::string_view what) {
  return coded_field_error(StatusCode::kInvalidArgument, field,
                           absl::StrFormat("%s: %s", field, what));
}

std::string field_of(const Status& status) {
  const auto payload = status.GetPayload(kPayload);
  return payload.has_value() ? std::string(*payload) : std::string();
}

}  // namespace trireme::api
