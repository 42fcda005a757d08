// expects: hybridmed: the backend lacks put_rows or best_class for this scalar; see
// BackendGeneration in hybridmed/backend/concept.hpp

#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/task/generate.hpp>

using namespace hybridmed;
using T = float;
#ifdef HYBRIDMED_CONTROL
using B = Reference;
#else
struct B : Reference {
  static void best_class() {}  // hides the kernel
};
#endif

task::Generated f(const model::HybridMed<T, B, model::Vit<T, B>>& m, const Tensor<T, B>& image) {
  return task::caption(m, image);
}
