#include "worker/vocabulary_passes_body.h"

namespace trireme::worker {

extern const VocabularyPasses kAvx512Passes;
constexpr VocabularyPasses kAvx512Passes = passes_named("avx512");

}  // namespace trireme::worker
