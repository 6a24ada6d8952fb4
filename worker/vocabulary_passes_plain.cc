#include "worker/vocabulary_passes_body.h"

namespace trireme::worker {

extern const VocabularyPasses kPlainPasses;
constexpr VocabularyPasses kPlainPasses = passes_named("plain");

}  // namespace trireme::worker
