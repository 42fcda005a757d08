// expects: hybridmed: generation keeps the keys and values of model::TextEncoder, so a model with
// another text encoder cannot generate; see docs/policies/text_encoder.md

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/task/generate.hpp>

using namespace hybridmed;
using T = float;
using B = Reference;

#ifdef HYBRIDMED_CONTROL
using Text = model::TextEncoder<T, B>;
#else
using Text = model::TextEncoder<T, B, nn::PostNorm>;
#endif

task::Generated f(const model::HybridMed<T, B, model::Vit<T, B>, Text>& m,
                  const Tensor<T, B>& image) {
  return task::caption(m, image);
}
