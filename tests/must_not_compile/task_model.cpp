// expects: hybridmed: embedding, zero-shot scores and generation read the parts of model::HybridMed
// by name (config, image, text, decoder, proj): give them one, as the part of your own model that
// it is

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/task/generate.hpp>

using namespace hybridmed;
using T = float;
using B = Reference;

/// A model of one's own around one of the library.
struct Own {
  model::HybridMed<T, B, model::Vit<T, B>> inner;
};

task::Generated f(const Own& own, const Tensor<T, B>& image) {
#ifdef HYBRIDMED_CONTROL
  return task::caption(own.inner, image);
#else
  return task::caption(own, image);
#endif
}
