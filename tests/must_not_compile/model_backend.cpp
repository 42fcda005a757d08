// expects: hybridmed: the backend lacks a kernel on rows for this scalar; see BackendRows in
// hybridmed/backend/concept.hpp

// The whole model asks its backend for every group of kernels, before anything of it is used.
#include <hybridmed/backend/reference/backend.hpp>
#include <hybridmed/model/hybridmed.hpp>

using namespace hybridmed;

struct Lacking : Reference {
#ifndef HYBRIDMED_CONTROL
  static void gather_rows();
#endif
};
constexpr auto bytes = sizeof(model::HybridMed<float, Lacking, model::Vit<float, Lacking>>);
