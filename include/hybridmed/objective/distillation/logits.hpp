#pragma once
// L_Dis: the frozen summarization teacher teaches the captioning student (method 4.4).
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/objective/composition.hpp"

namespace hybridmed::objective {

/// temperature^2 KL(teacher || student) over the targets of samples with both sections.
struct LogitDistillation {
  double temperature = 1;
  static constexpr std::string_view name = "dis";
  static constexpr unsigned needs = captioning_logits | teacher_logits;
  template <Value V>
  V operator()(const Representations<V>& r) const {
    return distillation(
        r.same_rows ? r.logits_cap : gather_rows(r.logits_cap, r.summarize_in_caption), r.teacher,
        temperature);
  }
};

}  // namespace hybridmed::objective
