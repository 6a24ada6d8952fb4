#include "worker/vocabulary_passes_body.h"

namespace trireme::worker {

extern const VocabularyPasses kAvx2Passes;
constexpr VocabularyPasses kAvx2Passes = passes_named("avx2");

}  // namespace trireme::worker
