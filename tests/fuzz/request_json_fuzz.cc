// Goal: no request body crashes an api-server. Method: libFuzzer; the first byte chooses the route,
// the rest is the body. One reader for all, as a server has.
#include <cstdint>
#include <string>

#include "api_server/openai/embedding_request.h"
#include "api_server/openai/generate_request.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  using namespace trireme::api;
  if (size == 0) return 0;
  static RequestReader reader(RequestLimits{.vocabulary_size = 1000});
  const std::string body(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0]) {
    case 'c':
      (void)reader.read_chat(body);
      break;
    case 't':
      (void)reader.read_tokenize(body);
      break;
    case 'e':
      (void)reader.read_embedding(body);
      break;
    case 'd':
      (void)reader.read_detokenize(body);
      break;
    default:
      (void)reader.read_completion(body);
  }
  return 0;
}
