#pragma once
// What objectives are computed from. An objective names its needs at compile time; a model computes
// their union and no more.
#include "hybridmed/autograd/variable.hpp"
#include "hybridmed/backend/reference/backend.hpp"

namespace hybridmed::objective {

/// Bits of the representations below.
enum Needs : unsigned {
  image_global = 1,
  text_global = 2,
  image_tokens = 4,
  findings_tokens = 8,
  summarization_logits = 16,
  captioning_logits = 32,
  teacher_logits = 64,
  everything = 127,
};

/// Every member covers only the samples and positions that its losses use; unneeded members are
/// undefined.
template <Value V>
struct Representations {
  using B = backend_of<V>;
  V image;              // (n, d_e) projected global image vectors of the samples with an impression
  V text;               // (n, d_e) projected global vectors of those impressions
  V log_scale;          // ()
  IndexTensor<B> keys;  // (n) equal for equal impressions, or empty
  V regions;            // (m * N, d_e) image tokens of the m samples with findings words
  Index region_images = 0;  // m
  V words;                  // (words, d_e) projected findings tokens, specials excluded
  Tensor<std::int32_t, Reference> word_offsets;  // (m + 1), host
  V logits_sum;                                  // (R_sum targets, V)
  IndexTensor<B> target_sum;
  V logits_cap;  // (R_cap targets, V)
  IndexTensor<B> target_cap;
  IndexTensor<B> summarize_in_caption;  // places of the R_sum targets among the R_cap targets
  bool same_rows = true;                // those are all of them
  tensor_of<V> teacher;                 // (R_sum targets, V)
};

}  // namespace hybridmed::objective
