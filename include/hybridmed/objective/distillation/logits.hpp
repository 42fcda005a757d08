#pragma once
// L_Dis: the frozen summarization teacher teaches the captioning student (method 4.4).
#include "hybridmed/autograd/losses.hpp"
#include "hybridmed/autograd/rows.hpp"
#include "hybridmed/objective/composition.hpp"

namespace hybridmed::objective {

/// temperature^2 KL(teacher || student) over the targets of samples with both sections.
struct LogitDistillation {
  double temperature = 1;
  bool operator==(const LogitDistillation&) const = default;

  static constexpr std::string_view name = "dis";
  static constexpr Needs<representation::CaptioningLogits, representation::TeacherLogits> needs{};

  template <Value V, class N>
  V operator()(const Representations<V, N>& r) const {
    const auto& caption = get<representation::CaptioningLogits>(r);
    return distillation(caption.all_with_findings
                            ? caption.logits
                            : gather_rows(caption.logits, caption.with_findings),
                        get<representation::TeacherLogits>(r).logits, temperature);
  }
};

}  // namespace hybridmed::objective
