// A Status that names the request's field it is about: error.param of the answer.
#pragma once

#include <string>
#include <string_view>

#include "common/status.h"

namespace trireme::api {

// "temperature: must be in [0, 2], got 7"
[[nodiscard]] Status field_error(std::string_view field, std::string_view what);
// Another code with a field: an unknown model is kNotFound of "model".
[[nodiscard]] Status coded_field_error(StatusCode code, std::string_view field,
                                       std::string_view message);
// Empty: the status names none.
[[nodiscard]] std::string field_of(const Status& status);

}  // namespace trireme::api
